"""What an engine's work costs and how long its replicas take to start, learned from running ones. Pure state machines.

Called by ``policy.autoscale``. An engine's busy time is a sum of three parts, whatever the engine: the prompt tokens it
prefills, the decode iterations it runs, and the tokens these give. ``refine`` fits the three prices to observed busy
seconds by least squares with forgetting, held near a prior until enough has been seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

FORGET = 0.995
"""What a sample still counts after the next one."""
PRIOR_WEIGHT = 4.0
"""How much the prior counts, in squared busy seconds."""
SAMPLE_S = 5.0
"""Busy seconds that make a sample: in shorter ones, what was begun and what was ended differ too much."""
NEAR = (0.05, 20.0)
"""How far a price may move from its prior, as a factor."""
KEPT_STARTS = 20
Row = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Costs:
    """Prices in busy seconds: of a prompt token, of a decode iteration, and of each token it gives."""

    prefill_s_per_token: float
    iteration_s: float
    output_s_per_token: float

    def request_s(self, prompt_tokens: float, output_tokens: float, running: float) -> float:
        """Busy seconds of a request on a replica that decodes ``running`` requests at once."""
        return prompt_tokens * self.prefill_s_per_token + output_tokens * self.output_s(running)

    def output_s(self, running: float) -> float:
        """Busy seconds of an output token on a replica that decodes ``running`` requests at once."""
        return self.iteration_s / max(running, 1.0) + self.output_s_per_token


PRIOR = Costs(0.0005, 0.030, 0.002)
"""What is assumed of an engine nobody has measured: an 8B model on a modest accelerator."""


@dataclass(frozen=True, slots=True)
class Work:
    """What replicas did over some time: busy seconds, prompt tokens prefilled, decode iterations, output tokens."""

    busy_s: float = 0.0
    prompt_tokens: float = 0.0
    iterations: float = 0.0
    output_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fit so far: the prior, the sums of least squares (symmetric matrix row by row, right side), what has not
    made a sample yet, and the prices it comes to."""

    prior: Costs = PRIOR
    matrix: tuple[Row, Row, Row] = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    right: Row = (0.0, 0.0, 0.0)
    pending: Work = Work()
    costs: Costs = PRIOR

    @classmethod
    def probed(cls, costs: Costs) -> Calibration:
        """A beginning from what a probe has measured."""
        return cls(prior=costs, costs=costs)


def refine(calibration: Calibration, work: Work) -> Calibration:
    """The calibration after ``work`` was observed."""
    old = calibration.pending
    pending = Work(
        old.busy_s + work.busy_s,
        old.prompt_tokens + work.prompt_tokens,
        old.iterations + work.iterations,
        old.output_tokens + work.output_tokens,
    )
    if pending.busy_s < SAMPLE_S:
        return replace(calibration, pending=pending)
    prior = calibration.prior
    # In units of what the prior expects, all three prices are of one size, and 1 where it is right.
    row = (
        pending.prompt_tokens * prior.prefill_s_per_token,
        pending.iterations * prior.iteration_s,
        pending.output_tokens * prior.output_s_per_token,
    )
    # Long gaps between observations make large samples; they shall not outweigh all others.
    scale = SAMPLE_S / pending.busy_s
    row = (row[0] * scale, row[1] * scale, row[2] * scale)
    matrix, right = _fold(calibration.matrix, calibration.right, row, SAMPLE_S)
    factors = [min(max(each, NEAR[0]), NEAR[1]) for each in _solve(matrix, right)]
    costs = Costs(
        prior.prefill_s_per_token * factors[0],
        prior.iteration_s * factors[1],
        prior.output_s_per_token * factors[2],
    )
    return Calibration(prior, matrix, right, Work(), costs)


def _fold(matrix: tuple[Row, Row, Row], right: Row, row: Row, busy_s: float) -> tuple[tuple[Row, Row, Row], Row]:
    def line(i: int) -> Row:
        old = matrix[i]
        return (
            FORGET * old[0] + row[i] * row[0],
            FORGET * old[1] + row[i] * row[1],
            FORGET * old[2] + row[i] * row[2],
        )

    new = tuple(FORGET * right[i] + row[i] * busy_s for i in range(3))
    return (line(0), line(1), line(2)), (new[0], new[1], new[2])


def _solve(matrix: Sequence[Row], right: Row) -> list[float]:
    """The factors that fit best, drawn towards 1 by the prior's weight (which also keeps the matrix regular)."""
    rows = [[*matrix[i], right[i] + PRIOR_WEIGHT] for i in range(3)]
    for i in range(3):
        rows[i][i] += PRIOR_WEIGHT
    for i in range(3):
        # Positive definite: the diagonal never vanishes, and no pivot need be looked for.
        for j in range(i + 1, 3):
            share = rows[j][i] / rows[i][i]
            for k in range(i, 4):
                rows[j][k] -= share * rows[i][k]
    found = [0.0, 0.0, 0.0]
    for i in (2, 1, 0):
        found[i] = (rows[i][3] - sum(rows[i][k] * found[k] for k in range(i + 1, 3))) / rows[i][i]
    return found


@dataclass(frozen=True, slots=True)
class StartTimes:
    """How long the latest starts took, in seconds, by phase (``TOTAL``: from the order to ready), the latest last."""

    seconds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


TOTAL = "total"


def learn_start(times: StartTimes, seconds: float, phase: str = TOTAL) -> StartTimes:
    """The times after one more start (or phase of one) took ``seconds``."""
    kept = (*times.seconds.get(phase, ()), seconds)[-KEPT_STARTS:]
    return StartTimes({**times.seconds, phase: kept})


def start_quantile(times: StartTimes, share: float, unknown_s: float, phase: str = TOTAL) -> float:
    """The time within which ``share`` of the latest starts were done; ``unknown_s`` when there were none."""
    known = sorted(times.seconds.get(phase, ()))
    return known[max(0, ceil(share * len(known)) - 1)] if known else unknown_s
