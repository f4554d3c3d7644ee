"""From one program of the parent process to the next: ``roost restart`` keeps the process, its port and its children.

Used by ``wiring.parent``. The process executes the new program, which finds in its environment what it holds: open
descriptors by number, children by pid. It must never lose one of them: until the execution has succeeded, the old
program can go on.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from roost import config
from roost.domain.errors import RoostError
from roost.wiring.life import Found

PROTOCOL = 1
"""Of what is handed over. A program of another one cannot take over."""

RESTART_GATEWAYS = signal.SIGRTMIN
"""Asks the parent for new gateway workers only; USR2 asks for a new server, as HUP does where no terminal is lost."""

SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    RESTART_GATEWAYS,
)
"""What the parent listens to. They wait while nobody does: the next program gets them."""


class CannotRestart(RoostError):
    """The server goes on as it was; the message says why it could not be restarted in place."""

    code = "cannot_restart"


@dataclass(frozen=True, slots=True)
class Handover:
    """What the old program held. Descriptors: the ``listening`` socket, the home's ``lock``, both ends of the lifeline
    (``lifeline`` is the children's, ``held`` the parent's). ``children`` by name; ``number`` of the restart;
    ``lasting`` whether a terminal that closes is no reason to stop (nohup)."""

    listening: int
    lock: int
    lifeline: int
    held: int
    children: Mapping[str, Sequence[Found]]
    number: int
    lasting: bool

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All open descriptors that the next program needs."""
        pipes = (one.ready_fd for found in self.children.values() for one in found)
        return (self.listening, self.lock, self.lifeline, self.held, *(fd for fd in pipes if fd is not None))


def execute(argv: Sequence[str], handover: Handover, wishes: Sequence[int] = ()) -> None:
    """Become ``argv``, for which the signals ``wishes`` wait then, as if they came only now. Returns only by raising
    ``CannotRestart``: nothing has changed then, and the signals come to this program."""
    text = json.dumps({"protocol": PROTOCOL, **asdict(handover)})
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    inheritable = {fd: os.get_inheritable(fd) for fd in handover.descriptors}
    try:
        for number in wishes:
            # To this thread, which blocks it: another one might take it at once. What waits outlives the execution.
            signal.raise_signal(number)
        for fd in inheritable:
            os.set_inheritable(fd, True)
        os.execve(argv[0], list(argv), config.handing_over(text))
    except OSError as error:
        for fd, was in inheritable.items():
            os.set_inheritable(fd, was)
        raise CannotRestart(f"{argv[0]} cannot be executed ({error.strerror}).") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def received() -> Handover | None:
    """What the program before left for this one; None when this is the first one. Signals stay blocked until
    ``listen`` is called. Raises ``CannotRestart`` when it is of another protocol (asked before, this cannot be)."""
    text = config.handed_over()
    if text is None:
        return None
    values: dict[str, Any] = json.loads(text)
    if values.pop("protocol") != PROTOCOL:
        raise CannotRestart("What the program before handed over is of another protocol.")
    found = {name: [Found(**one) for one in some] for name, some in values.pop("children").items()}
    handover = Handover(**values, children=found)
    for fd in handover.descriptors:
        os.set_inheritable(fd, False)
    return handover


def listen() -> None:
    """Take the signals that came meanwhile: the handlers are in place."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
