"""From an exit to a ``Failure``: the part that is the same for every engine.

Called by engines' ``explain``, third parties' too. Pure. It must never guess: what no rule knows is ``engine_crashed``.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from roost.domain.replica import ExitInfo, Failure


@dataclass(frozen=True, slots=True)
class Rule:
    """A line that explains an end: the first log line that ``pattern`` is found in makes the failure ``code``.

    ``message`` is a sentence without its full stop; the line itself is added to it.
    """

    pattern: re.Pattern[str]
    code: str
    message: str
    hint: str | None = None
    retryable: bool = False


def rule(pattern: str, code: str, message: str, hint: str | None = None, *, retryable: bool = False) -> Rule:
    """A ``Rule`` with its pattern compiled."""
    return Rule(re.compile(pattern), code, message, hint, retryable)


def match(lines: Sequence[str], rules: Sequence[Rule]) -> Failure | None:
    """The failure that the first explaining line stands for (of several rules for one line, the first); None when no
    rule knows any of the lines."""
    for line in lines:
        for each in rules:
            if each.pattern.search(line):
                return Failure(each.code, f"{each.message}: {line.strip()}", each.hint, each.retryable, tuple(lines))
    return None


def crash(exit: ExitInfo) -> Failure:
    """The failure of an exit whose log explains nothing."""
    tail = exit.log_tail
    if exit.cause is not None:
        if exit.cause.startswith("cannot execute"):
            hint = "Check the installation on the replica's machine."
            return Failure("cannot_execute", f"The engine could not be started: {exit.cause}.", hint, False, tail)
        return Failure("runtime_failure", f"The replica ended: {exit.cause}.", None, True, tail)
    if exit.signal == signal.SIGKILL:
        return Failure(
            "engine_killed",
            "The engine was killed (SIGKILL): by hand, or by the kernel when memory ran out.",
            "If nobody killed it, the kernel's log tells (`dmesg`): then choose larger hardware, a smaller model, a "
            "shorter context_length or fewer slots.",
            True,
            tail,
        )
    return Failure("engine_crashed", f"The engine {_ended(exit)}.", "Its last lines say more.", True, tail)


def _ended(exit: ExitInfo) -> str:
    if exit.signal is not None:
        try:
            name = signal.Signals(exit.signal).name
        except ValueError:
            name = f"signal {exit.signal}"
        if exit.signal == signal.SIGILL:
            return f"crashed ({name}): this machine's processor lacks an instruction that the engine was built for"
        return f"crashed ({name})"
    return "ended for an unknown reason" if exit.code is None else f"ended by itself with status {exit.code}"
