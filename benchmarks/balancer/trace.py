"""The requests of the simulation: the recorded conversations that ``--traces`` names, or made ones of their shape."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

RECORDED = "mooncake_conversation.csv.gz"
BLOCK_TOKENS = 512
"""Prompts of the trace are told by blocks of so many tokens; equal ids mean an equal beginning up to there."""
STEP_S = 3.0
"""The record's clock moves in steps of this size: within one the arrivals are spread by the seed."""
MADE_S = 1800.0
MADE_RATE_RPS = 3.4
MEAN_TURNS = 2.0
THINK_S = 60.0
LONGEST_TOKENS = 120_000


@dataclass(frozen=True, slots=True)
class Request:
    """A request: arrival in seconds, tokens of its prompt and its answer, the ids of the prompt's blocks."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]


def requests(folder: Path | None, seed: int, length_s: float | None = None, *, spread: bool = True) -> list[Request]:
    """The trace in ``folder``, or a made one, in the order of arrival; its first ``length_s`` only if that is given.
    Without ``spread`` all of a step arrive at its beginning, as recorded."""
    random = Random(seed)
    found = _made(random, length_s or MADE_S) if folder is None else _recorded(folder / RECORDED)
    if spread:
        found = [replace(each, at_s=each.at_s + random.random() * STEP_S) for each in found]
    found.sort(key=lambda each: each.at_s)
    return [each for each in found if length_s is None or each.at_s < length_s]


def _recorded(path: Path) -> list[Request]:
    with gzip.open(path, "rt", newline="") as lines:
        return [
            Request(
                # 2.999 and 3.001 are of the same step.
                STEP_S * round(float(row["t_s"]) / STEP_S),
                int(row["prompt_tokens"]),
                int(row["output_tokens"]),
                tuple(map(int, row["hash_ids"].split())),
            )
            for row in csv.DictReader(lines)
        ]


def _made(random: Random, length_s: float) -> list[Request]:
    """Conversations that all begin with one block and grow from turn to turn, some tokens of whose history are new."""
    found: list[Request] = []
    fresh = 0
    at_s = 0.0
    while at_s < length_s:
        at_s += random.expovariate(MADE_RATE_RPS / MEAN_TURNS)
        turn_s, tokens = at_s, 0
        blocks = [0]
        while True:
            tokens += int(random.lognormvariate(8.6, 1.2) if tokens == 0 else random.lognormvariate(6.9, 1.0))
            if tokens > LONGEST_TOKENS or turn_s > length_s:
                break
            while len(blocks) * BLOCK_TOKENS < tokens:
                fresh += 1
                blocks.append(fresh)
            output = 1 + int(random.expovariate(1 / 342))
            found.append(Request(STEP_S * (turn_s // STEP_S), max(tokens, 1), output, tuple(blocks)))
            if random.random() < 1 / MEAN_TURNS:
                break
            tokens += output
            turn_s += random.expovariate(1 / THINK_S)
            # The last block was not full, and is another one once it is.
            fresh += 1
            blocks[-1] = fresh if len(blocks) > 1 else 0
    return found
