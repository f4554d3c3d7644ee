"""What is lost while parts of a server die: ``python -m benchmarks.lossless [--minutes N] [--seed N] [--quick]``.

The self-test that users have as ``roost selftest``, then the streams that go on elsewhere with real weights. Exit
status 1 when an answer was lost, cut short, given twice or wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys


def main() -> int:
    """Run both, and say which failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lossless", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="of load and faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="half a minute of the echo engine only")
    options = parser.parse_args()
    selftest = [sys.executable, "-m", "roost", "selftest", "--seed", str(options.seed)]
    if options.quick:
        return subprocess.run([*selftest, "--minutes", "0.5", "--echo-only"], check=False).returncode
    failed = subprocess.run([*selftest, "--minutes", str(options.minutes)], check=False).returncode
    print(flush=True)
    return subprocess.run([sys.executable, "-m", "benchmarks.lossless.continuation"], check=False).returncode or failed


if __name__ == "__main__":
    sys.exit(main())
