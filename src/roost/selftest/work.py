"""What the self-test asks, and what a right answer to it is. Pure.

Called by ``load`` and ``run``. The echo engine says the words of the prompt back, and no two words of one are the same:
so its answers tell of every token that is missing or came twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Any, NamedTuple

TOPICS = (
    "how rain is made",
    "why birds roost together",
    "what a lighthouse is for",
    "how bread is baked",
    "why the sea is salty",
    "how a clock works",
    "what bees do in winter",
    "how paper is made",
)
MODEL_TOKENS = 64


class Engine(Enum):
    """Which of the two endpoints is asked."""

    ECHO = "echo"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``prompt`` is the user's message; ``hang_up_after`` events of a stream the client leaves on purpose
    (None: it stays)."""

    number: int
    engine: Engine
    stream: bool
    prompt: str
    tokens: int
    hang_up_after: int | None = None

    def body(self, endpoint: str) -> dict[str, Any]:
        """The request's body for the endpoint of that id or name."""
        body: dict[str, Any] = {
            "model": endpoint,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.tokens,
            "temperature": 0,
        }
        if self.engine is Engine.MODEL:
            # The number of tokens is then known beforehand.
            body["ignore_eos"] = True
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


def echo_ask(number: int, random: Random) -> Ask:
    """A request to the echo engine: of 8 to 60 tokens, two of three streamed, one of twenty left in the middle."""
    tokens = random.randint(8, 60)
    words = " ".join(f"{number}.{index}" for index in range(tokens))
    stream = random.random() < 2 / 3
    leaves = stream and random.random() < 0.05
    return Ask(number, Engine.ECHO, stream, words, tokens, random.randint(1, tokens) if leaves else None)


def model_ask(number: int, random: Random) -> Ask:
    """A request to the model, two of three streamed."""
    topic = TOPICS[number % len(TOPICS)]
    return Ask(number, Engine.MODEL, random.random() < 2 / 3, f"Explain {topic}.", MODEL_TOKENS)


class Break(NamedTuple):
    """A connection that broke under a request: when (on the loop's clock), which request, and how."""

    at: float
    request_id: str
    how: str


@dataclass(slots=True)
class Seen:
    """What the client saw of the answer to ``ask``.

    ``status`` 0: none came. ``done``: the stream's end mark. ``pieces`` are the text's as they came. ``failure`` is
    what went wrong, in words. ``repeats`` are further tries as published clients make them; ``broken`` tells of the
    connections that broke under earlier tries, ``cut`` how many of these had begun to answer.
    """

    ask: Ask
    status: int = 0
    done: bool = False
    finish: str | None = None
    pieces: list[str] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    replica: str | None = None
    failure: str | None = None
    left: bool = False
    repeats: int = 0
    broken: list[Break] = field(default_factory=list)
    cut: int = 0
    request_id: str | None = None

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self.pieces)


class Verdict(Enum):
    """What became of an answer."""

    RIGHT = "right"
    LOST = "lost"
    TRUNCATED = "truncated"
    DUPLICATED = "duplicated"
    WRONG = "wrong"
    LEFT = "left on purpose"


def judge(seen: Seen) -> tuple[Verdict, str]:
    """The verdict on an answer, and why: status, text, end mark and usage are all looked at."""
    ask = seen.ask
    if seen.left:
        return Verdict.LEFT, ""
    if seen.failure is not None and not seen.pieces:
        return Verdict.LOST, seen.failure
    if seen.status != 200:
        return Verdict.LOST, f"status {seen.status}"
    if seen.failure is not None:
        return Verdict.TRUNCATED, seen.failure
    if seen.finish is None:
        return Verdict.TRUNCATED, "no finish_reason"
    if ask.stream and not seen.done:
        return Verdict.TRUNCATED, "no [DONE]"
    if ask.engine is Engine.ECHO:
        found = _echoed(ask.prompt.split(), seen.text)
        if found is not None:
            return found
    elif not seen.text.strip():
        return Verdict.TRUNCATED, "no text"
    return _counted(ask, seen)


def _echoed(words: list[str], text: str) -> tuple[Verdict, str] | None:
    said = text.split()
    if text == " ".join(words):
        return None
    if len(set(said)) < len(said):
        return Verdict.DUPLICATED, f"{len(said) - len(set(said))} of {len(said)} words came twice"
    if set(said) < set(words):
        return Verdict.TRUNCATED, f"{len(said)} of {len(words)} words"
    return Verdict.WRONG, f"other text: {text[:80]!r}"


def _counted(ask: Ask, seen: Seen) -> tuple[Verdict, str]:
    usage = seen.usage
    if usage is None:
        return Verdict.WRONG, "no usage"
    expected = {"completion_tokens": ask.tokens}
    if ask.engine is Engine.ECHO:
        expected["prompt_tokens"] = len(ask.prompt.split())
    for name, count in expected.items():
        if usage.get(name) != count:
            return Verdict.WRONG, f"{name} is {usage.get(name)}, not {count}"
    if usage.get("total_tokens") != usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0):
        return Verdict.WRONG, "total_tokens is not the sum"
    return Verdict.RIGHT, ""
