"""What is printed, at a terminal and into a pipe."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cli.format import at, dollars_a_minute, in_bytes, in_minutes
from roost.cli.output import Aside, Output, aligned, fitting, printable, table_width
from roost.cli.watch import ProgressLine


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def streams(kind: type[io.StringIO]) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    out, err = kind(), kind()
    with redirect_stdout(out), redirect_stderr(err):
        yield out, err


def test_a_table_into_a_pipe_is_aligned_text() -> None:
    with streams(io.StringIO) as (out, err):
        Output().table(("ID", "STATE"), [("endpoint-1", "STARTED"), ("e", "ERROR")], empty="none")
    assert out.getvalue() == "ID          STATE\nendpoint-1  STARTED\ne           ERROR\n"
    assert err.getvalue() == ""


def shown(text: str) -> list[list[str]]:
    """The rows of a table at a terminal, without its colours, blank lines and rule."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    return [line.split() for line in lines if line.strip(" ─")]


ID = "endpoint-" + "0123456789" * 4
ROW = ((ID, "owner/model-" + "x" * 40, "[red]x", "12"),)


@pytest.mark.parametrize(
    ("columns", "kept"), [(160, [0, 1, 2, 3]), (100, [0, 2, 3]), (62, [0, 2]), (61, [0, 2]), (20, [0, 2])]
)
def test_a_narrow_terminal_gets_fewer_columns_and_every_cell_whole(
    monkeypatch: pytest.MonkeyPatch, columns: int, kept: list[int]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    headings = ("ID", "NAME", "STATE", "SIZE")
    with streams(Terminal) as (out, err):
        Output().table(headings, ROW, empty="none", spare=("NAME", "SIZE"))
    assert shown(out.getvalue()) == [[headings[index] for index in kept], [ROW[0][index] for index in kept]]
    missing = [name for index, name in enumerate(headings) if index not in kept]
    assert err.getvalue() == (
        f"Too narrow for {', '.join(missing)}: widen the terminal, or see --json.\n" if missing else ""
    )


@given(
    st.dictionaries(st.text(alphabet="ABCDEF", min_size=1), st.integers(1, 60), min_size=1),
    st.integers(1, 200),
    st.data(),
)
def test_no_column_is_left_out_in_vain(widths: dict[str, int], room: int, data: st.DataObject) -> None:
    spare = data.draw(st.lists(st.sampled_from(sorted(widths)), unique=True, max_size=len(widths) - 1))
    kept = fitting(widths, spare, room)
    left_out = [name for name in spare if name not in kept]
    assert kept == [name for name in widths if name not in left_out]
    assert table_width({name: widths[name] for name in kept}) <= room or left_out == spare
    for name in left_out:
        assert table_width({name: widths[name] for name in (*kept, name)}) > room


def test_text_is_broken_between_words_at_a_terminal_and_not_at_all_into_a_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = f"2026-11-24  {ID}  a reason of some-what more words than fit"
    with streams(Terminal) as (out, _):
        Output().text(text)
    lines = out.getvalue().splitlines()
    assert len(lines) > 1
    assert [word for line in lines for word in line.split()] == text.split()
    assert [line for line in lines if len(line) > 40 and line.split() != [ID]] == []
    with streams(io.StringIO) as (out, _):
        Output().text(text)
    assert out.getvalue() == f"{text}\n"


def test_beside_a_result_for_programs_text_goes_to_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    with streams(Terminal) as (out, err):
        Aside().text("some more words")
    assert (out.getvalue(), err.getvalue()) == ("", "some more\n    words\n")


def test_an_empty_table_leaves_stdout_alone() -> None:
    with streams(Terminal) as (out, err):
        Output().table(("ID",), [], empty="Nothing yet.")
    assert (out.getvalue(), err.getvalue()) == ("", "Nothing yet.\n")


def test_json_keeps_the_order_of_keys_and_every_letter() -> None:
    with streams(io.StringIO) as (out, _):
        Output().json({"b": "Hühner", "a": [1]})
    assert out.getvalue() == '{\n  "b": "Hühner",\n  "a": [\n    1\n  ]\n}\n'


def test_details_are_labelled_and_go_on() -> None:
    with streams(io.StringIO) as (out, _):
        Output().details([("ID", "1"), ("Log", "a"), ("", "b\x1b[2J")])
    assert out.getvalue() == "ID:  1\nLog: a\n     b\N{REPLACEMENT CHARACTER}[2J\n"


def test_streamed_text_cannot_rule_a_terminal_but_passes_a_pipe() -> None:
    with streams(Terminal) as (out, _):
        Output().raw("a\n\tb\x1b]0;title\x07")
    assert out.getvalue() == "a\n\tb\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}"
    with streams(io.StringIO) as (out, _):
        Output().raw("\x1b[1m")
    assert out.getvalue() == "\x1b[1m"


def test_a_terminal_is_known_by_its_stream() -> None:
    out = Output()
    with redirect_stdout(Terminal()), redirect_stderr(io.StringIO()):
        assert out.interactive
        assert not out.shows_progress
        assert sys.stdout.isatty()


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=9))
def test_aligned_rows_stay_one_line_each(rows: list[tuple[str, str, str]]) -> None:
    lines = aligned(rows)
    assert len(lines) == len(rows)
    assert not any("\n" in line or "\x1b" in line for line in lines)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_printable_text_is_left_alone(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (98_362_432, "98.4 MB")],
)
def test_bytes(count: int, text: str) -> None:
    assert in_bytes(count) == text


