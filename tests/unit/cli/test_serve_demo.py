"""The decisions of ``roost demo``; the demo itself is run end to end elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from roost.cli.commands.demo import largest
from roost.cli.failure import CommandFailed
from roost.schemas import Hardware
from roost.wiring.temporary import TemporaryServer, shortened


def offer(name: str, kind: str, count: int, status: str = "available") -> Hardware:
    return Hardware.model_validate(
        {
            "object": "hardware",
            "id": name,
            "pricing": {"cents_per_minute": 0.0},
            "specs": {"gpu_type": kind, "gpu_link": "none", "gpu_memory": 8.0, "gpu_count": count},
            "availability": {"status": status},
            "updated_at": datetime(2026, 11, 1, tzinfo=UTC),
        }
    )


def test_the_largest_free_cpu_configuration_is_taken() -> None:
    offers = [offer("1x_cpu", "cpu", 1), offer("2x_cpu", "cpu", 2), offer("4x_cpu", "cpu", 4, "unavailable")]
    assert largest([*offers, offer("8x_h100", "h100", 8)]) == "2x_cpu"


def test_without_free_hardware_there_is_no_demo() -> None:
    with pytest.raises(CommandFailed, match="no hardware free"):
        largest([offer("1x_cpu", "cpu", 1, "insufficient")])


def test_long_log_lines_keep_their_beginning_and_their_cause() -> None:
    line = "event" + "x" * 1000 + "the cause"
    assert shortened(line).startswith("eventx")
    assert shortened(line).endswith("the cause")
    assert len(shortened(line)) <= 405
    assert shortened("short") == "short"


def test_the_end_of_every_log_is_shown(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "control.log").write_text("one\ntwo\n")
    (logs / "empty.log").write_text("")
    assert TemporaryServer(tmp_path).log_lines() == ("The end of control.log:", "  one", "  two")


def test_it_says_where_the_weights_are_kept_and_what_to_type_next(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from roost.cli.commands.demo import Demo, next_steps\n"
        "from roost.cli.output import Output\n"
        "Demo(Output(), Path(sys.argv[1]), 0)._share_weights()\n"
        "print(*next_steps(), sep='\\n')\n"
    )
    env = {**os.environ, "HOME": str(tmp_path / "user"), "PATH": "/usr/bin:/bin"}
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "home")], env=env, capture_output=True, text=True, check=True
    )
    assert f"The weights are kept in {tmp_path}/user/.cache/roost/models" in done.stdout
    assert "  roost " not in done.stdout, "there is no roost on this PATH"
    assert "--hardware 1x_cpu --wait" in done.stdout


STUBBORN = """
import os, signal
signal.alarm(50)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGQUIT])
print("up", flush=True)
assert signal.sigwait([signal.SIGTERM, signal.SIGQUIT]) == signal.SIGTERM
os.kill(os.getppid(), signal.SIGINT)
assert signal.sigwait([signal.SIGTERM, signal.SIGQUIT]) == signal.SIGQUIT
os.kill(os.getppid(), signal.SIGINT)
"""
"""A server that takes its time until it is told to end at once; its parent gets a Ctrl-C before and after that."""

STOPPING = """
import signal, subprocess, sys
from pathlib import Path
from roost.cli.commands.demo import Demo
from roost.cli.failure import Interrupted
from roost.cli.output import Output
from roost.wiring.temporary import TemporaryServer
signal.signal(signal.SIGINT, signal.default_int_handler)
server = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
assert server.stdout.readline() == "up\\n"
try:
    demo = Demo(Output(), Path(sys.argv[2]), 0)
    demo.server = TemporaryServer(demo.home, process=server)
    demo._stop()
except Interrupted as interrupted:
    print(interrupted.message, server.poll())
"""


def test_ctrl_c_while_it_stops_ends_the_server_at_once_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPING, STUBBORN, str(tmp_path / "a home of nobody else")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "stopped; no process is left" in done.stdout, done.stderr
    assert "Interrupted while stopping; the server is stopped. 0" in done.stdout
