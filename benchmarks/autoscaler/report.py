"""The tables: every run, and the targets with what was found. Called by ``__main__``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.autoscaler.runs import ANCHOR, ATTAINED, ORACLE, ROOST, STATIC, Row
from benchmarks.autoscaler.scenarios import SECOND

EQUAL = 0.001
"""A baseline attains as much as another policy when it lacks no more than this."""
CODE = ("azure code", "bursts")
STEP = "step → order s"
SHORT_START_S = 5.0


def rows_table(rows: Sequence[Row]) -> Iterator[str]:
    """One line a scenario, start time and policy; the spread is the least and the most of the seeds."""
    yield from _head(
        "scenario", "start s", "policy", "attainment", "replica-hours", "lost", "÷ oracle", f"÷ {ANCHOR}", STEP
    )
    for group in groups(rows):
        oracle, anchor = _of(group, ORACLE).replica_hours, _of(group, ANCHOR).replica_hours
        for row in group:
            step = "" if row.step_to_order_s is None else f"{row.step_to_order_s:.1f}"
            attained = [each.attainment for each in row.outcomes]
            hours = [each.replica_hours for each in row.outcomes]
            yield (
                f"| {_name(row)} | {row.start_s:g} | {row.policy} "
                f"| {row.attainment:.4f} ({min(attained):.4f}-{max(attained):.4f}) "
                f"| {row.replica_hours:.2f} ({min(hours):.2f}-{max(hours):.2f}) | {row.lost} "
                f"| {row.replica_hours / oracle:.2f} | {row.replica_hours / anchor:.2f} | {step} |"
            )


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows by scenario and start time."""
    found: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        found.setdefault((row.scenario.name, row.start_s), []).append(row)
    return list(found.values())


def summary_table(rows: Sequence[Row]) -> Iterator[str]:
    """One line a scenario and start time: Roost beside the oracle, the anchor, and the cheapest of equal attainment."""
    yield from _head(
        "scenario", "start s", "roost", "oracle", ANCHOR, "cheapest baseline of equal attainment", "roost ÷ it"
    )
    for group in groups(rows):
        ours = _of(group, ROOST)
        best = cheapest(group)
        oracle, anchor = _of(group, ORACLE), _of(group, ANCHOR)
        yield (
            f"| {_name(ours)} | {ours.start_s:g} | {_short(ours)} | {_short(oracle)} | {_short(anchor)} "
            f"| {'none' if best is None else f'{best.policy} {_short(best)}'} "
            f"| {'' if best is None else f'{ours.replica_hours / best.replica_hours:.2f}'} |"
        )


def cheapest(group: Sequence[Row]) -> Row | None:
    """The cheapest baseline whose attainment equals ours or is better; None: there is none."""
    ours = _of(group, ROOST)
    others = [row for row in group if row.policy not in (ROOST, ORACLE, STATIC)]
    equal = [row for row in others if row.attainment >= ours.attainment - EQUAL]
    return min(equal, key=lambda row: row.replica_hours, default=None)


def targets_table(rows: Sequence[Row]) -> Iterator[str]:
    """The targets, each with what was found and whether it is met."""
    yield from _head("figure", "target", "found", "met")
    short = [group for group in groups(rows) if group[0].start_s <= SHORT_START_S]
    ours = [_of(group, ROOST) for group in short]
    below = [row for row in ours if row.attainment < _goal(row)]
    least = min(ours, key=lambda row: row.attainment - _goal(row))
    found = f"{len(ours) - len(below)} of {len(ours)}; the least: {_named(least)} {least.attainment:.4f}"
    if below:
        found += "; below: " + ", ".join(f"{_named(row)} {row.attainment:.4f}" for row in below)
    goal = "≥ 99 % (code at 5 s ≥ 97 %)"
    yield f"| attainment, every scenario with a start ≤ 5 s | {goal} | {found} | {_met(not below)} |"
    for label, chosen in (("starts ≤ 5 s", short), ("all starts", groups(rows))):
        ratio = _total(chosen, ROOST) / _total(chosen, ANCHOR)
        yield f"| total replica-hours ÷ KPA-6+300, {label} | ≤ 0.75 | {ratio:.3f} | {_met(ratio <= 0.75)} |"
    held = [group for group in short if not group[0].scenario.tuning]
    second = [group for group in held if group[0].scenario.name.endswith(SECOND)]
    for label, chosen in (("held-out scenarios", held), ("held-out windows never looked at", second)):
        if chosen:
            ratio = _total(chosen, ROOST) / _total(chosen, ANCHOR)
            yield f"| the same, {label}, starts ≤ 5 s | ≤ 0.75 | {ratio:.3f} | {_met(ratio <= 0.75)} |"
    yield _cheapest_line(short)
    ratio = _total(short, ROOST) / _total(short, ORACLE)
    yield f"| total replica-hours ÷ clairvoyant plan, starts ≤ 5 s | printed | {ratio:.2f} | |"
    steps = [row.step_to_order_s for row in ours if row.step_to_order_s is not None]
    if steps:
        yield f"| load step → start ordered | ≤ 3 s | {max(steps):.1f} s | {_met(max(steps) <= 3.0)} |"
    lost = sum(row.lost for row in rows if row.policy == ROOST)
    count = sum(outcome.requests for row in rows if row.policy == ROOST for outcome in row.outcomes)
    yield f"| requests not answered exactly once | 0 of ≥ 10,000 | {lost} of {count:,} | {_met(lost == 0)} |"


def _cheapest_line(short: Sequence[Sequence[Row]]) -> str:
    ratios = []
    for group in short:
        best = cheapest(group)
        if best is not None:
            ours = _of(group, ROOST)
            ratios.append((ours.replica_hours / best.replica_hours, _named(ours), best.policy))
    above = [each for each in sorted(ratios, reverse=True) if each[0] > 1.2]
    most = max(ratios, default=(0.0, "none", ""))
    found = f"{len(ratios) - len(above)} of {len(ratios)}; the most: {most[0]:.2f} ({most[1]}, {most[2]})"
    if above:
        found += "; above: " + ", ".join(f"{name} {ratio:.2f}" for ratio, name, _ in above)
    return f"| cost ÷ the cheapest baseline of equal attainment | each ≤ 1.20 | {found} | {_met(not above)} |"


def _head(*names: str) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"


def _name(row: Row) -> str:
    return row.scenario.name + ("" if row.scenario.tuning else " (held out)")


def _goal(row: Row) -> float:
    return 0.97 if row.scenario.name in CODE and row.start_s == SHORT_START_S else ATTAINED


def _of(group: Sequence[Row], policy: str) -> Row:
    return next(row for row in group if row.policy == policy)


def _total(chosen: Sequence[Sequence[Row]], policy: str) -> float:
    return sum(_of(group, policy).replica_hours for group in chosen)


def _short(row: Row) -> str:
    return f"{row.attainment:.4f} / {row.replica_hours:.2f}"


def _named(row: Row) -> str:
    return f"{row.scenario.name} at {row.start_s:g} s"


def _met(met: bool) -> str:
    return "met" if met else "not met"
