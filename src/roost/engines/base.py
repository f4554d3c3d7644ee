"""The engine interface: an extension point.

An engine turns a model and the resources of one replica into a ``LaunchSpec``, says how to prove readiness, and
explains failures. It is pure apart from looking at local files: it never starts a process and never talks to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from roost.domain.hardware import Hardware, Placement
from roost.domain.launch import LaunchSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, Failure
from roost.domain.routing import OPENAI
from roost.policy.sizing import USUAL_MEMORY, MemoryUse


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do for one model, as the gateway and control need to know.

    ``slots``: requests one replica works on at once, None for no limit. ``cancels_non_stream``: a dropped non-stream
    request stops generating. ``can_continue``: asked with the beginning of an answer behind its prompt (of
    chat: as the last message, the assistant's), it gives the rest of it. ``any_model_name``: the body's ``model`` may
    hold anything, so that bodies pass untouched; otherwise ``served_model`` must be put there.
    ``dialect`` names what its API wants instead of OpenAI's (``roost.domain.routing``). With
    ``speculation_spoils_logprobs`` log probabilities are asked only of endpoints that disable speculative decoding.
    ``managed`` is False for servers that Roost did not start (``external``): no LaunchSpec, a probe only, any listed
    hardware accepted and nothing reserved, scaling a no-op. ``memory`` is how much it takes beside and for the weights;
    None: next to none, so that any hardware holds it.
    """

    slots: int | None = None
    cancels_non_stream: bool = True
    can_continue: bool = False
    any_model_name: bool = True
    served_model: str | None = None
    metrics: bool = False
    adapters: bool = False
    sleep: bool = False
    dialect: str = OPENAI
    speculation_spoils_logprobs: bool = False
    managed: bool = True
    memory: MemoryUse | None = USUAL_MEMORY
    health_path: str | None = None
    """What a replica answers to a GET with less than a 500 as long as it lives, however busy it is. None: that it can
    be connected to must do."""
    usage_on_request: bool = True
    """Streams tell how many tokens they took only to who asks with OpenAI's ``stream_options.include_usage``: the
    gateway then asks for it. False where they tell it anyway, or where the server knows no such parameter."""
    keeps_prompts_whole: bool = False
    """What it keeps of earlier prompts it keeps of each by itself: what several begin with takes room in each."""
    stands_in: bool = False
    """What runs is not the model that the entry declares: memory is reckoned for that one, by the entry's footprint,
    with room for one whole context."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """Everything an engine may use to build a LaunchSpec. ``weights_path`` is None for models without a source."""

    endpoint_id: str
    endpoint_name: str
    model: Model
    hardware: Hardware
    placement: Placement
    weights_path: str | None
    speculative_decoding: bool = True


@dataclass(frozen=True, slots=True)
class Probe:
    """One HTTP request that proves readiness by a one-token generation: 2xx within ``timeout_s`` means ready."""

    method: str
    path: str
    body: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 30.0


class Engine(Protocol):
    """What every engine offers. Implementations are constructed without arguments by the registry."""

    name: str

    def version(self) -> str | None:
        """The version of the underlying software, None when it cannot be told or is not installed."""
        ...

    def missing(self) -> str | None:
        """What this machine lacks to run the engine and how to get it, as one sentence; None when nothing."""
        ...

    def capabilities(self, model: Model) -> Capabilities:
        """What the engine can do for ``model``."""
        ...

    def check_options(self, model: Model) -> None:
        """Raise ``LaunchRefused`` (one sentence that lists what there is) unless the engine has each of the entry's
        ``options`` and takes its value: asked when an entry is added. Pure."""
        ...

    def build(self, request: LaunchRequest) -> LaunchSpec:
        """The launch spec of one replica.

        Raises ``LaunchRefused`` (one sentence and what to do) when it cannot work: no weights, wrong format, the
        package missing. Raises it for unmanaged engines always.
        """
        ...

    def probe(self, model: Model) -> Probe:
        """The request that proves a replica of ``model`` ready."""
        ...

    def explain(self, exit: ExitInfo) -> Failure:
        """Why a replica's process ended, from its exit status and its last log lines."""
        ...
