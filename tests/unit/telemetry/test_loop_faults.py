"""What an event loop tells of itself: a lack of files once, all else as ever."""

from __future__ import annotations

import asyncio
import errno

from structlog.testing import capture_logs

from roost.telemetry.loop_faults import LoopFaults


async def test_a_lack_of_files_is_told_once_and_other_faults_each_time() -> None:
    loop = asyncio.get_running_loop()
    faults = LoopFaults()
    others: list[object] = []
    loop.default_exception_handler = lambda context: others.append(context["exception"])  # type: ignore[method-assign]
    with capture_logs() as told:
        for _ in range(1000):
            faults(loop, {"message": "accept", "exception": OSError(errno.EMFILE, "Too many open files")})
    assert [entry["reason"] for entry in told] == ["Too many open files"]
    fault = RuntimeError("boom")
    faults(loop, {"message": "m", "exception": fault})
    faults(loop, {"message": "m", "exception": fault})
    assert others == [fault, fault]
