"""What /proc says, and which processes a dead supervisor left behind."""

from __future__ import annotations

import os
import sys

from roost.runtimes.supervision import process
from roost.runtimes.supervision.process import Stat, descendants, left_over, parse_stat


def one(pid: int, parent: int = 1, session: int = 0, started: int = 100, state: str = "S") -> Stat:
    return Stat(pid, state, parent, session, started)


def pids(found: list[Stat]) -> set[int]:
    return {stat.pid for stat in found}


def test_command_names_with_blanks_and_parentheses() -> None:
    line = "42 (a b) c) Z 7 42 41 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 9876 0 0"
    stat = parse_stat(line)
    assert (stat.pid, stat.state, stat.parent, stat.session, stat.started) == (42, "Z", 7, 41, 9876)
    assert not stat.alive


def test_this_process_is_in_the_snapshot() -> None:
    own = process.stat(os.getpid())
    assert own is not None
    assert own.alive
    assert (own.parent, own.session) == (os.getppid(), os.getsid(0))
    assert os.getpid() in pids(process.snapshot())
    assert process.stat(2**22 + 1) is None


def test_descendants_are_found_through_the_dead() -> None:
    processes = [one(2), one(3, parent=2, state="Z"), one(4, parent=3), one(5, parent=1), one(6, parent=4)]
    assert pids(descendants(2, processes)) == {4, 6}


def test_the_marker_is_enough() -> None:
    processes = [one(10), one(11), one(12, state="Z")]
    assert pids(left_over(processes, {11, 12}, None, None)) == {11}


def test_an_engine_that_lost_its_marker_is_known_by_pid_start_and_session() -> None:
    processes = [one(10, session=10, started=500), one(11, session=10, started=510), one(12, session=12, started=510)]
    assert pids(left_over(processes, set(), 10, 500)) == {10, 11}


def test_the_children_of_a_dead_engine_are_known_by_its_session() -> None:
    assert pids(left_over([one(11, session=10, started=510), one(12)], set(), 10, 500)) == {11}


def test_a_reused_pid_is_not_the_engine() -> None:
    processes = [one(10, session=10, started=900), one(11, session=10, started=910)]
    assert left_over(processes, set(), 10, 500) == []


def test_a_session_older_than_the_engine_is_not_its_own() -> None:
    assert left_over([one(11, session=10, started=400)], set(), 10, 500) == []


def test_kill_spares_a_process_that_started_at_another_time() -> None:
    own = process.stat(os.getpid())
    assert own is not None
    process.kill(one(os.getpid(), started=own.started - 1), 9)  # this test would not live to see the next line
    process.kill(one(2**22 + 1), 9)


def test_processes_are_found_by_their_marker() -> None:
    reader, writer = os.pipe()
    environment = {process.MARKER: "replica-1/cafe"}
    code = "import sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    stdin, keep = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, writer, 1)]
    pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", code], environment, file_actions=actions)
    assert os.read(reader, 1) == b"x"
    assert process.marked("replica-1/cafe") == {pid}
    assert process.marked("replica-1/caf") == set()
    os.close(keep)
    assert os.waitpid(pid, 0) == (pid, 0)
    for fd in (reader, writer, stdin):
        os.close(fd)
