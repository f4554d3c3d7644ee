"""What ``roost serve`` prints once it serves. Pure text."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Welcome:
    """The facts of the banner. ``api_key`` is shown on the first start only (None afterwards); ``note`` is a sentence
    about the credentials file, when there is something to say; ``program`` is how the user calls ``roost``; ``home``
    is what commands must be told to find the server, None where they find it. ``sandbox``: it is one, and says so."""

    version: str
    origin: str
    credentials: Path
    logs: Path
    hardware: str
    program: str = "roost"
    api_key: str | None = None
    note: str | None = None
    home: Path | None = None
    sandbox: bool = False


WIDTH = 80
"""Columns of a usual terminal."""
SANDBOX = (
    "THIS IS A SANDBOX: its hardware is declared, not there, and every built-in model, whatever its",
    "name, is really SmolLM2-135M on this machine's CPU, at most 6 engines at once.",
)
_FIRST = ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "4x_nvidia_h100_80gb_sxm")


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
    if welcome.sandbox:
        lines += [*(f"  {line}" for line in SANDBOX), ""]
    model, hardware = _FIRST if welcome.sandbox else ("smollm2-135m", welcome.hardware)
    lines += [f"  {name:<8} {value}" for name, value in rows]
    if welcome.note:
        lines += ["", f"  {welcome.note}"]
    lines += [
        "",
        "Try next, in another terminal:",
        *([f"  export ROOST_HOME={shlex.quote(str(welcome.home))}"] if welcome.home else []),
        *_create(welcome.program, model, hardware),
        "",
        "Ctrl-C finishes the requests in flight and stops everything; Ctrl-C again stops at once.",
    ]
    return "\n".join(lines)


def _create(program: str, model: str, hardware: str) -> tuple[str, ...]:
    """The command that deploys a model, on two lines where one would not fit a usual terminal."""
    first, second = f"  {program} endpoints create --model {model}", f"--hardware {hardware} --wait"
    whole = f"{first} {second}"
    return (whole,) if len(whole) <= WIDTH else (f"{first} \\", f"      {second}")


def ready_line(welcome: Welcome, *, pid: int, home: Path) -> str:
    """The same for a program, as one line of JSON. It names the file that holds the key and never the key itself,
    since what a service prints ends up in logs."""
    return json.dumps(
        {
            "ready": True,
            "version": welcome.version,
            "base_url": f"{welcome.origin}/v1",
            "pid": pid,
            "home": str(home),
            "credentials": str(welcome.credentials),
            "key_is_new": welcome.api_key is not None,
            "logs": str(welcome.logs),
            "note": welcome.note,
            "sandbox": welcome.sandbox,
        },
        ensure_ascii=False,
    )
