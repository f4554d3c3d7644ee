"""How much memory a replica needs, and whether a hardware configuration has it.

Pure. Called by services (to list hardware for a model, to check a create), by engines before a launch, and by the cache
for what a header says. It never looks at a file or a machine: sizes are arguments. A replica needs

    weights x copies  +  kv_bytes_per_token x context_length x slots  +  overhead

``copies`` and ``overhead`` are the engine's (``MemoryUse``). One token of context takes, in every layer, a key and a
value for each of its key-value heads: 2 x layers x kv_heads x head_dim x bytes per value (Pope et al. 2022,
"Efficiently Scaling Transformer Inference"). In a GGUF header these are ``block_count``, ``attention.head_count_kv``,
``attention.key_length`` and ``attention.value_length`` (else ``embedding_length / attention.head_count``); llama.cpp
keeps values of 16 bit. Layers that remember less than the whole context (sliding windows) count as if they did: it is
an upper bound.

A configuration has its share of main memory (CPU), or its accelerators' memory times ``USABLE``. What is not known
rules nothing out.

What some engines keep of earlier prompts in main memory is no need: it takes half of what the rest leaves, at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, floor, sqrt

from roost.domain.hardware import Hardware
from roost.domain.model import Fetch, Footprint, Model

MIB = 1024**2
GIB = 1024**3
USABLE = 0.9
"""The part of an accelerator's memory that a replica can use: the driver, the kernels and what cannot be allotted in
one piece take the rest. vLLM's ``gpu_memory_utilization`` has the same default."""
KV_VALUE_BYTES = 2
"""Bytes of one value in the key-value cache (16 bit)."""
MOST_BYTES = 1 << 60
"""More than any machine has: entries may claim what they like, and sums of it must remain numbers."""
MAX_COUNT = 1 << 24
"""More than any layer, head or width of a real header."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """How an engine uses memory: how often the weights lie in it, on CPUs and on accelerators, and what the process
    and its buffers take beside weights and context. ``prompt_cache_bytes``: the most that it keeps in main memory of
    prompts that no slot holds any more, where there is room."""

    copies_on_cpu: float = 1.0
    copies_on_accelerator: float = 1.0
    overhead_bytes: int = 256 * MIB
    prompt_cache_bytes: int = 0


USUAL_MEMORY = MemoryUse()
"""An engine that says nothing else: the weights once."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one replica is to hold: weights, and ``slots`` contexts of ``context_length`` tokens each. ``footprint``
    None means that the size is unknown; bytes per token that are unknown are estimated."""

    footprint: Footprint | None
    context_length: int
    slots: int = 1
    use: MemoryUse = USUAL_MEMORY


@dataclass(frozen=True, slots=True)
class Need:
    """What a replica needs, in bytes; ``weights_bytes`` are those of all ``copies``. ``estimated``: the context's term
    is a guess from the weights' size."""

    copies: float
    weights_bytes: int
    context_bytes: int
    overhead_bytes: int
    estimated: bool

    @property
    def total_bytes(self) -> int:
        """The sum of the terms."""
        return self.weights_bytes + self.context_bytes + self.overhead_bytes


@dataclass(frozen=True, slots=True)
class Sizing:
    """Whether a replica fits, and why (a sentence). ``need`` None and ``has_bytes`` None: unknown."""

    fits: bool
    reason: str
    need: Need | None
    has_bytes: int | None


def size(demand: Demand, hardware: Hardware) -> Sizing:
    """Whether a replica of ``demand`` fits ``hardware`` when that is empty."""
    has = memory_of(hardware)
    need = need_of(demand, on_accelerator=hardware.resources.accelerators > 0)
    if need is None:
        return Sizing(True, "The size of the weights is unknown, so no hardware is ruled out.", None, has)
    told = _told(need, demand)
    if has is None:
        return Sizing(True, f"{told}; how much {hardware.id} has is unknown.", need, None)
    if need.total_bytes <= has:
        return Sizing(True, f"{told}, and {hardware.id} has {_amount(has, floor)}.", need, has)
    reason = f"{told}, but {hardware.id} has {_amount(has, floor)}: {_advice(need, has, demand)}."
    return Sizing(False, reason, need, has)


def need_of(demand: Demand, *, on_accelerator: bool) -> Need | None:
    """What a replica of ``demand`` needs; None when the size of its weights is unknown."""
    footprint, use = demand.footprint, demand.use
    if footprint is None:
        return None
    copies = use.copies_on_accelerator if on_accelerator else use.copies_on_cpu
    weights, known = min(footprint.weights_bytes, MOST_BYTES), footprint.kv_bytes_per_token
    per_token = known if known is not None else estimated_kv_bytes_per_token(weights)
    return Need(
        copies=copies,
        weights_bytes=ceil(weights * copies),
        context_bytes=min(per_token * demand.context_length * demand.slots, MOST_BYTES),
        overhead_bytes=use.overhead_bytes,
        estimated=known is None,
    )


