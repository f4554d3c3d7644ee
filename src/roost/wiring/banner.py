"""What ``roost serve`` prints once it serves. Pure text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Welcome:
    """The facts of the banner. ``api_key`` is shown on the first start only (None afterwards); ``note`` is a sentence
    about the credentials file, when there is something to say; ``program`` is how the user calls ``roost``."""

    version: str
    origin: str
    credentials: Path
    logs: Path
    hardware: str
    program: str = "roost"
    api_key: str | None = None
    note: str | None = None


def banner(welcome: Welcome) -> str:
    """The banner, several lines without a newline at the end."""
    key = str(welcome.credentials)
    if welcome.api_key:
        key = f"{welcome.api_key}  (shown only now; kept in {welcome.credentials})"
    rows = [
        ("API", f"{welcome.origin}/v1"),
        ("key", key),
        ("logs", str(welcome.logs)),
    ]
    lines = [f"Roost {welcome.version} is serving at {welcome.origin}", ""]
    lines += [f"  {name:<8} {value}" for name, value in rows]
    if welcome.note:
        lines += ["", f"  {welcome.note}"]
    lines += [
        "",
        "Try next, in another terminal:",
        f"  {welcome.program} endpoints create --model smollm2-135m --hardware {welcome.hardware} --wait",
        "",
        "Ctrl-C finishes the requests in flight and stops everything; Ctrl-C again stops at once.",
    ]
    return "\n".join(lines)
