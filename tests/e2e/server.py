"""A real ``roost serve`` for tests: real processes, real signals, a home of its own, a free port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

START_TIMEOUT_S = 60.0
PAUSE = threading.Event()
BANNER = re.compile(r"serving at (https?://\S+)")


def until(what: str, check: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Ask ``check`` until it answers truly, at most ``timeout_s``; the answer. Fails naming ``what``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = check()
        if answer:
            return answer
        # Bounds how often another process is asked; the effect is waited for by asking.
        PAUSE.wait(0.02)
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


class Server:
    """One server; a context manager that leaves no process behind, whatever the test did."""

    def __init__(self, home: Path, *flags: str, weights: Path | None = None, env: dict[str, str] | None = None) -> None:
        self.home = home
        self.flags = flags
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("ROOST_")} | (env or {})
        self.origin = ""
        self.process: subprocess.Popen[str] | None = None
        self.output: list[str] = []
        if weights is not None:
            home.mkdir(parents=True, exist_ok=True)
            (home / "models").symlink_to(weights)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.destroy()

    def start(self) -> None:
        """Start and wait for the banner."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "roost", "serve", "--home", str(self.home), "--port", "0", *self.flags],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            found = BANNER.search(line)
            if found:
                self.origin = found.group(1)
                break
        else:
            raise AssertionError(f"roost serve ended before it served: {''.join(self.output)}{self.log_text()}")

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def key(self) -> str:
        return str(json.loads((self.home / "credentials.json").read_text())["api_key"])

    @property
    def http(self) -> httpx.Client:
        """A new client that carries the admin's key."""
        return httpx.Client(base_url=self.base_url, headers={"authorization": f"Bearer {self.key}"}, timeout=60)

    def pid(self, name: str) -> int:
        """The pid in ``run/<name>.pid``."""
        return int((self.home / "run" / f"{name}.pid").read_text())

    def replica_records(self) -> dict[str, dict[str, Any]]:
        """``run/replicas/<id>.json`` by id."""
        found = {}
        for path in (self.home / "run" / "replicas").glob("replica-*.json"):
            try:
                found[path.stem] = json.loads(path.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                continue
        return found

    def cli(self, *arguments: str, timeout_s: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``roost`` against this server, as a user would."""
        done = subprocess.run(
            [sys.executable, "-m", "roost", *arguments],
            env=self.env | {"ROOST_HOME": str(self.home), "NO_COLOR": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"roost {' '.join(arguments)} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def create(self, model: str, hardware: str = "1x_cpu", *flags: str) -> dict[str, Any]:
        """Create an endpoint by the CLI and wait until it is STARTED."""
        done = self.cli("endpoints", "create", "--model", model, "--hardware", hardware, "--wait", "--json", *flags)
        created: dict[str, Any] = json.loads(done.stdout)
        return created

    def endpoint(self, endpoint_id: str) -> dict[str, Any]:
        with self.http as http:
            answer = http.get(f"/endpoints/{endpoint_id}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def events(self, endpoint_id: str) -> list[dict[str, Any]]:
        with self.http as http:
            body = http.get("/events", params={"endpoint": endpoint_id}).json()
        data: list[dict[str, Any]] = body["data"]
        return data

    def wait_state(self, endpoint_id: str, state: str, timeout_s: float = 60) -> dict[str, Any]:
        found: dict[str, Any] = until(
            f"{endpoint_id} is {state}",
            lambda: (e := self.endpoint(endpoint_id))["state"] == state and e,
            timeout_s,
        )
        return found

    def interrupt(self, number: int = signal.SIGINT, timeout_s: float = 60) -> int:
        """Send a signal to the parent and wait for its end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def processes(self) -> list[psutil.Process]:
        """Every live process whose command line or environment names this home."""
        return list(_of_home(str(self.home)))

    def log_text(self) -> str:
        """All logs of this home, for failure messages."""
        return "".join(path.read_text(errors="replace") for path in sorted((self.home / "logs").glob("*.log")))

    def destroy(self) -> None:
        """End everything of this home by its pids."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        left = self.processes()
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=10)
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()


def _of_home(home: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            line = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if home in line:
            yield process
