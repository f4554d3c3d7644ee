"""What the autoscaling policy is told, remembers and answers: frozen values, each with a JSON form. Pure.

Called by ``policy.autoscale`` and by who feeds it. A state is stored with its endpoint, so that a restart changes
nothing; with the observations of a run, it replays the run's decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from roost.policy.calibration import Calibration, StartTimes, Work
from roost.policy.demand import Count, Span


class Recorded:
    """A value with a JSON form."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """A form that ``json.dumps`` takes."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Self:
        """The value that ``to_dict`` was called on, also after a turn through JSON. What another version wrote is read
        as far as this one knows it; what it lacks has its default."""
        restored: Self = _restored(cls, form)
        return restored


NO_WORK = Work()
UNKNOWN_ENGINE = Calibration()
NO_STARTS = StartTimes()


@dataclass(frozen=True, slots=True)
class Settings(Recorded):
    """``min_replicas`` and ``max_replicas`` are the user's (a minimum of 0 counts as 1 here: ``policy.idle`` alone goes
    to zero); ``slots`` is how many requests a replica takes at once; ``ttft_target_s`` is what a first token may take.
    The rest is one shipped configuration: docs/autoscaling.md tells what each does. Times in seconds."""

    min_replicas: int
    max_replicas: int
    slots: int
    ttft_target_s: float = 2.0
    full_share: float = 0.7
    waiting_share: float = 0.2
    waiting_prompts: float = 1.25
    attained: float = 0.99
    well_attained: float = 0.997
    beta_least: float = 0.0
    beta_most: float = 1.0
    beta_step: float = 0.1
    trim_every_s: float = 60.0
    trim_window_s: float = 900.0
    trim_least_requests: int = 100
    hold_starts: float = 3.0
    hold_least_s: float = 60.0
    hold_most_s: float = 600.0
    unknown_start_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1 or self.slots < 1:
            raise ValueError("replicas: 0 <= min_replicas <= max_replicas, max_replicas >= 1 and slots >= 1.")


@dataclass(frozen=True, slots=True)
class Totals:
    """What the gateways have counted since they began; only differences are looked at, and a fall (a gateway has begun
    anew) counts as no difference. ``first_tokens_in_time``: of ``first_tokens``, those within ``ttft_target_s``."""

    requests: int = 0
    prompt_tokens: float = 0.0
    finished: int = 0
    finished_output_tokens: float = 0.0
    first_tokens: int = 0
    first_tokens_in_time: int = 0
    work: Work = NO_WORK


@dataclass(frozen=True, slots=True)
class Observation(Recorded):
    """An endpoint at a moment. ``totals`` None: no gateway tells, and nothing is decided anew.

    ``ready`` replicas take requests; ``starting`` are the ages of starts under way, in seconds, those between two
    attempts apart in ``backing_off``; ``draining`` ones can still be taken back. ``in_flight`` requests are at
    replicas, ``held`` ones wait in the gateways; ``unserved`` of both have no first token yet, and so many
    ``unserved_prompt_tokens`` (None: unknown). ``started``: how long the starts took that have ended since the last
    observation.
    """

    totals: Totals | None
    ready: int
    starting: tuple[float, ...] = ()
    backing_off: int = 0
    draining: int = 0
    in_flight: int = 0
    held: int = 0
    unserved: int | None = None
    unserved_prompt_tokens: float | None = None
    started: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision(Recorded):
    """``desired`` replicas, draining ones apart; why; and the terms it came from, for the record."""

    desired: int
    reason: str
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State(Recorded):
    """What is remembered between decisions. ``at``: when the last was made (None: there was none); ``totals`` as last
    told, at ``told_at``; ``arrived`` work; ``needs`` as they were, for the hold; the ``prompt_tokens`` and
    ``output_tokens`` that a request is expected to bring; ``beta`` of the staffing; ``attainment`` by the minute: when,
    first tokens, those in time."""

    at: float | None = None
    told_at: float | None = None
    totals: Totals | None = None
    arrived: tuple[Span, ...] = ()
    needs: tuple[Count, ...] = ()
    prompt_tokens: float = 1000.0
    output_tokens: float = 200.0
    beta: float = 0.5
    trimmed_at: float | None = None
    attainment: tuple[tuple[float, int, int], ...] = ()
    calibration: Calibration = UNKNOWN_ENGINE
    starts: StartTimes = NO_STARTS
    decision: Decision | None = None


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _restored(kind: Any, value: Any) -> Any:
    """``value``, as JSON gives it, as what the annotation ``kind`` says."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: _restored(hints[name], each) for name, each in value.items() if name in hints})
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _restored(inner[0], value)
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_restored(each, part) for each, part in zip(kinds, value, strict=True))
    if origin is Mapping:
        return {name: _restored(inner[1], each) for name, each in value.items()}
    return value
