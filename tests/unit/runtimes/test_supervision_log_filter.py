"""What of an engine's output is kept once it serves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.runtimes.supervision.log_filter import LogFilter
from roost.runtimes.supervision.log_tail import MAX_LINE_BYTES

OPEN = b"loading weights\n\nserving\n"


def made() -> LogFilter:
    return LogFilter("serving", ["ERROR \\d+", "WARNING$"])


@given(cuts=st.lists(st.integers(0, 90), max_size=8))
def test_everything_until_it_serves_and_then_what_a_pattern_covers(cuts: list[int]) -> None:
    output = OPEN + b"loading weights\nERROR 17\nERROR 18: hush\n ERROR 19\nWARNING\nWARNING hush\nERROR 20 hush"
    log, kept = made(), b""
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(output)], strict=True):
        kept += log.feed(output[start:end])
    assert kept == OPEN + b"ERROR 17\nERROR 18 [...]\nWARNING\n"
    assert log.end() == b"ERROR 20 [...]\n"
    assert log.end() == b""


def test_of_an_endless_line_no_part_is_taken_for_a_line() -> None:
    log = made()
    log.feed(OPEN + b"x" * MAX_LINE_BYTES)
    for _ in range(3):
        assert log.feed(b"ERROR 1") == b""
    assert log.feed(b"\nERROR 2\n") == b"ERROR 2\n"
