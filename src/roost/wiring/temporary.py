"""A whole server in a home of its own, as a process of its own, for as long as a command needs it.

Used by ``roost demo`` and ``roost selftest``. It must end the server whatever happens, and say so if a process should
survive.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from roost.wiring import logfiles
from roost.wiring.pids import processes_naming

STOP_S = 60.0


class ServerFailed(Exception):
    """The server did not start, or did not end: ``lines`` are what it said."""

    def __init__(self, message: str, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.lines = tuple(lines)


class TemporaryServer:
    """``roost serve`` in ``home``; ``flags`` are further ones of its command line, ``settings`` further numbers for its
    settings file; ``process`` is the server where it runs already, its output a pipe."""

    def __init__(
        self,
        home: Path,
        *flags: str,
        settings: Mapping[str, float] | None = None,
        process: subprocess.Popen[str] | None = None,
    ) -> None:
        self.home = home
        self._flags = flags
        self._settings = dict(settings or {})
        self._process = process

    def share_weights(self, cache: Path) -> str | None:
        """Let the home use a weights cache that outlives it; what stands against that, None when it does."""
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return f"{cache} cannot be used ({error.strerror})"
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "models").symlink_to(cache)
        return None

    def start(self) -> None:
        """Start it and wait until it serves. Raises ``ServerFailed``."""
        if self._settings:
            self.home.mkdir(parents=True, exist_ok=True)
            lines = [f"{name} = {value}\n" for name, value in self._settings.items()]
            (self.home / "config.toml").write_text("".join(lines))
        command = [sys.executable, "-m", "roost", "serve", "--home", str(self.home), *self._flags]
        # A name that the user's own certificate is for does not lead here.
        command += ["--tls-cert", "", "--tls-key", ""]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        said = []
        # Readiness is a line of the banner; the end of the output means that it never came.
        for line in self._process.stdout:
            said.append(line.rstrip())
            if "is serving at" in line:
                return
        raise ServerFailed("The server did not start:", said)

    @property
    def pid(self) -> int:
        """Of the parent process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> bool:
        """End it, in order, then at once; whether a Ctrl-C came meanwhile. Raises ``ServerFailed`` when processes are
        left."""
        server, interrupted = self._process, False
        if server is None:
            return False
        try:
            server.send_signal(signal.SIGTERM)
            server.wait(STOP_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            # It ends at once now; a third Ctrl-C would only leave processes behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.quit()
            server.wait(STOP_S)
        finally:
            assert server.stdout is not None
            server.stdout.close()
        left = processes_naming(str(self.home))
        if left:
            lines = [f"  {pid}  {line}" for pid, line in sorted(left.items())]
            raise ServerFailed("The server has ended, but processes of it are left:", lines)
        return interrupted

    def quit(self) -> None:
        """Tell it to end at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)

    def remove(self) -> None:
        """Remove the home."""
        shutil.rmtree(self.home, ignore_errors=True)

    def log_lines(self) -> tuple[str, ...]:
        """The end of the server's logs."""
        logs = [path for path in sorted((self.home / "logs").glob("*.log")) if not path.name.endswith(".access.log")]
        found = [(path, logfiles.tail(path)) for path in logs]
        return tuple(
            text
            for path, lines in found
            if lines
            for text in (f"The end of {path.name}:", *(f"  {shortened(line)}" for line in lines))
        )


def shortened(line: str, most: int = 400) -> str:
    """A log line without its middle, when it is longer than ``most`` characters: a traceback's cause is at its end."""
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"
