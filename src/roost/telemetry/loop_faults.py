"""What an event loop has to tell about itself, where the standard way would fill the disk.

Given to the loops of the control plane and of the gateway workers by who starts them. It never hides anything but the
repetitions of one complaint.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import structlog

FILES_TOLD_S = 10.0
"""How often a lack of files is told."""

log = structlog.get_logger(__name__)


class LoopFaults:
    """An exception handler of a loop. The standard one, short of files, says so for each connection that could wait."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Tell what went wrong; a lack of files once in ``FILES_TOLD_S``."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + FILES_TOLD_S
            log.error("no file is left for a connection", reason=error.strerror)
