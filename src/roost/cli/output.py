"""What commands print: tables for people at a terminal, aligned plain text into a pipe, the API's JSON on demand.

Called by the commands. Results go to stdout, everything else to stderr, so that stdout can be piped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
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

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
        """Print rows under headings; ``empty`` is said on stderr when there are none."""
        if not rows:
            self.note(empty)
        elif self.interactive:
            _print_rich_table(columns, rows)
        else:
            for text in aligned([list(columns), *rows]):
                typer.echo(text)

    def details(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Print labelled values, one a line; an empty label goes on with the one before."""
        width = max(len(label) for label, _ in pairs) + 2
        for label, value in pairs:
            typer.echo(f"{label + ':' if label else '':<{width}}{printable(value)}")


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


def _print_rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell), style=STATE_STYLES.get(cell, "")) for cell in row))
    Console(file=sys.stdout).print(table)
