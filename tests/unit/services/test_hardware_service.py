"""Hardware on offer, judged for a model."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.services.office import ADMIN, GIB, Office, make_node

from roost.config import Settings
from roost.domain.errors import BadRequest, NotFound
from roost.domain.hardware import HardwarePrice, Resources
from roost.domain.model import Fetch, FetchState, Footprint, Model, Source
from roost.engines.registry import engine
from roost.models.catalog import SMOLLM2
from roost.policy.sizing import MIB, footprint_of
from roost.services.endpoint_requests import Bounds, EndpointDraft
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


async def test_only_hardware_that_can_hold_the_model_is_listed_for_it() -> None:
    # 8 GiB of weights, a third for a context and a quarter for the engine; a thread brings 4.
    office = await Office(models=[sized("test/large", 8 * GIB)]).open()
    office.nodes = [make_node(free=Resources(3, 12 * GIB))]

    assert await statuses(office, "test/large") == {"3x_cpu": "available", "4x_cpu": "insufficient"}
    assert len(await statuses(office)) == 4, "all without a model"

    office.nodes = [make_node(free=Resources())]
    assert await statuses(office, "test/large") == {"3x_cpu": "unavailable", "4x_cpu": "unavailable"}


async def test_a_footprint_is_what_the_header_tells_else_what_is_declared_else_the_size() -> None:
    source = Source("file", "/nowhere/x", size_bytes=1000)
    plain = make_model(source=source)
    declared = replace(plain, footprint=Footprint(2000, 20))
    absent, arriving = Fetch(plain.id, FetchState.ABSENT), Fetch(plain.id, FetchState.FETCHING, 1, 4000)
    ready = Fetch(plain.id, FetchState.READY, footprint=Footprint(3000, 30))
    mute = replace(ready, footprint=Footprint(3000, None))

    assert footprint_of(declared, ready) == Footprint(3000, 30)
    assert footprint_of(declared, mute) == Footprint(3000, 20)
    assert footprint_of(plain, mute) == Footprint(3000, None)
    assert footprint_of(declared, absent) == Footprint(2000, 20)
    assert footprint_of(plain, arriving) == Footprint(1000, None)
    assert footprint_of(replace(plain, source=Source("file", "/nowhere/x")), arriving) == Footprint(4000, None)
    assert footprint_of(replace(plain, source=Source("file", "/nowhere/x")), absent) is None
    assert footprint_of(replace(plain, source=None), Fetch(plain.id, FetchState.READY)) is None


async def test_the_cache_knows_sizes_that_the_catalog_does_not() -> None:
    model = sized("test/unsized", None)
    office = await Office(models=[model], cache_bytes=8 * GIB).open()
    assert "1x_cpu" in await statuses(office, "test/unsized"), "unknown is no reason to refuse"

    office.cache.request(model)

    assert "1x_cpu" not in await statuses(office, "test/unsized")


async def test_a_create_on_hardware_too_small_is_refused_in_numbers() -> None:
    office = await Office(models=[sized("test/large", 8 * GIB)]).open()
    draft = EndpointDraft("test/large", "2x_cpu", Bounds(1, 1))

    with pytest.raises(BadRequest) as caught:
        await office.services.endpoints.create(ADMIN, draft)

    assert (caught.value.param, caught.value.code) == ("hardware", "hardware_too_small")
    assert caught.value.message.startswith(
        "Invalid hardware provided: A replica needs 8811 MiB of memory (weights 8192 "
    )
    assert "but 2x_cpu has 8192 MiB: choose larger hardware or smaller weights. " in caught.value.message
    assert "check the hardware API" in caught.value.message
    assert await office.store.endpoints() == []


MODELS = st.builds(
    make_model,
    source=st.none()
    | st.builds(Source, st.just("file"), st.just("/nowhere/x"), size_bytes=st.none() | st.integers(1, 1 << 36)),
    footprint=st.none() | st.builds(Footprint, st.integers(1, 1 << 36), st.none() | st.integers(1, 1 << 20)),
    context_length=st.integers(1, 1 << 17),
    slots=st.none() | st.integers(1, 64),
    engine=st.sampled_from(["echo", "external"]),
)
ROOMS = st.lists(
    st.tuples(
        st.sampled_from(["cpu", "test_gpu"]), st.integers(1, 8), st.integers(0, 8), st.integers(1, 32), st.booleans()
    ),
    max_size=4,
)


@given(MODELS, ROOMS, st.sampled_from([0.0, 16.0, 80.0]))
def test_what_is_listed_for_a_model_is_what_a_create_takes(
    model: Model, rooms: list[tuple[str, int, int, int, bool]], memory_gb: float
) -> None:
    async def both() -> tuple[set[str], set[str]]:
        prices = {"test_gpu": HardwarePrice(memory_gb=memory_gb)}
        office = await Office(Settings(home=Path("/nowhere"), hardware=prices), [replace(model, id="test/any")]).open()
        office.nodes = [
            replace(
                make_node(
                    f"n{number}",
                    accelerator=accelerator,
                    total=Resources(units, units * gib * GIB, 0 if accelerator == "cpu" else units),
                    free=Resources(free, free * gib * GIB, 0 if accelerator == "cpu" else free),
                ),
                healthy=healthy,
            )
            for number, (accelerator, units, free, gib, healthy) in enumerate(rooms)
        ]
        accepted = set()
        for hardware in {*await statuses(office), "1x_cpu", "9x_cpu"}:
            try:
                await office.services.endpoints.create(ADMIN, EndpointDraft("test/any", hardware, Bounds(1, 1)))
                accepted.add(hardware)
            except BadRequest:
                continue
        return set(await statuses(office, "test/any")), accepted

    listed, accepted = asyncio.run(both())
    assert listed == accepted


async def test_servers_elsewhere_run_on_anything_listed(office: Office) -> None:
    office.nodes = [make_node(free=Resources())]

    assert set((await statuses(office, "far")).values()) == {"available"}


async def test_an_unknown_model_is_not_found(office: Office) -> None:
    with pytest.raises(NotFound, match="model"):
        await office.services.hardware.list("no/such")


async def test_zones_are_those_of_the_nodes(office: Office) -> None:
    office.nodes = [make_node("n1", "west"), make_node("n2", "east"), make_node("n3", "west")]

    assert await office.services.hardware.zones() == ["east", "west"]


async def test_accelerators_count_with_their_own_memory() -> None:
    prices = {"test_gpu": HardwarePrice(memory_gb=16)}
    office = await Office(Settings(home=Path("/nowhere"), hardware=prices), [sized("test/large", 16 * GIB)]).open()
    office.nodes = [make_node("gpu", accelerator="test_gpu", total=Resources(16, 16 * GIB, 2))]

    assert await statuses(office, "test/large") == {"2x_test_gpu": "available"}


async def test_the_engines_word_on_slots_and_memory_counts() -> None:
    """The built-in model on the real engines: what ``build`` would refuse is not listed."""
    room = 2 * 98_362_432 + 23_040 * 2048 * 4 + 256 * MIB
    models = [replace(SMOLLM2, id="test/four", alias=None, slots=None), replace(SMOLLM2, id="test/echo", engine="echo")]
    office = await Office(models=models).open()
    service = replace(office.services.hardware, capabilities=lambda model: engine(model.engine).capabilities(model))

    office.nodes = [make_node(threads=1, total=Resources(1, room))]
    assert len(await service.list("test/four")) == 1
    office.nodes = [make_node(threads=1, total=Resources(1, room - 1))]
    assert await service.list("test/four") == []
    assert len(await service.list("test/echo")) == 1, "which takes next to no memory"
