"""The systemd unit agrees with how ``roost serve`` ends."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

from roost.config import Settings
from roost.wiring.parent import Options

UNIT = Path(__file__).parents[3] / "deploy" / "systemd" / "roost.service"


def test_a_stop_reaches_the_parent_alone_and_has_the_time_that_it_may_take() -> None:
    unit = ConfigParser(interpolation=None)
    unit.read_string(UNIT.read_text())
    service, settings, slack_s = unit["Service"], Settings(home=Path("/h")), Options().slack_s
    assert service["KillMode"] == "mixed"
    settle_s, gateways_s = slack_s, settings.drain_deadline_s + slack_s
    control_s = settings.drain_deadline_s + slack_s + settings.stop_grace_s
    assert float(service["TimeoutStopSec"]) >= settle_s + control_s + gateways_s
    assert service["ExecStart"].endswith("/bin/roost serve")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
