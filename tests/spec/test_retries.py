"""The SDKs repeat what they got no answer to, by themselves: a create is done once all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.spec import driven
from tests.spec.conftest import Opened
from tests.spec.lossy import Lossy
from tests.spec.stage import Stage


@pytest.fixture
def lossy(stage: Stage) -> Iterator[Lossy]:
    with Lossy(stage.server.origin, lose=2) as relay:
        yield relay


def through(relay: Lossy, kind: type[driven.Driven]) -> type[driven.Driven]:
    """The client, with its base URL at the relay."""

    class Through(kind):  # type: ignore[valid-type, misc]
        def environment(self) -> dict[str, str]:
            told: dict[str, str] = super().environment()
            return told | {"TOGETHER_BASE_URL": f"{relay.origin}/v1"}

    return Through


def created(kind: type[driven.Driven], stage: Stage, relay: Lossy) -> tuple[dict[str, Any], set[str]]:
    """What the client got in the end, and the ids of all that was made for it."""
    before = set(stage.ids())
    client: Any = through(relay, kind)(stage)
    try:
        made: dict[str, Any] = client.create(**stage.body(display_name="once"))
    finally:
        client.close()
    assert sum(head.startswith("POST") for head in relay.seen) == 3
    return made, set(stage.ids()) - before


@pytest.mark.parametrize(
    "kind", [driven.Together, driven.AsyncTogether, driven.Classic, driven.TypeScript], ids=lambda kind: kind.title
)
def test_a_create_whose_answers_are_lost_is_one_endpoint(
    kind: type[driven.Driven], stage: Stage, lossy: Lossy, opened: Opened
) -> None:
    opened(kind)
    made, all_of_it = created(kind, stage, lossy)
    counts = [line for head in lossy.seen for line in head.lower().splitlines() if "retry-count" in line]
    # The 1.x SDK repeats without saying so.
    assert [line.partition(":")[2].strip() for line in counts] == ([] if kind is driven.Classic else ["0", "1", "2"])
    assert all_of_it == {made["id"]}
