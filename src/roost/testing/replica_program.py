"""A replica's program for runtime tests: answers on a unix socket and misbehaves on demand.

Run by path (``python -I -S replica_program.py --listen unix:<path> ...``), standard library only, so that it starts in
a few milliseconds. Each connection is sent one line of JSON: ``{"pid", "name", "child"}``; connecting is all that it
takes to be READY.

--name NAME      what the answer says it is
--say LINE       print a line on standard error first (repeatable)
--exit CODE      then end with that status
--hang           never listen
--deaf           ignore SIGTERM
--child          start a grandchild in a session of its own, which ignores SIGTERM and sleeps
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def main(arguments: list[str]) -> int:
    """Do as told; the exit status."""
    options = list(arguments)
    for line in _values(options, "--say"):
        os.write(2, line.encode() + b"\n")
    exits = _values(options, "--exit")
    if exits:
        return int(exits[-1])
    if "--deaf" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = _sleeper() if "--child" in options else None
    if "--hang" in options:
        while True:
            signal.pause()
    path = _values(options, "--listen")[-1].removeprefix("unix:")
    answer = {"pid": os.getpid(), "name": (_values(options, "--name") or [""])[-1], "child": child}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        while True:
            connection, _ = listener.accept()
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                continue  # it only wanted to know whether somebody is there
            finally:
                connection.close()


def _values(options: list[str], name: str) -> list[str]:
    return [options[i + 1] for i, option in enumerate(options[:-1]) if option == name]


def _sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()
    return pid


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
