"""Block hashes of prompts, and the index of what a replica holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.policy.prefix import (
    BLOCK_BYTES,
    BLOCK_TOKENS,
    MOST_BLOCKS,
    NO_PROMPT,
    PrefixIndex,
    WholePromptIndex,
    prompt_of,
    prompt_of_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
LONG = "x" * BLOCK_BYTES
SAID = st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=600))
CHAINS = st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=30)
"""Prompts of few different blocks, so that many have a beginning in common."""


def chat(*said: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said], **more}


def common(one: list[int], other: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def chained(path: list[int]) -> list[int]:
    return list(prompt_of_text(b"".join(bytes([each]) * BLOCK_BYTES for each in path)).blocks)


@given(st.lists(SAID, min_size=1, max_size=8), SAID)
def test_a_conversation_that_goes_on_keeps_its_blocks(said: list[tuple[str, str]], more: tuple[str, str]) -> None:
    before, after = prompt_of(chat(*said)), prompt_of(chat(*said, more))
    assert after.blocks[: len(before.blocks)] == before.blocks
    assert after.tokens >= before.tokens


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (chat(("system", LONG)), chat(("user", LONG))),
        (chat(("user", LONG)), chat(("user", "y" + LONG))),
        (chat(("user", LONG)), chat(("user", LONG), tools=[{"type": "function"}])),
        (chat(("user", LONG), ("user", LONG)), chat(("user", LONG), ("assistant", LONG))),
        (chat(("user", [{"text": LONG}])), chat(("user", [{"text": "y" + LONG}]))),
        ({"prompt": LONG}, {"prompt": "y" + LONG}),
        ({"prompt": [1] * 99}, {"prompt": [2] * 99}),
    ],
)
def test_another_text_role_or_tool_gives_other_blocks(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert prompt_of(one).blocks[-1] != prompt_of(other).blocks[-1]


def test_the_whole_text_counts_and_not_its_beginning_alone() -> None:
    one, other = (
        prompt_of({"prompt": LONG * 8 + "a" * BLOCK_BYTES}),
        prompt_of({"prompt": LONG * 8 + "b" * BLOCK_BYTES}),
    )
    assert common(list(one.blocks), list(other.blocks)) == 8


@given(JSON, JSON, JSON)
def test_any_body_has_a_prompt(messages: Any, tools: Any, prompt: Any) -> None:
    for body in ({"messages": messages, "tools": tools}, {"prompt": prompt}, {"messages": [messages, tools]}):
        assert prompt_of(body).tokens >= 0


def test_half_a_surrogate_pair_is_text_as_well() -> None:
    body = json.loads('{"messages": [{"role": "user", "content": "\\ud83d"}]}')
    assert prompt_of(body).tokens > 0


def test_what_is_nested_too_deep_to_be_written_has_no_prompt() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert prompt_of({"prompt": deep}) == prompt_of({"messages": deep, "tools": deep}) == NO_PROMPT


def test_bodies_without_a_prompt_have_none() -> None:
    assert prompt_of({"input": LONG}) == ([], 0)


def test_of_an_enormous_prompt_only_the_beginning_is_looked_at() -> None:
    found = prompt_of_text(b"x" * (MOST_BLOCKS + 5) * BLOCK_BYTES)
    assert (len(found.blocks), found.tokens) == (MOST_BLOCKS, (MOST_BLOCKS + 5) * BLOCK_TOKENS)


@pytest.mark.parametrize("kind", [PrefixIndex, WholePromptIndex])
@given(CHAINS)
def test_what_was_inserted_is_matched_as_far_as_it_is_common(kind: type[PrefixIndex], paths: list[list[int]]) -> None:
    index = kind(10**6)
    prompts = [chained(path) for path in paths]
    for at, prompt in enumerate(prompts):
        assert index.match(prompt) == max((common(prompt, other) for other in prompts[:at]), default=0)
        index.insert(prompt)
        assert index.match(prompt) == len(prompt)


@pytest.mark.parametrize("kind", [PrefixIndex, WholePromptIndex])
@given(CHAINS, st.integers(0, 20))
def test_it_never_holds_more_than_its_capacity_nor_a_block_without_those_before(
    kind: type[PrefixIndex], paths: list[list[int]], capacity: int
) -> None:
    index = kind(capacity * BLOCK_TOKENS)
    prompts = [chained(path) for path in paths]
    for prompt in prompts:
        gone = index.displaced(prompt[:capacity], index.match(prompt[:capacity]))
        coming, before = min(len(prompt), capacity) - index.match(prompt[:capacity]), len(index)
        index.insert(prompt)
        assert len(index) <= capacity
        assert kind is WholePromptIndex or len(index) == before + coming - gone
        assert index.match(prompt) == min(len(prompt), capacity)
    for prompt in prompts:
        held = [index.match([block]) == 1 for block in prompt]
        assert held == sorted(held, reverse=True)
        assert index.match(prompt) == sum(held)


def test_what_was_used_longest_ago_goes_first() -> None:
    index = PrefixIndex(4 * BLOCK_TOKENS)
    old, used, new = chained([1, 1]), chained([2, 2]), chained([3])
    for prompt in (old, used, old, used, new):
        index.insert(prompt)
    assert (index.match(old), index.match(used), index.match(new)) == (1, 2, 1)


def test_prompts_kept_whole_take_room_for_what_they_have_in_common() -> None:
    index = WholePromptIndex(6 * BLOCK_TOKENS)
    old, new = chained([1, 1, 1]), chained([1, 1, 2, 2])
    index.insert(old)
    assert index.displaced(new, index.match(new)) == 1
    index.insert(new)
    assert (len(index), index.match(old)) == (4, 2)


def test_a_prompt_that_goes_on_takes_the_place_of_what_it_goes_on_from() -> None:
    index = WholePromptIndex(6 * BLOCK_TOKENS)
    other, begun, longer = chained([2]), chained([1, 1, 1]), chained([1, 1, 1, 1, 1])
    for prompt in (other, begun):
        index.insert(prompt)
    assert index.displaced(longer, index.match(longer)) == 0
    index.insert(longer)
    assert (len(index), index.match(other), index.match(begun)) == (6, 1, 3)
