"""A child of ``roost serve`` for tests: it does what the test's stage tells it, and reports what happens to it.

It speaks JSON lines over the stage socket. Orders: ``{"tell": {...}}`` writes the ready line, ``{"close": fd}`` closes
a descriptor, ``{"print": text}`` writes to standard error, ``{"heir": name}`` starts another one that holds the same
pipes, ``{"exit": code}`` ends. It reports its birth, signals, and the end of the lifeline.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from types import FrameType
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage")
    parser.add_argument("name")
    parser.add_argument("home")
    parser.add_argument("--fd", type=int)
    parser.add_argument("--new-key", action="store_true")
    parser.add_argument("--ready", type=int)
    parser.add_argument("--lifeline", type=int)
    arguments = parser.parse_args()
    stage = socket.socket(socket.AF_UNIX)
    stage.connect(arguments.stage)

    def report(event: str, **values: Any) -> None:
        stage.sendall(json.dumps({"name": arguments.name, "event": event, **values}).encode() + b"\n")

    def signalled(number: int, frame: FrameType | None) -> None:
        report(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(number, signalled)

    def watch_lifeline() -> None:
        # A signal delivered to this thread would not wake the main thread, whose handlers are to report it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.read(arguments.lifeline, 1)
        report("orphaned")

    threading.Thread(target=watch_lifeline, daemon=True).start()
    report("born", pid=os.getpid(), session=os.getsid(0), new_key=arguments.new_key, fd=arguments.fd)
    for line in stage.makefile():
        order = json.loads(line)
        if "tell" in order:
            with os.fdopen(arguments.ready, "w") as pipe:
                pipe.write(json.dumps(order["tell"]) + "\n")
        if "close" in order:
            os.close(order["close"])
        if "print" in order:
            sys.stderr.write(order["print"] + "\n")
            sys.stderr.flush()
        if "heir" in order:
            pipes = (arguments.ready, arguments.lifeline)
            argv = [sys.executable, __file__, arguments.stage, order["heir"], arguments.home]
            argv += ["--ready", str(pipes[0]), "--lifeline", str(pipes[1])]
            subprocess.Popen(argv, pass_fds=pipes, start_new_session=True)
        if "exit" in order:
            os._exit(order["exit"])


if __name__ == "__main__":
    main()
