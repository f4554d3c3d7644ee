"""What there is instead: the choices that follow the refusal of a model or of hardware. Uses the client only."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from roost.cli import describe
from roost.cli.failure import CommandFailed, code_of_status, in_commands
from roost.cli.session import Session

if TYPE_CHECKING:
    from roost.client.errors import ApiError

CLOSE = 3
"""How many similar names are suggested."""


def explained(session: Session, error: ApiError, model: str) -> Exception:
    """The refusal of a request about ``model`` with what there is to choose from; others as they are."""
    if error.code == "model_not_found":
        return CommandFailed(
            in_commands(error.message), lines=_models_like(session, model), code=code_of_status(error.status)
        )
    if error.param == "hardware":
        # The wire message sends its reader to the hardware API; here what that would say follows at once.
        message, _, _ = error.message.partition(" Please check the hardware API")
        return CommandFailed(message, lines=hardware_for(session, model), code=code_of_status(error.status))
    return error


def hardware_for(session: Session, model: str) -> tuple[str, ...]:
    """The hardware that fits the model, as lines."""
    from roost.cli.output import aligned
    from roost.client import requests
    from roost.client.errors import ApiError

    try:
        offers = session.client.send(requests.list_hardware(model)).value.data
    except ApiError as error:
        raise explained(session, error, model) from error
    if not offers:
        return (f"No hardware of this server can hold {model}.",)
    # Type and count are in the id, too; without them lines fit a usual terminal.
    shown = [index for index, name in enumerate(describe.HARDWARE_COLUMNS) if name not in ("TYPE", "COUNT")]
    table = [describe.HARDWARE_COLUMNS, *(describe.hardware_row(offer) for offer in offers)]
    rows = [[row[index] for index in shown] for row in table]
    return ("Hardware for this model:", *(f"  {line}" for line in aligned(rows)))


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Known names that ``name`` may be meant for, the likeliest first: close in spelling, or a part of it."""
    names = sorted(set(known))
    by_lower = {candidate.lower(): candidate for candidate in reversed(names)}
    wanted = name.lower()
    tails = {candidate.rpartition("/")[2]: candidate for candidate in by_lower}
    close = get_close_matches(wanted, by_lower, n=CLOSE)
    close += [tails[tail] for tail in get_close_matches(wanted.rpartition("/")[2], tails, n=CLOSE)]
    close += [candidate for candidate in by_lower if len(wanted) > 2 and wanted in candidate]
    return [by_lower[candidate] for candidate in dict.fromkeys(close)][:CLOSE]


def _models_like(session: Session, model: str) -> tuple[str, ...]:
    from roost.client import requests

    listed = session.client.send(requests.list_models()).value.data
    found = similar(model, (name for item in listed for name in (item.id, item.alias) if name))
    return (f"Did you mean {' or '.join(found)}?",) if found else ()
