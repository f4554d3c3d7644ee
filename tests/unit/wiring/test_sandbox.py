"""What makes a server a sandbox, and that a database is one or the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from roost.config import HardwarePrice, Settings
from roost.domain.errors import InvalidSettings
from roost.models.catalog import BUILT_IN
from roost.wiring import sandbox

ORDINARY = Settings(home=Path("/h"))
SANDBOX = replace(ORDINARY, sandbox=True, runtime="sandbox")
H100 = "nvidia_h100_80gb_sxm"


def test_an_ordinary_server_is_left_as_it_is() -> None:
    assert sandbox.settings_of(ORDINARY) == ORDINARY
    assert sandbox.built_in_models(ORDINARY) == BUILT_IN
    assert "sandbox" not in sandbox.engine_names(ORDINARY)
    assert "llama_cpp" in sandbox.engine_names(ORDINARY)


def test_a_sandbox_has_the_fleets_prices_and_its_own_models_and_engine() -> None:
    made = sandbox.settings_of(SANDBOX)
    assert made.hardware[H100].gpu_type == "h100-80gb"
    assert made.zone == "us-central-1a"
    assert {model.engine for model in sandbox.built_in_models(SANDBOX)} == {"sandbox"}
    assert "sandbox" in sandbox.engine_names(SANDBOX)


def test_the_users_own_prices_and_zone_win() -> None:
    own = replace(SANDBOX, zone="here", hardware={H100: HardwarePrice(1.5), "cpu": HardwarePrice(0.1)})
    made = sandbox.settings_of(own)
    assert (made.hardware[H100].cents_per_minute, made.hardware[H100].memory_gb) == (1.5, 80)
    assert made.hardware["cpu"] == HardwarePrice(0.1)
    assert made.zone == "here"


@pytest.mark.parametrize("settings", [ORDINARY, SANDBOX])
def test_a_database_of_the_same_mode_is_fine(settings: Settings) -> None:
    sandbox.check_mode(settings, sandbox.installation_id(settings, UUID(int=1)))


@pytest.mark.parametrize(
    ("begun", "started", "words"),
    [(SANDBOX, ORDINARY, "is a sandbox's.*--sandbox.*another --home"), (ORDINARY, SANDBOX, "without --sandbox")],
)
def test_a_database_of_the_other_mode_is_refused(begun: Settings, started: Settings, words: str) -> None:
    installation = sandbox.installation_id(begun, UUID(int=1))
    with pytest.raises(InvalidSettings, match=words) as refused:
        sandbox.check_mode(started, installation)
    assert "/h" in refused.value.message
    with pytest.raises(InvalidSettings, match=r"^The database is"):
        sandbox.check_mode(replace(started, database_url="postgresql://db/roost"), installation)
