"""What of a prompt a replica has computed before: block hashes of prompts, and an index of those it holds. Pure.

Called by the gateway for endpoints with several replicas. Engines keep the computed state of earlier prompts and skip
what a new one has in common with them from its beginning on. ``PrefixIndex`` follows that from outside, by the text.
It is a guess: what it gets wrong costs a detour and never more. So nothing but the way of a request may depend on it.

Hashes are Python's own of ``bytes``: keyed by a secret of the process, they cannot be forged from outside, and mean
nothing in another process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

BLOCK_BYTES = 256
"""Text is compared in blocks of this size; what is left over at the end counts as new."""
BYTES_PER_TOKEN = 4
"""The usual ratio of text to tokens. All replicas are compared by the same guess, so that it need not be exact."""
BLOCK_TOKENS = BLOCK_BYTES // BYTES_PER_TOKEN
MOST_BLOCKS = 8192
"""Of a longer prompt (2 MiB) the rest is not looked at, so that a decision stays within about two milliseconds."""


class Prompt(NamedTuple):
    """A prompt as the balancer sees it: the hash of each full block with all text before it, and its tokens, estimated
    from its length."""

    blocks: Sequence[int]
    tokens: int


NO_PROMPT = Prompt((), 0)
"""A request without a prompt that could be cached, like one for embeddings."""


def prompt_of(body: Mapping[str, Any]) -> Prompt:
    """The prompt in the body of a chat (``tools``, then ``messages``) or completion (``prompt``), whatever it holds.

    The same conversation with more messages gives the same blocks and more; another role, tool or text gives others
    from there on. Never raises for values that JSON can hold.
    """
    try:
        text = _text_of(body)
    except RecursionError:
        # Nested deeper than Python can write: whatever it is, it has no text to compare.
        return NO_PROMPT
    # Half a surrogate pair has no UTF-8, and JSON can name one.
    return prompt_of_text(text.encode("utf-8", "surrogatepass"))


def _text_of(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    if isinstance(messages, list):
        parts = [_said(message) for message in messages]
        tools = body.get("tools")
        if tools:
            parts.insert(0, repr(tools))
        return "\x1e".join(parts)
    prompt = body.get("prompt", "")
    return prompt if isinstance(prompt, str) else repr(prompt)


def prompt_of_text(text: bytes) -> Prompt:
    """The prompt that consists of ``text``."""
    size = len(text)
    ends = min(size, MOST_BLOCKS * BLOCK_BYTES) - BLOCK_BYTES + 1
    before = 0
    blocks = [before := hash((before, text[at : at + BLOCK_BYTES])) for at in range(0, ends, BLOCK_BYTES)]
    return Prompt(blocks, size // BYTES_PER_TOKEN)


def _said(message: Any) -> str:
    if isinstance(message, dict) and len(message) == 2:
        role, content = message.get("role"), message.get("content")
        if isinstance(role, str) and isinstance(content, str):
            return f"{role}\x1f{content}"
    return repr(message)


class PrefixIndex:
    """The blocks that one replica holds, as far as the requests sent to it tell: the least recently used go first.

    ``capacity_tokens``: how much the engine keeps. An engine that starts again has lost everything: make a new one.
    A block is never kept without those before it (``insert`` makes the earlier of a prompt the younger), which is what
    allows ``match`` to halve.
    """

    __slots__ = ("_blocks", "_capacity")

    def __init__(self, capacity_tokens: int) -> None:
        self._capacity = max(0, capacity_tokens) // BLOCK_TOKENS
        self._blocks: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        """Blocks held."""
        return len(self._blocks)

    def match(self, blocks: Sequence[int]) -> int:
        """How many of the leading ``blocks`` are held."""
        held = self._blocks
        if not blocks or blocks[0] not in held:
            return 0
        least, most = 1, len(blocks)
        if blocks[-1] in held:
            return most
        while least < most:
            middle = (least + most) // 2
            if blocks[middle] in held:
                least = middle + 1
            else:
                most = middle
        return least

    def displaced(self, blocks: Sequence[int], held: int) -> int:
        """How many blocks go once these come, ``held`` of which are held."""
        return max(0, len(self._blocks) + len(blocks) - held - self._capacity)

    def insert(self, blocks: Sequence[int]) -> None:
        """Note that the replica has been given a prompt of these blocks."""
        held, capacity = self._blocks, self._capacity
        touch = held.move_to_end
        for block in reversed(blocks if len(blocks) <= capacity else list(islice(blocks, capacity))):
            held[block] = 1
            touch(block)
        drop = held.popitem
        for _ in range(len(held) - capacity):
            drop(last=False)


class WholePromptIndex(PrefixIndex):
    """The same of an engine that keeps each prompt by itself: a beginning that many have in common takes room in each
    of them. The prompts least recently used go first, and one that goes on from another takes its place."""

    __slots__ = ("_prompts", "_size")

    def __init__(self, capacity_tokens: int) -> None:
        super().__init__(capacity_tokens)
        self._prompts: OrderedDict[int, Sequence[int]] = OrderedDict()
        """By their last blocks. ``_blocks`` has in how many of them each block is."""
        self._size = 0

    def __len__(self) -> int:
        """Blocks held, each as often as it is kept."""
        return self._size

    def displaced(self, blocks: Sequence[int], held: int) -> int:
        """How many blocks go at least once these come, ``held`` of which are held; prompts go whole."""
        over = self._size + len(blocks) - self._capacity
        return max(0, over - self._continued(blocks, held)) if over > 0 else 0

    def insert(self, blocks: Sequence[int]) -> None:
        """Note that the replica has been given a prompt of these blocks."""
        blocks = blocks[: self._capacity]
        if not blocks:
            return
        before = self._continued(blocks, len(blocks))
        if before:
            self._drop(self._prompts.pop(blocks[before - 1]))
        uses = self._blocks
        for block in blocks:
            uses[block] = uses.get(block, 0) + 1
        self._prompts[blocks[-1]] = blocks
        self._size += len(blocks)
        while self._size > self._capacity:
            self._drop(self._prompts.popitem(last=False)[1])

    def _continued(self, blocks: Sequence[int], most: int) -> int:
        """Of a prompt that these go on from, the number of blocks; 0: there is none."""
        prompts = self._prompts
        for count in range(most, 0, -1):
            if blocks[count - 1] in prompts:
                return count
        return 0

    def _drop(self, blocks: Sequence[int]) -> None:
        uses = self._blocks
        for block in blocks:
            left = uses[block] - 1
            if left:
                uses[block] = left
            else:
                del uses[block]
        self._size -= len(blocks)
