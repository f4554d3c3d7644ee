"""Who runs against whom: the swept baselines, the clairvoyant plan and Roost, over scenarios, start times and seeds.

Called by ``__main__``. Every run is a function of its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean

from benchmarks.autoscaler.baselines import HuggingFace, Knative, KubeAI, Kubernetes, RayServe, Static
from benchmarks.autoscaler.clairvoyant import GRID, Plan
from benchmarks.autoscaler.fleet import Fleet, Outcome, Scaler, Setup
from benchmarks.autoscaler.ours import Roost
from benchmarks.autoscaler.scenarios import Scenario

from roost.policy.autoscale_state import Settings

ATTAINED = 0.99
ANCHOR = "KPA-6+300"
ROOST = "roost"
ORACLE = "oracle"
STATIC = "static"
Make = Callable[[Setup], Scaler]


def _swept() -> dict[str, Make]:
    """Every public autoscaler over targets from half to twice what suits the engine, beside what it ships with."""
    made: dict[str, Make] = {}
    for target in (4, 6, 8, 11, 16):
        made[f"KPA-{target}"] = lambda _, target=target: Knative(target)  # type: ignore[misc]
        made[f"KPA-{target}+300"] = lambda _, target=target: Knative(target, 300.0)  # type: ignore[misc]
    made["KPA-70"] = lambda _: Knative(70)
    for target in (6, 8, 11):
        made[f"HPA-{target}"] = lambda _, target=target: Kubernetes(target)  # type: ignore[misc]
    for target in (4, 6, 8, 100):
        made[f"KubeAI-{target}"] = lambda _, target=target: KubeAI(target)  # type: ignore[misc]
    for target in (2, 4, 8):
        made[f"Ray-{target}"] = lambda _, target=target: RayServe(target)  # type: ignore[misc]
    made["HF-1.5"] = lambda _: HuggingFace()
    return made


SWEPT = _swept()
SHORT = ("KPA-6", "KPA-8", "KPA-11", ANCHOR, "HPA-8", "Ray-8", "KubeAI-8")


@dataclass(frozen=True, slots=True)
class Row:
    """A policy in a scenario at a start time: one outcome a seed."""

    scenario: Scenario
    start_s: float
    policy: str
    outcomes: Sequence[Outcome]

    @property
    def attainment(self) -> float:
        """The mean over the seeds."""
        return mean(each.attainment for each in self.outcomes)

    @property
    def replica_hours(self) -> float:
        """The mean over the seeds."""
        return mean(each.replica_hours for each in self.outcomes)

    @property
    def lost(self) -> int:
        """Requests not answered exactly once, of all seeds."""
        return sum(each.lost for each in self.outcomes)

    @property
    def step_to_order_s(self) -> float | None:
        """The longest of the seeds."""
        known = [each.step_to_order_s for each in self.outcomes if each.step_to_order_s is not None]
        return max(known, default=None)


def run(scenario: Scenario, start_s: float, seeds: Sequence[int], baselines: Sequence[str]) -> list[Row]:
    """All policies on the same requests. What is chosen in hindsight is chosen on the first seed."""
    setups = [_setup(scenario, start_s, seed) for seed in seeds]
    makes: dict[str, Make] = {name: SWEPT[name] for name in baselines}
    replicas = _static(setups[0])
    makes[STATIC] = lambda _: Static(replicas)
    ahead_s, load = _clairvoyant(setups[0])
    makes[ORACLE] = lambda setup: Plan(setup, ahead_s, load)
    makes[ROOST] = _roost
    return [
        Row(scenario, start_s, name, [Fleet(setup, make(setup)).run() for setup in setups])
        for name, make in makes.items()
    ]


def _roost(setup: Setup) -> Scaler:
    return Roost(Settings(1, setup.max_replicas, setup.engine.slots))


def _setup(scenario: Scenario, start_s: float, seed: int) -> Setup:
    return Setup(
        requests=scenario.draw(Random(seed)),
        length_s=scenario.length_s,
        slo_s=scenario.slo_s,
        start_s=start_s,
        seed=seed,
        step_at_s=scenario.step_at_s,
    )


def _static(setup: Setup) -> int:
    """The smallest fixed number that attains the goal, else the largest there may be."""
    least, most = 1, setup.max_replicas
    while least < most:
        middle = (least + most) // 2
        if Fleet(setup, Static(middle)).run().attainment >= ATTAINED:
            most = middle
        else:
            least = middle + 1
    return least


def _clairvoyant(setup: Setup) -> tuple[int, float]:
    """The cheapest plan of the grid that attains the goal, else the one that attains the most."""
    tried = [(Fleet(setup, Plan(setup, *each)).run(), each) for each in GRID]
    attaining = [(outcome.replica_hours, each) for outcome, each in tried if outcome.attainment >= ATTAINED]
    return min(attaining)[1] if attaining else max((outcome.attainment, each) for outcome, each in tried)[1]