@given(st.integers(min_value=0, max_value=10**15 - 10**12))
def test_bytes_never_show_a_thousand(count: int) -> None:
    assert float(in_bytes(count).split()[0]) < 1000


def test_times_name_their_zone() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert at(moment) == "2026-01-02 03:04:05 UTC"
    assert at(moment.astimezone(timezone(timedelta(hours=2)))) == "2026-01-02 05:04:05 UTC+02:00"


def test_amounts_of_time_and_money() -> None:
    assert [in_minutes(60), in_minutes(0), in_minutes(None)] == ["60 min", "never", "never"]
    assert [dollars_a_minute(5.5), dollars_a_minute(250), dollars_a_minute(0)] == ["$0.0550", "$2.50", "$0.0000"]


def test_progress_at_a_terminal_overwrites_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with streams(Terminal) as (out, err), ProgressLine(Output()) as progress:
        progress.show("STARTING · loading", "a")
        progress.show("STARTING · warming", "b")
    assert out.getvalue() == ""
    assert "STARTING · warming" in err.getvalue()
    # At the end the line is gone and the cursor is back.
    _, _, after = err.getvalue().rpartition("warming")
    assert "\x1b[2K" in after
    assert "\x1b[?25h" in after


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_what_progress_says_stays(monkeypatch: pytest.MonkeyPatch, kind: type[io.StringIO]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with streams(kind) as (_, err), ProgressLine(Output()) as progress:
        progress.say("Hint: [b]wait[/b]")
    assert "Hint: [b]wait[/b]\n" in err.getvalue()


def test_progress_into_a_log_is_a_line_for_each_piece_of_news() -> None:
    with streams(io.StringIO) as (_, err), ProgressLine(Output()) as progress:
        for line, key in (("a 1", "a"), ("a 2", "a"), ("b", "b"), ("a 3", "a")):
            progress.show(line, key)
    assert err.getvalue() == "a 1\nb\na 3\n"


def test_a_short_column_is_put_back_where_a_long_one_had_to_go() -> None:
    widths = {"ID": 10, "STATE": 8, "NAME": 40, "CREATED": 10}
    assert fitting(widths, ("CREATED", "NAME"), 80) == ["ID", "STATE", "NAME", "CREATED"]
    assert fitting(widths, ("CREATED", "NAME"), 70) == ["ID", "STATE", "NAME"]
    assert fitting(widths, ("CREATED", "NAME"), 50) == ["ID", "STATE", "CREATED"]
    assert fitting(widths, ("CREATED", "NAME"), 30) == ["ID", "STATE"]
