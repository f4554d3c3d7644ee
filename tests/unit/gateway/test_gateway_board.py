"""Numbers that workers share: two boards in one process, and two processes."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.gateway.board import Board

NAMES = [f"replica-{number}" for number in range(6)]
steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["put", "put", "put", "forget"]),
        st.sampled_from(NAMES),
        st.integers(-(2**62), 2**62),
    ),
    max_size=60,
)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Board, Board]]:
    """Two workers that know each other."""
    one = Board(tmp_path, 0)
    other = Board(tmp_path, 1)
    one.refresh()
    yield one, other
    one.close()
    other.close()


def test_a_lone_worker_shares_with_nobody(tmp_path: Path) -> None:
    board = Board(tmp_path, 0)
    assert (board.shared, board.refresh(), board.others("replica-1")) == (False, False, 0)
    board.close()
    assert list(tmp_path.iterdir()) == []


def test_one_of_several_shares_before_it_has_seen_another(tmp_path: Path) -> None:
    board = Board(tmp_path, 0, workers=2)
    assert board.shared
    board.close()


def test_a_worker_sees_what_others_show_but_not_its_own(pair: tuple[Board, Board]) -> None:
    one, other = pair
    one.put("replica-1", 3)
    other.put("replica-1", 4)
    other.put("replica-2", 5)

    assert (one.shared, other.shared) == (True, True)
    assert [one.others(name) for name in ("replica-1", "replica-2", "replica-3")] == [4, 5, 0]
    assert [other.others(name) for name in ("replica-1", "replica-2")] == [3, 0]


def test_a_worker_that_ends_takes_its_numbers_back(pair: tuple[Board, Board], tmp_path: Path) -> None:
    one, _ = pair
    third = Board(tmp_path, 2)
    assert one.refresh()
    third.put("replica-1", 7)
    assert one.others("replica-1") == 7
    third.close()

    assert one.others("replica-1") == 0
    assert one.refresh()
    assert not one.refresh()


def test_without_files_to_open_nobody_is_taken_for_gone(pair: tuple[Board, Board], tmp_path: Path) -> None:
    one, other = pair
    other.put("replica-1", 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError):
            one.refresh()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert one.others("replica-1") == 2
    assert len(list(tmp_path.iterdir())) == 2
    assert not one.refresh()


def test_a_board_that_is_closed_takes_what_comes_late(pair: tuple[Board, Board]) -> None:
    one, other = pair
    one.put("replica-1", 1)
    one.close()
    one.put("replica-1", 2)
    one.put("replica-2", 3)
    one.forget("replica-1")
    one.close()

    assert [other.others(name) for name in ("replica-1", "replica-2")] == [0, 0]


def test_many_names_find_room(pair: tuple[Board, Board]) -> None:
    one, other = pair
    for number in range(2000):
        one.put(f"replica-{number}", number)
        if number % 500 == 0:
            assert other.others(f"replica-{number}") == number
    for number in range(2000):
        assert other.others(f"replica-{number}") == number


def test_cells_are_used_again(pair: tuple[Board, Board], tmp_path: Path) -> None:
    one, other = pair
    before = sum(path.stat().st_size for path in tmp_path.iterdir())
    for number in range(2000):
        one.put(f"replica-{number}", number)
        assert other.others(f"replica-{number}") == number
        one.forget(f"replica-{number}")
        assert other.others(f"replica-{number}") == 0
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == before


@given(steps)
def test_others_read_what_was_written_last(steps: list[tuple[int, str, str, int]]) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        boards = [Board(folder, 0), Board(folder, 1)]
        for board in boards:
            stack.callback(board.close)
            board.refresh()
        known: list[dict[str, int]] = [{}, {}]
        for who, what, name, value in steps:
            if what == "put":
                boards[who].put(name, value)
                known[who][name] = value
            else:
                boards[who].forget(name)
                known[who].pop(name, None)
            assert [boards[1 - who].others(each) for each in NAMES] == [known[who].get(each, 0) for each in NAMES]


@pytest.mark.parametrize("content", [b"", b"x" * 7, b"x" * 64, bytes(4096)])
def test_other_files_are_not_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "board-1-1-1").write_bytes(content)
    board = Board(tmp_path, 0)
    assert (board.shared, board.others("replica-1")) == (False, 0)
    board.close()


WORKER = """
import sys
from pathlib import Path
from roost.gateway.board import Board
board = Board(Path(sys.argv[1]), 1)
for line in sys.stdin:
    name, value = line.split()
    board.put(name, int(value))
    print(board.others(name), flush=True)
"""


class Worker:
    """Another process with a board."""

    def __init__(self, folder: Path) -> None:
        program = [sys.executable, "-c", WORKER, str(folder)]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def put(self, name: str, value: int) -> int:
        """Let it show a number; what it sees of the others under that name."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(name, value, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_killed_process_counts_for_nothing_and_its_successor_begins_anew(tmp_path: Path) -> None:
    board = Board(tmp_path, 0)
    board.put("replica-1", 2)
    worker = Worker(tmp_path)
    try:
        assert worker.put("replica-1", 5) == 2
        assert board.refresh()
        assert board.others("replica-1") == 5
        for number in range(600):
            worker.put(f"replica-{number}", number)
        assert [board.others(f"replica-{number}") for number in range(600)] == list(range(600))
    finally:
        worker.kill()
    left = [path for path in tmp_path.iterdir() if path.name.startswith("board-1-")]
    assert len(left) == 1
    successor = Worker(tmp_path)
    try:
        assert successor.put("replica-9", 1) == 0
        assert not left[0].exists(), "who comes next clears what was left"
        assert board.refresh()
        assert [board.others(name) for name in ("replica-5", "replica-9")] == [0, 1]
    finally:
        successor.kill()
    assert board.refresh()
    assert not board.shared
    board.close()
    assert list(tmp_path.iterdir()) == []
