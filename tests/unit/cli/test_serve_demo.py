"""The decisions of ``roost demo``; the demo itself is run end to end elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from roost.cli.commands.demo import Demo, largest, shortened
from roost.cli.failure import CommandFailed
from roost.cli.output import Output
from roost.schemas import Hardware


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
    assert Demo(Output(), tmp_path, 0).log_lines() == ("The end of control.log:", "  one", "  two")
