"""What commands print: tables for people at a terminal, aligned plain text into a pipe, the API's JSON on demand.

Called by the commands. Results go to stdout, everything else to stderr, so that stdout can be piped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import typer

STATE_STYLES = {"STARTED": "green", "ready": "green", "ERROR": "red", "failed": "red"}
"""Colours of words that say how something is, at a terminal."""


class Output:
    """The two streams of a command, looked up when used."""

    @property
    def interactive(self) -> bool:
        """Whether results are read at a terminal."""
        return _is_terminal(sys.stdout)

    @property
    def shows_progress(self) -> bool:
        """Whether a line on stderr may be overwritten."""
        return _is_terminal(sys.stderr)

    def json(self, value: Any) -> None:
        """Print a JSON value, indented, its keys in the order of the API."""
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False))

    def line(self, text: str) -> None:
        """Print one line of result."""
        typer.echo(printable(text))

    def note(self, text: str) -> None:
        """Print one line about what happens, on stderr."""
        typer.echo(printable(text), err=True)

    def raw(self, text: str) -> None:
        """Print text as it comes, without an end of line."""
        sys.stdout.write(printable(text, keep="\n\t") if self.interactive else text)
        sys.stdout.flush()

    def text(self, text: str) -> None:
        """Print one piece of result: one line into a pipe, at a terminal broken between words and never within one."""
        if self.interactive:
            for line in broken(printable(text)):
                typer.echo(line)
        else:
            self.line(text)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, spare: Sequence[str] = ()
    ) -> None:
        """Print rows under headings; ``empty`` is said on stderr when there are none.

        Cells are never broken, so that they can be copied. A terminal too narrow for all columns gets fewer: those in
        ``spare`` are left out, the first one first, and named on stderr.
        """
        if not rows:
            self.note(empty)
        elif self.interactive:
            left_out = _print_rich_table(columns, rows, spare)
            if left_out:
                self.note(f"Too narrow for {', '.join(left_out)}: widen the terminal, or see --json.")
        else:
            for text in aligned([list(columns), *rows]):
                typer.echo(text)

    def details(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Print labelled values, one a line; an empty label goes on with the one before."""
        width = max(len(label) for label, _ in pairs) + 2
        for label, value in pairs:
            typer.echo(f"{label + ':' if label else '':<{width}}{printable(value)}")


class Aside(Output):
    """All that a command says to people goes to stderr, since what it prints is for a program."""

    def line(self, text: str) -> None:
        """Print one line, beside the result."""
        self.note(text)

    def text(self, text: str) -> None:
        """Print one piece, beside the result."""
        if self.shows_progress:
            for line in broken(printable(text)):
                self.note(line)
        else:
            self.note(text)

    def raw(self, text: str) -> None:
        """Print text as it comes, beside the result."""
        sys.stderr.write(printable(text, keep="\n\t"))
        sys.stderr.flush()


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with columns two blanks apart, without blanks at the end."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def printable(text: str, *, keep: str = "") -> str:
    """The text without control characters, which could rule the terminal; those in ``keep`` stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def broken(text: str) -> list[str]:
    """The line as lines that fit the terminal, broken between words; a blank one stays."""
    from shutil import get_terminal_size
    from textwrap import wrap

    width = get_terminal_size().columns
    return wrap(text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False) or [""]


def table_width(widths: Mapping[str, int]) -> int:
    """How wide a table with columns of these widths is at a terminal: three blanks between, one at each edge."""
    return sum(widths.values()) + 3 * (len(widths) - 1) + 2


def fitting(widths: Mapping[str, int], spare: Sequence[str], room: int) -> list[str]:
    """The columns that are shown in ``room`` characters, in their order; ``widths`` are those of their cells.

    Those in ``spare`` are left out one after the other until the rest fits, and those are put back, the last one first,
    that fit all the same; the others stay even if they do not.
    """
    left_out: list[str] = []
    for column in spare:
        if table_width(_without(widths, left_out)) <= room:
            break
        left_out.append(column)
    for column in tuple(reversed(left_out)):
        fewer = [name for name in left_out if name != column]
        if table_width(_without(widths, fewer)) <= room:
            left_out = fewer
    return list(_without(widths, left_out))


def _without(widths: Mapping[str, int], left_out: Sequence[str]) -> Mapping[str, int]:
    return {column: width for column, width in widths.items() if column not in left_out}


def _print_rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str]) -> tuple[str, ...]:
    """Print it, and return the columns that were left out."""
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [dict(zip(columns, map(printable, row), strict=True)) for row in rows]
    widths = {column: max(cell_len(text) for text in (column, *(row[column] for row in cells))) for column in columns}
    console = Console(file=sys.stdout)
    shown = fitting(widths, spare, console.width)
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in shown:
        # What does not fit runs over the edge: a terminal joins it again when it is copied.
        table.add_column(column, no_wrap=True, min_width=widths[column])
    for row in cells:
        table.add_row(*(Text(row[column], style=STATE_STYLES.get(row[column], "")) for column in shown))
    console.width = max(console.width, table_width({column: widths[column] for column in shown}))
    console.print(table)
    return tuple(column for column in columns if column not in shown)
