"""``--expires``: when a key ends, as people write it. Pure; called by ``cli.commands.keys``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from roost.cli.failure import CommandFailed, ExitCode

_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def expiry(text: str, now: datetime) -> datetime:
    """The moment that ``text`` means: a duration from ``now`` on (``30d``, ``12h``) or a time in RFC 3339.

    Raises ``CommandFailed`` for anything else, and for a time that is over.
    """
    duration = _DURATION.fullmatch(text.strip().lower())
    try:
        if duration is not None:
            moment = now + timedelta(**{_UNITS[duration[2]]: int(duration[1])})
        else:
            moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise CommandFailed(
            f"--expires takes a duration such as 30d or 12h, or a time with its zone such as 2027-01-31T12:00:00Z, "
            f"not {text!r}.",
            code=ExitCode.USAGE,
        )
    if moment <= now:
        raise CommandFailed(f"--expires lies in the past: {text}.", code=ExitCode.USAGE)
    return moment