def prompt_cache_bytes(use: MemoryUse, memory_bytes: int, needed_bytes: int) -> int:
    """How much of ``memory_bytes`` of main memory is for prompts that no slot holds: half of what is left beside
    ``needed_bytes``, the other half staying free for what is not counted there. 0: none."""
    return max(0, min(use.prompt_cache_bytes, (memory_bytes - needed_bytes) // 2))


def cached_tokens(demand: Demand, hardware: Hardware | None) -> int:
    """How many tokens of prompts a replica of ``demand`` keeps: the contexts of its slots, and what its prompt cache
    holds on ``hardware``, as far as that is known."""
    in_slots = demand.context_length * demand.slots
    if hardware is None or not demand.use.prompt_cache_bytes:
        return in_slots
    need = need_of(demand, on_accelerator=hardware.resources.accelerators > 0)
    if need is None or not need.context_bytes:
        return in_slots
    room = prompt_cache_bytes(demand.use, hardware.resources.memory_bytes, need.total_bytes)
    return in_slots + room * in_slots // need.context_bytes


def footprint_of(model: Model, fetch: Fetch) -> Footprint | None:
    """What is known of the model's size, ``fetch`` being the condition of its weights: what their header told, else
    what the entry declares, else the size of the file; None when nothing is known."""
    told, declared = fetch.footprint, model.footprint
    if told is not None and told.kv_bytes_per_token is not None:
        return told
    per_token = declared.kv_bytes_per_token if declared is not None else None
    if told is not None:
        return replace(told, kv_bytes_per_token=per_token)
    if declared is not None:
        return declared
    size_bytes = model.source.size_bytes or fetch.total_bytes if model.source is not None else None
    return Footprint(size_bytes) if size_bytes else None


def memory_of(hardware: Hardware) -> int | None:
    """Bytes of memory that a replica can use on ``hardware``; None when it is unknown."""
    if hardware.resources.accelerators == 0:
        return hardware.resources.memory_bytes
    return floor(hardware.memory_gb * 1e9 * hardware.gpu_count * USABLE) or None


def estimated_kv_bytes_per_token(weights_bytes: int) -> int:
    """A guess for weights whose header is not known yet: within a quarter of the truth for SmolLM2 135M (23 kB),
    Llama 3 8B (131 kB) and 70B (328 kB) in four bits; too low for models without grouped heads."""
    return round(2 * sqrt(weights_bytes))


def kv_bytes_per_token(header: Mapping[str, object]) -> int | None:
    """Bytes that one token of context takes, from the entries of a GGUF header; None where they do not tell."""
    arch = header.get("general.architecture")

    def number(name: str) -> int | None:
        return _count(header.get(f"{arch}.{name}"))

    layers, width, heads = number("block_count"), number("embedding_length"), number("attention.head_count")
    per_layer = header.get(f"{arch}.attention.head_count_kv", heads)
    if layers is None:
        return None
    if isinstance(per_layer, list):
        kv_heads = sum(each for each in per_layer if isinstance(each, int)) or None
    else:
        of_each = _count(per_layer)
        kv_heads = of_each * layers if of_each is not None else None
    head = width // heads if width and heads else None
    key, value = number("attention.key_length") or head, number("attention.value_length") or head
    if kv_heads is None or key is None or value is None:
        return None
    return kv_heads * (key + value) * KV_VALUE_BYTES


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 < value < MAX_COUNT else None


def _told(need: Need, demand: Demand) -> str:
    once = f"{need.copies:g} x " if need.copies > 1 else ""
    weights = f"{once}{_amount(round(need.weights_bytes / max(need.copies, 1)))}"
    tokens = f"{demand.slots} x {demand.context_length} tokens"
    context = f"{_amount(need.context_bytes)}{' by estimate' if need.estimated else ''}"
    return (
        f"A replica needs {_amount(need.total_bytes, ceil)} of memory (weights {weights}, "
        f"context of {tokens} {context}, engine {_amount(need.overhead_bytes)})"
    )


def _amount(count: int, rounded: Callable[[float], int] = round) -> str:
    """Bytes for people. A need is rounded up and what there is down, so that the two never read alike."""
    return f"{rounded(count / MIB)} MiB" if count < 10 * GIB else f"{rounded(count / GIB * 10) / 10:.1f} GiB"


def _advice(need: Need, has_bytes: int, demand: Demand) -> str:
    room = has_bytes - need.weights_bytes - need.overhead_bytes
    per_token = need.context_bytes // (demand.context_length * demand.slots)
    tokens = max(room, 0) // per_token if per_token else 0
    if tokens < demand.slots:
        return "choose larger hardware or smaller weights"
    choices = ["choose larger hardware", f"a context_length of at most {tokens // demand.slots}"]
    if tokens >= demand.context_length:
        fitting = tokens // demand.context_length
        choices.append(f"at most {fitting} slot{'' if fitting == 1 else 's'}")
    return f"{', '.join(choices[:-1])} or {choices[-1]}"
