"""The echo engine process: ``python -m roost.engines.echo_server --listen ADDRESS [dials]``.

A small server with OpenAI's API that says the user's words back and misbehaves on demand. Started by a runtime as
``EchoEngine.build`` asks, or by hand in tests and benchmarks. ``/debug/state`` tells what it has done, so that tests
can see a cancellation.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from roost.engines.echo_http import Echo, Exchange
from roost.engines.listen import Listen, parse_listen

FAILED = 1
"""Exit status of a start that was told to fail, or that could not listen."""

_SLEEPER = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(3600)"


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    options = parser().parse_args(arguments)
    if options.fail_at_start is not None:
        _say(f"told to fail: {options.fail_at_start}")
        return FAILED
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", _SLEEPER]).pid if options.spawn_child else None
    try:
        return asyncio.run(_run(options, child))
    except OSError as error:
        _say(f"cannot listen: {error.strerror or error}")
        return FAILED


def parser() -> argparse.ArgumentParser:
    """The options: the dials."""
    found = argparse.ArgumentParser(prog="echo_server", allow_abbrev=False)
    switch = argparse.BooleanOptionalAction
    found.add_argument("--listen", type=parse_listen, required=True, help="unix:<path> or <host>:<port>")
    found.add_argument("--model", default="echo", help="its name in answers to requests that name none")
    found.add_argument("--load-time", type=float, default=0.0, help="seconds before it listens")
    found.add_argument("--tokens-per-second", type=float, default=0.0, help="of each request; 0: as fast as it can")
    found.add_argument("--slots", type=int, default=0, help="requests worked on at once, more wait; 0: no limit")
    found.add_argument("--cancels-non-stream", action=switch, default=True, help="end non-streams of clients that left")
    found.add_argument("--fail-at-start", metavar="TEXT", help="print TEXT and end with status 1")
    found.add_argument("--hang", action=switch, default=False, help="never listen")
    found.add_argument("--ignore-term", action=switch, default=False, help="do not end on SIGTERM")
    found.add_argument("--die-after-chunks", type=int, default=0, help="end abruptly after so many; 0: never")
    found.add_argument("--spawn-child", action=switch, default=False, help="start a child that ignores SIGTERM")
    return found


async def _run(options: argparse.Namespace, child: int | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    if options.hang:
        await stop.wait()
        return 0
    if options.load_time:
        try:
            await asyncio.wait_for(stop.wait(), options.load_time)
        except TimeoutError:
            pass  # it has loaded
        else:
            return 0
    echo = Echo(
        model=options.model,
        tokens_per_second=options.tokens_per_second,
        slots=options.slots,
        cancels_non_stream=options.cancels_non_stream,
        die_after_chunks=options.die_after_chunks,
        child=child,
    )
    listen: Listen = options.listen
    await _listen(echo, listen)
    await stop.wait()
    if listen.path is not None:
        os.unlink(listen.path)
    # At once, like an engine that was drained before: open requests are cut off.
    os._exit(0)


async def _listen(echo: Echo, listen: Listen) -> None:
    loop = asyncio.get_running_loop()

    def exchange() -> Exchange:
        return Exchange(echo)

    if listen.path is None:
        await loop.create_server(exchange, listen.host, listen.port, backlog=1024)
        return
    mask = os.umask(0o177)
    try:
        await loop.create_unix_server(exchange, listen.path, backlog=1024)  # replaces a socket left behind
    finally:
        os.umask(mask)


def _say(text: str) -> None:
    print(f"echo_server: {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
