"""``python -m benchmarks.coldstart [--quick]``: from ``create`` to the first token through a running ``roost serve``,
beside the bare engine's start to its first token. Weights are cached, rounds interleaved, medians compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from benchmarks.coldstart.engine import EngineCommand, start_to_first_token
from benchmarks.coldstart.first_token import first_token

MODEL = "smollm2-135m"
GOAL = 1.5
POLL_S = 0.02


def main() -> int:
    """Run it and print the table; 0 when the goal is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coldstart")
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 11")
    rounds = 5 if parser.parse_args().quick else 11
    with serving() as (home, client):
        hardware = _largest(client)
        command = _learn(client, home, hardware)
        bare_socket = home / "bare.sock"
        through, bare = [], []
        for _ in range(rounds):
            through.append(_create_to_first_token(client, home, hardware))
            bare.append(start_to_first_token(command.at(bare_socket), MODEL))
    return _report(through, bare, hardware)


@contextmanager
def serving() -> Iterator[tuple[Path, httpx.Client]]:
    """A server in a temporary home that shares the project's weights cache, and a client of it."""
    home = Path(tempfile.mkdtemp(prefix="roost-cold-"))
    cache = Path(os.environ.get("ROOST_TEST_CACHE") or Path(__file__).parents[2] / ".cache").absolute()
    cache.mkdir(parents=True, exist_ok=True)
    (home / "models").symlink_to(cache)
    argv = [sys.executable, "-m", "roost", "serve", "--home", str(home), "--port", "0"]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        if not any("is serving at" in line for line in server.stdout):
            raise SystemExit("The server did not start.")
        held = json.loads((home / "credentials.json").read_text())
        headers = {"authorization": f"Bearer {held['api_key']}"}
        with httpx.Client(base_url=held["base_url"], headers=headers, timeout=120) as client:
            yield home, client
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate()
        shutil.rmtree(home)


def _largest(client: httpx.Client) -> str:
    offers = client.get("/hardware", params={"model": MODEL}).raise_for_status().json()["data"]
    return str(max((o["specs"]["gpu_count"], o["id"]) for o in offers if o["specs"]["gpu_type"] == "cpu")[1])


def _create(client: httpx.Client, hardware: str) -> str:
    body = {"model": MODEL, "hardware": hardware, "autoscaling": {"min_replicas": 1, "max_replicas": 1}}
    return str(client.post("/endpoints", json=body).raise_for_status().json()["id"])


def _learn(client: httpx.Client, home: Path, hardware: str) -> EngineCommand:
    """Warm everything up (weights, page cache) and read the engine's command line."""
    endpoint = _create(client, hardware)
    first_token(client, endpoint)
    command = EngineCommand.of_running(home)
    _remove(client, home, endpoint)
    return command


def _create_to_first_token(client: httpx.Client, home: Path, hardware: str) -> float:
    began = time.perf_counter()
    endpoint = _create(client, hardware)
    # No waiting in between: the gateway holds the request until the replica is ready.
    took = first_token(client, endpoint) - began
    _remove(client, home, endpoint)
    return took


def _remove(client: httpx.Client, home: Path, endpoint: str) -> None:
    """Delete the endpoint and wait until its engine is gone, so that the other side has the machine to itself."""
    client.delete(f"/endpoints/{endpoint}").raise_for_status()
    deadline = time.monotonic() + 60
    while list((home / "run" / "replicas").glob("*.json")):
        if time.monotonic() > deadline:
            raise SystemExit("The replica of a deleted endpoint is still there after 60 s.")
        time.sleep(POLL_S)


def _report(through: list[float], bare: list[float], hardware: str) -> int:
    ratio = statistics.median(through) / statistics.median(bare)
    print(f"Cold start of {MODEL} on {hardware}, weights cached, {len(through)} interleaved rounds")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(f"{'':<42}{'median':>9}{'min':>9}{'max':>9}")
    for name, values in (("Roost: create -> first token", through), ("bare engine: start -> first token", bare)):
        print(f"{name:<42}{statistics.median(values):>7.2f} s{min(values):>7.2f} s{max(values):>7.2f} s")
    print(f"\nratio {ratio:.2f} (goal: at most {GOAL})")
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
