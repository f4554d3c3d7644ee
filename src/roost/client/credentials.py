"""Which server to talk to and with which key: arguments, then the environment, then the home's credentials file.

Called by the shells on construction. It reads one file and never writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from roost.client.errors import NoKeyKnown, NoServerKnown, NotConfigured
from roost.config import client_environment, home_dir, known_home

_REMEDY = "stop the server and start it with `roost serve --new-key`."


@dataclass(frozen=True, slots=True)
class Credentials:
    """A server's base URL without a trailing slash (usually ending in ``/v1``) and a key for it.

    ``key_from`` is where the key was found, for people: a path, a variable; empty: the program gave it.
    """

    base_url: str
    api_key: str
    key_from: str = field(default="", compare=False)


def choose(
    base_url: str | None,
    api_key: str | None,
    stored: Credentials | None,
) -> Credentials | None:
    """The credentials in force, None when something is missing.

    A key from the file goes with the file's own server only: it is never sent to a server named otherwise.
    """
    key_from = ""
    if base_url is None and stored is not None:
        base_url = stored.base_url
    if api_key is None and stored is not None and base_url is not None and _same(base_url, stored.base_url):
        api_key, key_from = stored.api_key, stored.key_from
    if base_url is None or api_key is None:
        return None
    return Credentials(base_url.rstrip("/"), api_key, key_from)


def find(base_url: str | None = None, api_key: str | None = None, home: Path | None = None) -> Credentials:
    """The credentials from arguments, else environment, else ``credentials.json`` of the home.

    An explicit ``home`` means the server of that home: the environment is then not asked.
    Raises ``NotConfigured`` (of these ``NoServerKnown`` and ``NoKeyKnown``) saying what to do.
    """
    if home is None:
        env_url, env_key = client_environment()
        key_from = "" if api_key or not env_key else "ROOST_API_KEY"
        base_url, api_key = base_url or env_url, api_key or env_key
    else:
        key_from = ""
    base_url, api_key = base_url or None, api_key or None
    path = known_home(home) / "credentials.json"
    # A broken file must not stand in the way of somebody who needs none.
    stored = None if base_url and api_key else read(path)
    chosen = choose(base_url, api_key, stored)
    if chosen is None:
        raise _missing(base_url, path, there=stored is not None)
    _check(chosen)
    return replace(chosen, key_from=key_from) if key_from else chosen


def of_sandbox(used: Credentials) -> bool:
    """Whether the key is from the usual home of a sandbox."""
    ordinary, sandbox = (str(home_dir(sandbox=kind) / "credentials.json") for kind in (False, True))
    return used.key_from == sandbox != ordinary


def about_refused(used: Credentials, *, sandbox: bool) -> str:
    """Where a key came from that the server refused, and what to do where the other kind of server answers at its
    address: ``sandbox`` tells that the refusal came from a sandbox."""
    source = f"The key is from {used.key_from or '--api-key'}"
    usual = home_dir(), home_dir(sandbox=True)
    if sandbox and usual[0] != usual[1] and used.key_from == str(usual[0] / "credentials.json"):
        return f"{source}, and a sandbox answers at {used.base_url}: `export ROOST_SANDBOX=1` to mean it."
    if not sandbox and of_sandbox(used):
        return (
            f"{source}, a sandbox's, and an ordinary server answers at {used.base_url}: `export ROOST_SANDBOX=0` to "
            "mean it."
        )
    return f"{source}."


def read(path: Path) -> Credentials | None:
    """What the file holds, None where there is none. Raises ``NotConfigured`` when it cannot be understood."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotConfigured(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise NotConfigured(f"{path} is not valid JSON: {_REMEDY}") from error
    url, key = (data.get("base_url"), data.get("api_key")) if isinstance(data, dict) else (None, None)
    if not (isinstance(url, str) and url and isinstance(key, str) and key):
        raise NotConfigured(f'{path} must hold "base_url" and "api_key": {_REMEDY}')
    return Credentials(url, key, str(path))


def _same(one: str, other: str) -> bool:
    """Whether two base URLs name the same server, however its paths are written."""
    first, second = urlsplit(one), urlsplit(other)
    return (first.scheme, first.netloc) == (second.scheme, second.netloc)


def _missing(base_url: str | None, path: Path, *, there: bool) -> NotConfigured:
    if base_url is not None:
        why = f"{path} is for another server" if there else f"there is no {path}"
        return NoKeyKnown(f"No API key for {base_url} ({why}): set ROOST_API_KEY or give --api-key.")
    return NoServerKnown(
        f"No server is known (there is no {path}): start one with `roost serve`, "
        "or set ROOST_BASE_URL and ROOST_API_KEY."
    )


def _check(credentials: Credentials) -> None:
    parts = urlsplit(credentials.base_url)
    if "://" not in credentials.base_url:
        raise NotConfigured(
            f"{credentials.base_url!r} is not a base URL, since http:// is missing in front: it must look like "
            "http://127.0.0.1:8080/v1."
        )
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise NotConfigured(f"{credentials.base_url!r} is not a base URL: it must look like http://127.0.0.1:8080/v1.")
    if not credentials.api_key.isascii() or any(not 32 < ord(character) < 127 for character in credentials.api_key):
        raise NotConfigured("The API key holds white space or other characters that no key has; check ROOST_API_KEY.")
