"""What a self-test came to: counts, the faults, what went wrong. Pure.

Called by ``run`` and ``roost selftest``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roost.selftest.faults import GATEWAY_KILLED, Injected
from roost.selftest.work import Break, Engine, Seen, Verdict, judge

MAX_EXAMPLES = 10
BREAKS_WITHIN_S = 3.0
"""Connections to a killed gateway worker are seen to break within this time."""
FAILED = (Verdict.LOST, Verdict.TRUNCATED, Verdict.DUPLICATED, Verdict.WRONG)


@dataclass(slots=True)
class Tally:
    """The answers of one engine so far."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    streams: int = 0
    repeated: int = 0
    broken: list[Break] = field(default_factory=list)
    cut: int = 0
    agreeing: int = 0
    """Answers of the model equal to those of the undisturbed run."""

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "answers": sum(self.verdicts.values()),
            "streams": self.streams,
            **{verdict.name.lower(): self.verdicts[verdict] for verdict in Verdict},
            "repeated_by_the_client": self.repeated,
            "connections_broken": len(self.broken),
            "cut_and_asked_anew": self.cut,
        }


@dataclass(slots=True)
class Report:
    """A whole run. ``reference`` are the model's undisturbed answers by prompt; ``served`` counts what the access logs
    tell of each request id that was answered in full."""

    tallies: dict[Engine, Tally] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    faults: Sequence[Injected] = ()
    trouble: Sequence[str] = ()
    reference: Mapping[str, str] = field(default_factory=dict)
    served_twice: int = 0
    left_behind: Sequence[str] = ()
    unexplained: Sequence[Break] = ()
    """Connections that broke although no gateway worker had just been killed."""
    seconds: float = 0.0

    def saw(self, seen: Seen) -> None:
        """Take in one answer."""
        tally = self.tallies.setdefault(seen.ask.engine, Tally())
        verdict, why = judge(seen)
        tally.verdicts[verdict] += 1
        tally.streams += seen.ask.stream
        tally.repeated += seen.repeats
        tally.broken += seen.broken
        tally.cut += seen.cut
        if seen.ask.engine is Engine.MODEL and verdict is Verdict.RIGHT:
            tally.agreeing += seen.text == self.reference.get(seen.ask.prompt)
        if verdict in FAILED and len(self.examples) < MAX_EXAMPLES:
            how = "stream" if seen.ask.stream else "whole"
            self.examples.append(f"{verdict.value}: {seen.request_id} ({how}, {seen.replica}): {why}")

    def faulted(self, faults: Sequence[Injected], trouble: Sequence[str]) -> None:
        """Take in what was injected. A connection may break only because its gateway worker was killed."""
        self.faults, self.trouble = faults, trouble
        kills = [fault.at for fault in faults if fault.kind == GATEWAY_KILLED]
        breaks = [each for tally in self.tallies.values() for each in tally.broken]
        self.unexplained = [
            each for each in breaks if not any(0 <= each.at - kill <= BREAKS_WITHIN_S for kill in kills)
        ]

    @property
    def failed(self) -> int:
        """Answers that were not right."""
        return sum(tally.verdicts[verdict] for tally in self.tallies.values() for verdict in FAILED)

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, truncated, duplicated or left behind, and every fault could be injected."""
        wrong = (self.failed, self.served_twice, self.unexplained, self.left_behind, self.trouble)
        return bool(self.tallies) and not any(wrong)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "ok": self.passed,
            "seconds": round(self.seconds, 1),
            "engines": {engine.value: tally.to_dict() for engine, tally in self.tallies.items()},
            "model_answers_equal_to_the_undisturbed_ones": sum(tally.agreeing for tally in self.tallies.values()),
            "requests_completed_twice": self.served_twice,
            "connections_broken_without_cause": [f"{each.request_id}: {each.how}" for each in self.unexplained],
            "left_behind": list(self.left_behind),
            "faults": [{"at_s": f.at_s, "kind": f.kind, "detail": f.detail} for f in self.faults],
            "trouble": list(self.trouble),
            "examples": self.examples,
        }

    def rows(self) -> list[tuple[str, ...]]:
        """The table's lines: one per engine, the heading first."""
        heading = ("engine", "answers", "streams", "lost", "truncated", "duplicated", "wrong", "left on purpose")
        rows: list[tuple[str, ...]] = [heading]
        for engine, tally in self.tallies.items():
            counts = [*(tally.verdicts[verdict] for verdict in FAILED), tally.verdicts[Verdict.LEFT]]
            rows.append((engine.value, str(sum(tally.verdicts.values())), str(tally.streams), *map(str, counts)))
        return rows

    def fault_counts(self) -> Counter[str]:
        """How many faults of each kind."""
        return Counter(fault.kind for fault in self.faults)
