"""An engine that raises what it must not ends attempts, and its endpoint in ERROR; everybody else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.control.world import WEIGHTLESS, World, cpu_node

from roost.domain.lifecycle import State
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, ReplicaState, RuntimeState
from roost.engines import registry

ENGINES = ("Unloadable", "Build", "Endless", "Nothing", "Rude", "Probing", "Explain", "Able")
MOST_STEPS = 60


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world in which the faulty engines are installed as plug-ins."""
    info = tmp_path / "faulty-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    lines = [f"{name} = tests.unit.control.faulty_engines:{name}" for name in ENGINES]
    (info / "entry_points.txt").write_text("\n".join(["[roost.engines]", *lines]) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.names.cache_clear()
    it = World(nodes=(cpu_node("n1", 4),))
    yield it
    it.close()
    monkeypatch.undo()
    registry.names.cache_clear()
    registry.engine.cache_clear()


def until_error(world: World, endpoint: str, *, dies: bool = False) -> int:
    """Passes, each when it is due, until the endpoint is in ERROR; how many replicas were tried."""
    tried: set[str] = set()
    for _ in range(MOST_STEPS):
        again = world.passes(endpoint)
        if world.state(endpoint) is State.ERROR:
            return len(tried)
        for row in world.rows(endpoint):
            tried.add(row.id)
            status = world.run(world.runtime.status(row.id))
            if status is not None and status.state is RuntimeState.STARTING:
                if dies:
                    world.runtime.crash(row.id, ExitInfo(code=1, log_tail=("went wrong",)))
                else:
                    world.runtime.make_ready(row.id)
                again = None
        if again is not None:
            world.clock.advance(again)
    raise AssertionError(f"{endpoint} is {world.state(endpoint)} after {MOST_STEPS} steps")


@pytest.mark.parametrize("engine", ENGINES)
def test_its_endpoint_reaches_error_with_a_code_and_leaves_nothing_behind(world: World, engine: str) -> None:
    endpoint = world.create(Model(f"test/{engine}", engine))
    until_error(world, endpoint, dies=engine == "Explain")
    failure = world.endpoint(endpoint).status.last_failure
    assert failure is not None
    assert failure.code == "engine_fault"
    assert engine in failure.message
    assert world.rows(endpoint) == []
    assert not world.run(world.runtime.list())


def test_a_fault_is_tried_again_as_often_as_any_failure(world: World) -> None:
    endpoint = world.create(Model("test/Probing", "Probing"))
    assert until_error(world, endpoint) == world.settings.max_start_failures
    assert world.endpoint(endpoint).status.failures == world.settings.max_start_failures


def test_what_an_engine_cannot_explain_keeps_its_last_lines(world: World) -> None:
    endpoint = world.create(Model("test/Explain", "Explain"))
    until_error(world, endpoint, dies=True)
    failure = world.endpoint(endpoint).status.last_failure
    assert failure is not None
    assert failure.log_tail == ("went wrong",)


def test_others_are_routed_and_served(world: World) -> None:
    faulty, sound = world.create(Model("test/Able", "Able")), world.create(WEIGHTLESS)
    world.passes(faulty)
    world.passes(sound)
    row = world.rows(sound)[0]
    world.runtime.make_ready(row.id)
    world.passes(sound)
    world.prober.prove(row.id)
    world.passes(sound)
    assert world.rows(sound)[0].state is ReplicaState.READY
    assert [route.id for route in world.publisher.table.endpoints] == [sound]
