"""A gateway process: ``python -m roost.wiring.gateway <run/settings.json> --index N --fd FD``.

Started by ``wiring.parent`` with the listening socket as ``FD``. It hands over to ``roost.gateway.worker`` at once; its
own part is to end, after finishing requests, when the parent is gone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from roost.config import Settings
from roost.wiring import lifeline


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process; its exit code."""
    arguments = _parse(argv)
    settings = Settings.parse(arguments.settings.read_text())
    lifeline.watch(arguments.lifeline, lifeline.PARENT_GONE_GATEWAY)
    from roost.gateway.worker import run
    from roost.telemetry import logging

    logging.configure(settings.log_level, process=f"gateway-{arguments.index}")
    parent = lifeline.ReadyPipe(arguments.ready)
    return run(settings, arguments.index, arguments.fd, ready=lambda: parent.tell(ready=True))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m roost.wiring.gateway", description="A gateway of Roost.")
    parser.add_argument("settings", type=Path, help="run/settings.json of the home directory")
    parser.add_argument("--index", type=int, required=True, help="number of the gateway, from 0")
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    parser.add_argument("--ready", type=int, metavar="FD", help="write one JSON line here once serving")
    parser.add_argument("--lifeline", type=int, metavar="FD", help="drain and end when this pipe closes")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
