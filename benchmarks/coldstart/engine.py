"""The bare engine: the command line that Roost itself used, started without Roost."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from benchmarks.coldstart.first_token import first_token

POLL_S = 0.002
LOADING = 503


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """An engine's command line, environment and socket, as read from a process that runs."""

    argv: tuple[str, ...]
    env: dict[str, str]
    socket: str

    @classmethod
    def of_running(cls, home: Path) -> EngineCommand:
        """The command of the one engine that runs in ``home``."""
        [record] = [json.loads(path.read_text()) for path in (home / "run" / "replicas").glob("*.json")]
        process = Path(f"/proc/{record['engine_pid']}")
        argv = tuple(process.joinpath("cmdline").read_text().rstrip("\0").split("\0"))
        pairs = process.joinpath("environ").read_text().rstrip("\0").split("\0")
        env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        [listen] = {part.split("unix:", 1)[1] for part in (*argv, *env.values()) if "unix:" in part}
        return cls(argv, env, listen)

    def at(self, socket: Path) -> EngineCommand:
        """The same command, listening elsewhere."""

        def moved(text: str) -> str:
            return text.replace(self.socket, str(socket))

        env = {name: moved(value) for name, value in self.env.items()}
        return EngineCommand(tuple(moved(part) for part in self.argv), env, str(socket))


def start_to_first_token(command: EngineCommand, model: str) -> float:
    """Seconds from starting the engine to the first token of an answer; the engine is ended afterwards."""
    began = time.perf_counter()
    with open(os.devnull, "wb") as null:
        process = subprocess.Popen(command.argv, env=command.env, stdout=null, stderr=null)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=command.socket), base_url="http://engine/v1") as client:
            while True:
                if process.poll() is not None:
                    raise SystemExit(f"The bare engine ended with exit code {process.returncode}.")
                try:
                    return first_token(client, model) - began
                except (httpx.ConnectError, httpx.HTTPStatusError) as error:
                    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code != LOADING:
                        raise
                    # Not up yet: ask often, so that the waiting adds next to nothing.
                    time.sleep(POLL_S)
    finally:
        process.kill()
        process.wait()
        Path(command.socket).unlink(missing_ok=True)
