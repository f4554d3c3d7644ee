"""The sandbox's engine: llama.cpp with the weights of a small model, under the name of a large one.

Called by control through the registry, on servers started with ``roost serve --sandbox`` only. It builds what the
llama.cpp engine would build for one CPU thread; what is reserved stays the declared hardware, so that placement and
prices are those of the real thing. It must never look at the declared hardware to decide what really runs.
"""

from __future__ import annotations

from dataclasses import replace

from roost.domain.hardware import Hardware, Resources
from roost.domain.launch import LaunchSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, Failure
from roost.engines.base import Capabilities, LaunchRequest, Probe
from roost.engines.llama_cpp import LlamaCppEngine
from roost.policy.sizing import USUAL_MEMORY

SLOTS = 2
CONTEXT = 2048
"""Tokens of context that each slot really has, whatever the model under whose name it answers has."""
MEMORY_BYTES = 1024**3


class SandboxEngine:
    """One thread, ``SLOTS`` requests at once, a context of ``CONTEXT`` tokens."""

    name = "sandbox"

    def __init__(self) -> None:
        self._llama_cpp = LlamaCppEngine()

    def version(self) -> str | None:
        """The version of ``xllamacpp``, marked as the sandbox's; None when it is not installed."""
        version = self._llama_cpp.version()
        return None if version is None else f"sandbox on xllamacpp {version}"

    def missing(self) -> str | None:
        """What to install, None when it is there."""
        return self._llama_cpp.missing()

    def capabilities(self, model: Model) -> Capabilities:
        """Those of llama.cpp; memory as a server that keeps the declared model on accelerators uses it."""
        return replace(self._llama_cpp.capabilities(really_run(model)), memory=USUAL_MEMORY, stands_in=True)

    def check_options(self, model: Model) -> None:
        """The options are llama.cpp's. Raises ``LaunchRefused``."""
        self._llama_cpp.check_options(model)

    def build(self, request: LaunchRequest) -> LaunchSpec:
        """llama.cpp on one thread, on the books as the hardware asked for. Raises ``LaunchRefused``."""
        declared = request.hardware
        spec = self._llama_cpp.build(
            replace(request, model=really_run(request.model), hardware=one_thread_of(declared))
        )
        return replace(spec, resources=declared.resources, accelerator=declared.accelerator)

    def probe(self, model: Model) -> Probe:
        """That of llama.cpp."""
        return self._llama_cpp.probe(really_run(model))

    def explain(self, exit: ExitInfo) -> Failure:
        """As llama.cpp's."""
        return self._llama_cpp.explain(exit)


def really_run(model: Model) -> Model:
    """``model`` as this machine runs it."""
    return replace(model, context_length=min(model.context_length, CONTEXT), slots=SLOTS, footprint=None)


def one_thread_of(declared: Hardware) -> Hardware:
    """What an engine of the sandbox really gets."""
    resources = Resources(threads=1, memory_bytes=MEMORY_BYTES)
    return replace(declared, accelerator="cpu", gpu_count=1, resources=resources)
