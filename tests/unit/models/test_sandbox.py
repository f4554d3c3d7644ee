"""The sandbox's catalog: known names, one download, and the memory that the real models need."""

from __future__ import annotations

import pytest

from roost.domain.model import Model
from roost.engines.registry import names
from roost.engines.sandbox import SandboxEngine
from roost.models import entry, sandbox
from roost.models.catalog import SMOLLM2
from roost.policy.placement import configurations
from roost.policy.sizing import Demand, size
from roost.runtimes import sandbox_fleet

MODELS = {model.id: model for model in sandbox.catalog()}
HARDWARE = configurations(sandbox_fleet.nodes(), sandbox_fleet.prices())
L3_70B = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


def fits(model: Model, hardware: str) -> bool:
    memory = SandboxEngine().capabilities(model).memory
    assert memory is not None
    return size(Demand(model.footprint, model.context_length, model.slots or 1, memory), HARDWARE[hardware]).fits


@pytest.mark.parametrize("model", sandbox.catalog(), ids=lambda model: model.id)
def test_each_entry_is_one_that_a_user_could_add(model: Model) -> None:
    entry.check(model, names())
    assert model.display_name
    assert model.organization
    assert model.built_in


def test_the_names_of_the_reference_and_widely_used_ones_are_there() -> None:
    assert len(MODELS) == len(sandbox.catalog())
    assert {L3_70B, "meta-llama/Llama-3-8b", "openai/gpt-oss-20b", "deepseek-ai/DeepSeek-R1"} <= set(MODELS)


def test_all_have_the_same_weights_and_say_what_they_really_are() -> None:
    assert {model.source for model in MODELS.values()} == {SMOLLM2.source}
    assert {model.engine for model in MODELS.values()} == {"sandbox"}
    for model in MODELS.values():
        assert "SmolLM2 135M" in model.display_name


@pytest.mark.parametrize(
    ("model", "hardware", "expected"),
    [
        (L3_70B, "1x_nvidia_l40s_48gb_pcie", False),
        (L3_70B, "1x_nvidia_h100_80gb_sxm", False),
        (L3_70B, "2x_nvidia_h100_80gb_sxm", True),
        (L3_70B, "4x_nvidia_h100_80gb_sxm", True),
        ("meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo", "4x_nvidia_h100_80gb_sxm", False),
        ("meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo", "8x_nvidia_h100_80gb_sxm", True),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", "1x_nvidia_l40s_48gb_pcie", True),
        ("meta-llama/Llama-3-8b", "1x_nvidia_l40s_48gb_pcie", True),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "1x_nvidia_h100_80gb_sxm", False),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "2x_nvidia_h100_80gb_sxm", True),
        ("deepseek-ai/DeepSeek-R1", "8x_nvidia_h100_80gb_sxm", False),
        ("deepseek-ai/DeepSeek-R1", "8x_nvidia_h200_140gb_sxm", True),
        ("openai/gpt-oss-120b", "1x_nvidia_h100_80gb_sxm", True),
        ("google/gemma-3-27b-it", "1x_nvidia_h100_80gb_sxm", True),
        (SMOLLM2.id, "1x_nvidia_l40s_48gb_pcie", True),
    ],
)
def test_each_needs_the_hardware_that_the_real_one_needs(model: str, hardware: str, expected: bool) -> None:
    assert fits(MODELS[model], hardware) is expected


@pytest.mark.parametrize("model", sandbox.catalog(), ids=lambda model: model.id)
def test_the_fleet_has_room_for_each(model: Model) -> None:
    assert any(fits(model, hardware) for hardware in HARDWARE)
