"""Hardware on offer, judged for a model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.services.office import GIB, Office, make_node

from roost.domain.errors import NotFound
from roost.domain.hardware import Resources
from roost.domain.model import Model, Source
from roost.services.hardware import memory_needed, memory_of
from roost.testing.builders import make_model


def sized(name: str, size_bytes: int | None) -> Model:
    return make_model(id=name, source=Source("file", f"/nowhere/{name}", size_bytes=size_bytes))


async def statuses(office: Office, model: str | None = None) -> dict[str, str]:
    return {item.hardware.id: item.availability for item in await office.services.hardware.list(model)}


async def test_all_configurations_smallest_first(office: Office) -> None:
    office.nodes = [make_node(free=Resources(2, 16 * GIB))]

    assert list((await statuses(office)).items()) == [
        ("1x_cpu", "available"),
        ("2x_cpu", "available"),
        ("3x_cpu", "insufficient"),
        ("4x_cpu", "insufficient"),
    ]


async def test_hardware_that_cannot_hold_the_weights_is_insufficient() -> None:
    # 8 GiB with their overhead and 2048 tokens of context are about 10 GiB; a thread brings 4.
    office = await Office(models=[sized("test/large", 8 * GIB)]).open()

    assert await statuses(office, "test/large") == {
        "1x_cpu": "insufficient",
        "2x_cpu": "insufficient",
        "3x_cpu": "available",
        "4x_cpu": "available",
    }


async def test_the_cache_knows_sizes_that_the_catalog_does_not() -> None:
    model = sized("test/unsized", None)
    office = await Office(models=[model], cache_bytes=8 * GIB).open()
    assert (await statuses(office, "test/unsized"))["1x_cpu"] == "available", "unknown is no reason to refuse"

    office.cache.request(model)

    assert (await statuses(office, "test/unsized"))["1x_cpu"] == "insufficient"


async def test_servers_elsewhere_run_on_anything_listed(office: Office) -> None:
    office.nodes = [make_node(free=Resources())]

    assert set((await statuses(office, "far")).values()) == {"available"}


async def test_an_unknown_model_is_not_found(office: Office) -> None:
    with pytest.raises(NotFound, match="model"):
        await office.services.hardware.list("no/such")


async def test_zones_are_those_of_the_nodes(office: Office) -> None:
    office.nodes = [make_node("n1", "west"), make_node("n2", "east"), make_node("n3", "west")]

    assert await office.services.hardware.zones() == ["east", "west"]


async def test_accelerators_count_with_their_own_memory(office: Office) -> None:
    office.nodes = [make_node("gpu", accelerator="test_gpu", total=Resources(16, 64 * GIB, 2))]
    (one, two) = await office.services.hardware.list()
    assert (one.hardware.id, memory_of(one.hardware)) == ("1x_test_gpu", None), "its memory is unknown"

    assert memory_of(replace(two.hardware, memory_gb=80.0)) == 160_000_000_000


@pytest.mark.parametrize(
    ("weights", "context", "slots", "token_bytes"),
    [
        pytest.param(98_362_432, 2048, 4, 23_040, id="SmolLM2 135M"),
        pytest.param(4_700_000_000, 8192, 1, 131_072, id="Llama 3 8B"),
        pytest.param(40_000_000_000, 8192, 2, 327_680, id="Llama 3 70B"),
    ],
)
def test_the_estimate_is_near_what_is_known(weights: int, context: int, slots: int, token_bytes: int) -> None:
    needed = memory_needed(make_model(context_length=context, slots=slots), weights)

    assert needed is not None
    true_context = token_bytes * context * slots
    assert 0.75 * true_context < needed - 1.2 * weights < 1.25 * true_context


def test_no_weights_need_no_memory() -> None:
    assert memory_needed(make_model(), 0) == 0
    assert memory_needed(make_model(), None) is None
