"""The compatibility table as text: made from what a run found, and read back to be compared. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

Cells = Mapping[tuple[str, str], str]
"""(feature, client) to ``yes``, ``no`` or ``-`` (the client has no such call)."""

BEGIN = "<!-- made by `make compatibility` -->"
END = "<!-- end -->"
NOT_OFFERED = "-"


def rendered(cells: Cells, features: Sequence[str], clients: Sequence[str]) -> str:
    """The table, features down, clients across."""
    head = "| | " + " | ".join(clients) + " |"
    rule = "|---" * (len(clients) + 1) + "|"
    rows = [f"| {f} | " + " | ".join(cells.get((f, c), "?") for c in clients) + " |" for f in features]
    return "\n".join([head, rule, *rows])


def read(page: str) -> dict[tuple[str, str], str]:
    """The cells of the table in ``page``."""
    found: dict[tuple[str, str], str] = {}
    rows = [_parts(line) for line in _between(page).splitlines() if line.startswith("|")]
    if not rows:
        return found
    clients = rows[0][1:]
    for row in rows[2:]:
        found |= {(row[0], client): cell for client, cell in zip(clients, row[1:], strict=True)}
    return found


def replaced(page: str, table: str) -> str:
    """``page`` with ``table`` in the place of its own."""
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    return f"{page[:start]}\n\n{table}\n\n{page[end:]}"


def worst(outcomes: Iterable[str]) -> str:
    """``no`` where any is."""
    return "no" if "no" in set(outcomes) else "yes"


def _between(page: str) -> str:
    return page[page.index(BEGIN) : page.index(END)]


def _parts(line: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]
