"""Shared files have one writer each, and what a dead writer left goes on; two workers share one log."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from roost.gateway import counters
from roost.gateway.access_log import AccessLog, written
from roost.gateway.counters import Counters, read_all
from roost.gateway.own_file import claim
from roost.gateway.usage import UNKNOWN


def test_a_file_in_use_is_not_given_twice_and_a_free_one_again(folder: Path) -> None:
    first, held = claim(folder / "numbers-0")
    second, other = claim(folder / "numbers-0")
    assert (first.name, second.name) == ("numbers-0", "numbers-0.1")
    os.close(held)
    third, again = claim(folder / "numbers-0")
    assert third == first
    os.close(other)
    os.close(again)


def test_the_sum_never_falls_while_one_worker_hands_over_to_the_next(folder: Path) -> None:
    def total() -> int:
        return sum(cells[counters.SENT] for cells in read_all(folder))

    old = Counters(folder / "counters-0")
    old.cells[counters.SENT] += 5
    old.publish()
    new = Counters(folder / "counters-0")
    new.cells[counters.SENT] += 3
    new.publish()
    assert total() == 8
    old.cells[counters.SENT] += 1
    old.close()
    assert total() == 9
    third = Counters(folder / "counters-0")
    assert total() == 9
    third.cells[counters.SENT] += 1
    third.publish()
    assert total() == 10
    new.close()
    third.close()
    assert total() == 10


def test_a_log_that_the_other_worker_set_aside_is_followed(folder: Path) -> None:
    path = folder / "gateway-0.access.log"
    old, new = AccessLog(path), AccessLog(path)
    os.replace(path, folder / "gateway-0.access.log.1")
    for log, name in ((new, b"one"), (old, b"two")):
        place = written((b"GET", b"/healthz", 200, None, None, None, "completed"))
        log.add(0.0, name, place, 0.0, None, 0, 0, UNKNOWN)
        log.flush()
    lines = [orjson.loads(line)["request_id"] for line in path.read_bytes().splitlines()]
    assert lines == ["one", "two"]
    old.close()
    new.close()
