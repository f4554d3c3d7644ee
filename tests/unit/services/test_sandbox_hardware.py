"""In a sandbox hardware is judged for the models as they really are, though small weights run in their place."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.unit.services.office import make_node

from roost.domain.errors import BadRequest
from roost.domain.hardware import Node
from roost.domain.model import Fetch, FetchState, Footprint, Model
from roost.engines.registry import engine
from roost.models import sandbox
from roost.models.catalog import SMOLLM2, Catalog
from roost.runtimes import sandbox_fleet
from roost.services.hardware import HardwareService
from roost.store.memory import MemoryStore
from roost.testing.cache import MemoryCache
from roost.testing.clock import FakeClock

L3_70B = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


class Fetched(MemoryCache):
    """All weights are here, and they are small."""

    def status(self, model: Model) -> Fetch:
        return Fetch(model.id, FetchState.READY, path="/weights", footprint=Footprint(98_362_432, 23_040))


async def fleet() -> Sequence[Node]:
    return (make_node(threads=2), *sandbox_fleet.nodes())


@pytest.fixture
def hardware() -> HardwareService:
    return HardwareService(
        capacity=fleet,
        prices=sandbox_fleet.prices(),
        catalog=Catalog(MemoryStore(), built_in=sandbox.catalog()),
        cache=Fetched(),
        capabilities=lambda model: engine(model.engine).capabilities(model),
        now=FakeClock().now,
    )


@pytest.mark.parametrize(
    ("model", "configuration", "expected"),
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
async def test_each_model_needs_the_hardware_that_the_real_one_needs(
    hardware: HardwareService, model: str, configuration: str, expected: bool
) -> None:
    listed = [offer.hardware.id for offer in await hardware.list(model)]
    assert (configuration in listed) is expected


@pytest.mark.parametrize("model", sandbox.catalog(), ids=lambda model: model.id)
async def test_the_fleet_has_room_for_each(hardware: HardwareService, model: Model) -> None:
    assert any("nvidia" in offer.hardware.id for offer in await hardware.list(model.id))


async def test_a_create_on_less_is_refused_in_the_real_models_numbers(hardware: HardwareService) -> None:
    with pytest.raises(BadRequest, match=r"weights 65\.7 GiB"):
        await hardware.check("1x_nvidia_l40s_48gb_pcie", sandbox.catalog()[0], None, False)
