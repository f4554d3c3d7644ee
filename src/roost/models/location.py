"""Locations of weights as they may be shown. Pure; called by the API's views, the sources and the check of entries."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

MAX_SHOWN = 200
_LOGIN = re.compile(r"[^/@\s]*:[^@]*@")


def without_secrets(location: str) -> str:
    """``location`` without what may be a secret in it: a URL's user name, password, query and fragment. Long ones are
    cut.

    What is no URL loses what looks like a user name with a password.
    """
    try:
        parts = urlsplit(location)
    except ValueError:
        return _LOGIN.sub("…@", location.partition("?")[0])[:MAX_SHOWN]
    if not parts.netloc:
        return _LOGIN.sub("…@", location)[:MAX_SHOWN]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:MAX_SHOWN]
