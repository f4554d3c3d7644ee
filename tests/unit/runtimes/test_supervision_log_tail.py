"""The supervisor's log tail."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from roost.runtimes.log_file import last_lines
from roost.runtimes.supervision.log_tail import MAX_LINE_BYTES, LogTail


@given(lines=st.lists(st.text(st.characters(codec="ascii", exclude_characters="\r\n")), max_size=20), data=st.data())
def test_pieces_of_any_size_become_the_same_lines(lines: list[str], data: st.DataObject) -> None:
    output = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(output)), max_size=8)))
    log = LogTail("/dev/null", max_lines=5)
    for start, end in zip([0, *cuts], [*cuts, len(output)], strict=True):
        log.feed(output[start:end])
    assert log.lines(100) == lines[-5:]
    assert log.lines(2) == lines[-2:]
    log.close()


def test_an_unfinished_line_counts_and_redrawn_lines_show_their_last_state() -> None:
    log = LogTail("/dev/null")
    log.feed(b"10%\r50%\r100%\r\nloading \xff")
    assert log.lines(5) == ["100%", "loading \N{REPLACEMENT CHARACTER}"]
    assert log.lines(0) == []
    log.close()


def test_endless_lines_are_cut() -> None:
    log = LogTail("/dev/null", max_lines=3)
    for _ in range(10):
        log.feed(b"x" * MAX_LINE_BYTES)
    assert all(len(line) <= MAX_LINE_BYTES for line in log.lines(10))
    assert len(log.lines(10)) <= 4
    log.close()


def test_the_file_is_private_and_rotates(tmp_path: Path) -> None:
    path = tmp_path / "replica-1.log"
    log = LogTail(str(path), max_file_bytes=100)
    for number in range(30):
        log.feed(b"line %d\n" % number)
    log.close()
    assert path.stat().st_mode & 0o777 == 0o600
    rotated = path.with_name("replica-1.log.1")
    assert path.stat().st_size <= 100
    assert 100 <= rotated.stat().st_size <= 110
    kept = last_lines(path, 1000)
    assert kept == tuple(f"line {number}" for number in range(30 - len(kept), 30))
    assert last_lines(path, 3) == ("line 27", "line 28", "line 29")
    assert last_lines(path, 0) == ()


def test_a_file_that_cannot_be_written_is_mentioned_once() -> None:
    log = LogTail("/dev/full")
    log.feed(b"one\n")
    log.feed(b"two\n")
    assert log.lines(10) == ["[roost] cannot write /dev/full: No space left on device", "one", "two"]
    log.close()


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none.log", 10) == ()
