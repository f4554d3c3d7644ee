"""Who may run where, and in which order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from roost.domain.hardware import Node, Resources
from roost.domain.launch import LaunchSpec
from roost.domain.replica import PendingReason
from roost.runtimes.reservation import admit


def node(name: str = "node-1", threads: int = 4, free: int | None = None, **fields: object) -> Node:
    total = Resources(threads=threads, memory_bytes=100)
    one = Node(name, "zone-a", "cpu", total, replace(total, threads=threads if free is None else free))
    return replace(one, **fields)  # type: ignore[arg-type]


def want(threads: int = 1, **fields: object) -> LaunchSpec:
    one = LaunchSpec("endpoint-1", (), Resources(threads=threads, memory_bytes=1), "cpu")
    return replace(one, **fields)  # type: ignore[arg-type]


def test_what_fits_is_admitted_oldest_first() -> None:
    decision = admit({"a": want(2), "b": want(2), "c": want(1)}, [node()])
    assert list(decision.admitted.items()) == [("a", "node-1"), ("b", "node-1")]
    assert decision.waiting["c"].reason is PendingReason.NO_RESOURCES
    assert decision.waiting["c"].message == "Waiting for room: node node-1: CPU threads: 1 wanted, 0 free."


def test_a_small_one_does_not_overtake_a_large_one() -> None:
    decision = admit({"large": want(4), "small": want(1)}, [node(free=2)])
    assert decision.admitted == {}
    assert decision.waiting["small"].message == "Waiting for room: node node-1: large waits for it too and came first."


def test_a_small_one_may_use_a_node_that_the_large_one_cannot() -> None:
    decision = admit({"large": want(4), "small": want(1)}, [node(free=2), node("node-2", threads=2)])
    assert decision.admitted == {"small": "node-2"}


def test_the_fullest_fitting_node_is_taken_so_that_large_holes_stay_large() -> None:
    assert admit({"a": want(2)}, [node(), node("node-2", free=2)]).admitted == {"a": "node-2"}


def test_what_fits_nowhere_ever_is_infeasible_and_says_what_is_lacking() -> None:
    wait = admit({"a": want(5)}, [node()]).waiting["a"]
    assert wait.reason is PendingReason.INFEASIBLE
    assert wait.message == "No node could ever hold it: node node-1: CPU threads: 5 wanted, 4 free."


def test_constraints_nobody_meets_are_named_with_what_there_is() -> None:
    for spec, words in (
        (want(zone="zone-b"), "no node with cpu in zone zone-b"),
        (want(node_id="node-9"), "no node node-9 with cpu"),
        (want(accelerator="gpu"), "no node with gpu"),
    ):
        wait = admit({"a": spec}, [node()]).waiting["a"]
        assert wait.reason is PendingReason.INFEASIBLE
        assert words in wait.message
        assert "node-1 (cpu, zone zone-a)" in wait.message
    assert "Known nodes: none." in admit({"a": want()}, []).waiting["a"].message


def test_a_node_that_does_not_answer_takes_nothing_but_may_come_back() -> None:
    wait = admit({"a": want()}, [node(healthy=False)]).waiting["a"]
    assert wait.reason is PendingReason.NO_RESOURCES
    assert "does not answer" in wait.message


specs = st.builds(want, threads=st.integers(0, 6), zone=st.sampled_from([None, "zone-a", "zone-b"]))
free_nodes = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 5), st.sampled_from(["zone-a", "zone-b"])), max_size=4
)


@given(queue=st.lists(specs, max_size=8), nodes=free_nodes)
def test_nothing_is_given_twice_and_nobody_is_overtaken(
    queue: list[LaunchSpec], nodes: list[tuple[int, int, str]]
) -> None:
    offered = [node(f"node-{i}", t, min(t, f), zone=zone) for i, (t, f, zone) in enumerate(nodes)]
    named = {f"replica-{i}": spec for i, spec in enumerate(queue)}
    decision = admit(named, offered)
    assert set(decision.admitted) | set(decision.waiting) == set(named)
    assert not set(decision.admitted) & set(decision.waiting)
    for one in offered:
        used = sum(named[r].resources.threads for r, n in decision.admitted.items() if n == one.id)
        assert used <= one.free.threads
    order = list(named)
    for replica_id, node_id in decision.admitted.items():
        for earlier in order[: order.index(replica_id)]:
            is_blocked = decision.waiting.get(earlier)
            if is_blocked is not None and is_blocked.reason is PendingReason.NO_RESOURCES:
                (target,) = [one for one in offered if one.id == node_id]
                could = named[earlier].zone in (None, target.zone) and named[earlier].resources.fits(target.total)
                assert not could
