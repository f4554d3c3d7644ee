"""``python -m benchmarks.autoscaler [--traces FOLDER] [--quick] [--tuning]``: Roost's autoscaling policy beside the
public ones, on a virtual clock. Prints every run, then the targets. Without ``--traces`` synthetic scenarios stand in
for the recorded ones.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

from benchmarks.autoscaler.report import rows_table, summary_table, targets_table
from benchmarks.autoscaler.runs import SHORT, SWEPT, Row, run
from benchmarks.autoscaler.scenarios import scenarios

SEEDS = (1, 2, 3, 4, 5)
TUNING_SEEDS = (101, 102)
"""Tuning looks at other seeds than the report."""
STARTS_S = (5.0, 1.0, 60.0)
SWEPT_START_S = 5.0


def main() -> int:
    """Run it and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoscaler")
    parser.add_argument("--traces", type=Path, help="the folder with the recorded traces")
    parser.add_argument("--quick", action="store_true", help="one seed, one start time, the first four scenarios")
    parser.add_argument("--tuning", action="store_true", help="what tuning may look at: its scenarios, its seeds")
    asked = parser.parse_args()
    if asked.traces is not None and not asked.traces.is_dir():
        parser.error(f"{asked.traces} is no folder: name the one with the traces, or leave --traces out.")
    began = time.perf_counter()
    chosen = [each for each in scenarios(asked.traces) if each.tuning or not asked.tuning]
    seeds = TUNING_SEEDS if asked.tuning else SEEDS
    rows: list[Row] = []
    for start_s in STARTS_S[:1] if asked.quick else STARTS_S:
        sweep = tuple(SWEPT) if start_s == SWEPT_START_S and not asked.quick else SHORT
        for scenario in chosen[:4] if asked.quick else chosen:
            rows += run(scenario, start_s, seeds[:1] if asked.quick else seeds, sweep)
            print(f"{scenario.name}, start {start_s:g} s: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    for table in (rows_table, summary_table, targets_table):
        print("\n".join(table(rows)), end="\n\n")
    what = "recorded and synthetic" if asked.traces else "synthetic"
    print(f"{what} scenarios; Python {platform.python_version()}, one core, {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
