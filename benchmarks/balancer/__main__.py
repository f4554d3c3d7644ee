"""``python -m benchmarks.balancer [--traces FOLDER] [--quick] [--only simulated|real] [--sweep]``: which replica takes
a request, Roost's way beside others'. First simulated over a trace of conversations (a made one without ``--traces``),
then with four real engines behind Roost's gateway.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

from benchmarks.balancer import real, simulated


def main() -> int:
    """Run it and print the tables; 0 when the targets are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balancer")
    parser.add_argument("--traces", type=Path, help="the folder with the recorded trace")
    parser.add_argument("--quick", action="store_true", help="one seed, one engine, ten minutes of the trace")
    parser.add_argument("--only", choices=("simulated", "real"), help="one part")
    parser.add_argument("--sweep", action="store_true", help="instead: how the figures change with the constants")
    asked = parser.parse_args()
    if asked.traces is not None and not asked.traces.is_dir():
        parser.error(f"{asked.traces} is no folder: name the one with the trace, or leave --traces out.")
    began = time.perf_counter()
    met = True
    if asked.sweep:
        simulated.sweep(asked.traces)
        return 0
    if asked.only != "real":
        met &= simulated.tables(asked.traces, asked.quick)
        met &= simulated.decision_cost()
        what = "recorded" if asked.traces else "made"
        print(f"\n{what} trace; Python {platform.python_version()}, {time.perf_counter() - began:.0f} s")
    if asked.only != "simulated":
        met &= real.tables(asked.quick)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
