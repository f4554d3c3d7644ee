"""The API reference as a page: its code blocks and the rows of its tables. Pure, but for ``Reference.read``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "calls.md"
"""The project's own page of these calls."""


@dataclass(frozen=True)
class Block:
    """A fenced block. ``number`` counts the blocks of one language below a heading."""

    heading: str
    language: str
    number: int
    code: str

    @property
    def kind(self) -> str:
        """``python``, ``typescript``, ``json``; of shell blocks, the command: ``curl`` or ``together``."""
        if self.language != "shell":
            return self.language
        return next(line.split()[0] for line in self.code.splitlines() if line and not line.startswith("#"))

    @property
    def title(self) -> str:
        return f"{self.heading}: {self.kind}"


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells, without the marks of code."""

    heading: str
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.cells[0]


@dataclass(frozen=True)
class Reference:
    """All blocks and rows of a page, in its order. Lists below a heading count as rows with one cell."""

    blocks: tuple[Block, ...]
    rows: tuple[Row, ...]

    @staticmethod
    def read(path: Path) -> Reference:
        """The page in a file."""
        return parse(path.read_text())


def parse(text: str) -> Reference:
    """A page in Markdown."""
    blocks: list[Block] = []
    rows: list[Row] = []
    heading, language = "", ""
    code: list[str] | None = None
    for line in text.splitlines():
        if code is not None:
            if line == "```":
                number = sum(block.heading == heading and block.language == language for block in blocks)
                blocks.append(Block(heading, language, number, "\n".join(code)))
                code = None
            else:
                code.append(line)
        elif line.startswith("```"):
            language, code = line.removeprefix("```"), []
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| ") and not _is_head(line, text):
            rows.append(Row(heading, tuple(_plain(cell) for cell in line.strip("| ").split(" | "))))
        elif line.startswith("- `"):
            rows.append(Row(heading, (_plain(line.removeprefix("- ").split(" (")[0]),)))
    return Reference(tuple(blocks), tuple(rows))


def _is_head(line: str, text: str) -> bool:
    after = text[text.index(line) + len(line) :].lstrip("\n")
    return re.match(r"\|[-|: ]+\|\n", after) is not None


def _plain(cell: str) -> str:
    return cell.strip().strip("`")
