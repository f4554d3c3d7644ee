"""Locations of weights as they may be shown. Pure; called by the API's views, the sources and the check of entries."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

MAX_SHOWN = 200
PUBLIC_KINDS = frozenset({"hf", "pypi"})
"""Kinds of sources whose locations are names in a public catalogue. Those of others tell of the server's machine and
its network."""


def without_secrets(location: str) -> str:
    """``location`` without what may be a secret in it: a URL's user name, password, query and fragment. Long ones are
    cut.

    What is no URL loses what looks like a user name with a password. It takes time in proportion to the length.
    """
    try:
        parts = urlsplit(location)
    except ValueError:
        return _without_logins(location.partition("?")[0])[:MAX_SHOWN]
    if not parts.netloc:
        return _without_logins(location)[:MAX_SHOWN]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:MAX_SHOWN]


def _without_logins(text: str) -> str:
    """``text`` with each ``user:password@`` replaced: from the last slash or space before the first colon to the @.

    No regular expression, since one that is tried at each position of a long row of colons takes for ever.
    """
    *heads, tail = text.split("@")
    return "".join(_without_login(head) + "@" for head in heads) + tail


def _without_login(head: str) -> str:
    user, colon, _ = head.partition(":")
    if not colon:
        return head
    start = next((at for at in range(len(user), 0, -1) if user[at - 1] == "/" or user[at - 1].isspace()), 0)
    return user[:start] + "…"
