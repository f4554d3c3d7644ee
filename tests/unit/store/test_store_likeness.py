"""The store in memory and the one on SQLite are alike: any sequence of calls ends the same way on both."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from roost.domain.errors import RoostError
from roost.domain.event import Event
from roost.domain.lifecycle import State
from roost.store import registry
from roost.store.base import StatusChange, Store
from roost.testing.builders import make_endpoint, make_event, make_key, make_model, make_replica, make_spec, make_status
from roost.testing.clock import START

Call = tuple[str, Callable[[Store], Awaitable[Any]]]

few = st.integers(0, 3)
versions = st.integers(1, 4)
event_lists = st.lists(st.integers(0, 60).map(make_event), max_size=2)
moments = few.map(lambda number: START + timedelta(hours=number))


def endpoint_id(number: int) -> str:
    return make_endpoint(number).id


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """One call of a writing method with arguments from a small world, so that they meet each other often."""
    number, other, version, now = draw(few), draw(few), draw(versions), draw(moments)
    events = draw(event_lists)
    replicas = tuple(
        make_replica(n, endpoint_id=endpoint_id(number)) for n in sorted(draw(st.sets(st.integers(0, 5), max_size=2)))
    )
    gone = tuple(make_replica(n).id for n in draw(st.lists(st.integers(0, 5), max_size=2)))
    change = StatusChange(
        endpoint_id(number), version, make_status(state=draw(st.sampled_from(State))), replicas, gone, tuple(events)
    )
    options: list[Call] = [
        ("insert", lambda s: s.insert_endpoint(make_endpoint(number, name=f"roost/{other}"), events)),
        ("spec", lambda s: s.update_spec(endpoint_id(number), version, make_spec(model=f"m{other}"), now, events)),
        ("delete", lambda s: s.mark_deleted(endpoint_id(number), now, events)),
        ("purge", lambda s: s.purge_endpoint(endpoint_id(number), events)),
        ("apply", lambda s: s.apply(change)),
        ("key", lambda s: s.insert_key(make_key(number, digest=f"{other}"), events)),
        ("revoke", lambda s: s.revoke_key(make_key(number).id, now, events, keep_admin=version == 1)),
        ("limit", lambda s: s.limit_key(make_key(number).id, {"concurrency": other}, events)),
        ("put", lambda s: s.put_model(make_model(number, alias=f"{other}"), events)),
        ("unput", lambda s: s.delete_model(make_model(number).id, events)),
        ("term", lambda s: s.next_term()),
        ("install", lambda s: s.installation(f"{number}")),
    ]
    # Endpoints are where the rules are: draw them more often.
    return draw(st.sampled_from([*options[:5], *options[:5], *options]))


async def outcome(call: Call, store: Store) -> Any:
    """What a call returned or how it failed."""
    try:
        return await call[1](store)
    except RoostError as error:
        return type(error), error.code, error.message


def unnumbered(events: Any) -> list[Event]:
    """Events without their sequence, which may have gaps."""
    return [replace(event, sequence=None) for event in events]


async def contents(store: Store) -> Any:
    """Everything that a store shows."""
    return (
        list(await store.endpoints()),
        list(await store.endpoints(deleted=True)),
        list(await store.replicas()),
        [list(await store.replicas(endpoint_id(number))) for number in range(4)],
        [await store.endpoint(endpoint_id(number)) for number in range(4)],
        [await store.endpoint_by_name(f"roost/{number}") for number in range(4)],
        list(await store.keys()),
        list(await store.models()),
        unnumbered(await store.events()),
        unnumbered(await store.events(endpoint_id=endpoint_id(1), newest_first=True, limit=3)),
    )


async def run(sequence: list[Call]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory, sql = registry.store("memory://"), registry.store(f"sqlite:///{folder}/roost.db")
        await memory.open()
        await sql.open()
        try:
            for call in sequence:
                assert await outcome(call, memory) == await outcome(call, sql), call[0]
            assert await contents(memory) == await contents(sql)
        finally:
            await sql.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(calls(), min_size=10, max_size=40))
def test_memory_and_sqlite_are_alike(sequence: list[Call]) -> None:
    asyncio.run(run(sequence))
