"""Engine ``llama_cpp``: GGUF weights on llama.cpp, through xllamacpp, in a process of its own
(``engines.llama_cpp_server``). Found through ``engines.registry``. It looks at the weights file and starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from roost.domain.errors import LaunchRefused
from roost.domain.hardware import Hardware
from roost.domain.launch import LISTEN, LaunchSpec, ProcessSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, Failure
from roost.engines.base import Capabilities, LaunchRequest, Probe
from roost.engines.llama_cpp_failures import explain

DEFAULT_SLOTS = 4
MIB = 1024**2
OVERHEAD = 300 * MIB
"""What the process needs beside weights and caches: code, graph buffers, the Python interpreter."""

LARGEST_CACHE_MIB = 8192
OPTIONS: Mapping[str, str] = {"threads_batch": "--threads-batch", "batch": "--batch", "ubatch": "--ubatch"}
"""Options of a model entry that become flags of the engine process; whole numbers."""


class LlamaCppEngine:
    """llama.cpp. One replica works on ``slots`` requests at once (4 where the entry names none), each with the model's
    whole context length."""

    name = "llama_cpp"

    def version(self) -> str | None:
        """The version of xllamacpp, None when it is not installed."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("xllamacpp")
        except PackageNotFoundError:
            return None

    def missing(self) -> str | None:
        """xllamacpp, when it is not installed."""
        if find_spec("xllamacpp") is None:
            return "The package xllamacpp is not installed; get it with `pip install 'roost[llamacpp]'`."
        return None

    def capabilities(self, model: Model) -> Capabilities:
        """Any model name is accepted; a dropped non-stream request goes on generating, so the gateway streams."""
        return Capabilities(slots=model.slots or DEFAULT_SLOTS, cancels_non_stream=False, metrics=True)

    def build(self, request: LaunchRequest) -> LaunchSpec:
        """One process on the replica's threads. Raises ``LaunchRefused`` when it cannot work."""
        lack = self.missing()
        if lack is not None:
            raise LaunchRefused(lack, code="missing_package")
        weights = checked_weights(request)
        hardware, model = request.hardware, request.model
        argv = [
            sys.executable,
            "-m",
            "roost.engines.llama_cpp_server",
            f"--listen={LISTEN}",
            f"--model={weights}",
            f"--alias={request.endpoint_id}",
            f"--threads={hardware.resources.threads}",
            f"--context={model.context_length}",
            f"--slots={model.slots or DEFAULT_SLOTS}",
            f"--cache-ram-mib={prompt_cache_mib(hardware, weights.stat().st_size)}",
            *option_flags(model),
        ]
        if not request.speculative_decoding:
            argv.append("--no-speculation")
        return LaunchSpec(
            endpoint_id=request.endpoint_id,
            processes=(ProcessSpec(tuple(argv)),),
            resources=hardware.resources,
            accelerator=hardware.accelerator,
            zone=request.placement.zone,
            node_id=request.placement.node_id,
        )

    def probe(self, model: Model) -> Probe:
        """A one-token chat."""
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        return Probe("POST", "/v1/chat/completions", body)

    def explain(self, exit: ExitInfo) -> Failure:
        """The cause, from llama.cpp's first error line."""
        return explain(exit)


def checked_weights(request: LaunchRequest) -> Path:
    """The weights file, there and of the right format. Raises ``LaunchRefused``."""
    if request.weights_path is None:
        raise LaunchRefused(f"{request.model.id} names no weights; add it with --file or --source.", code="no_weights")
    path = Path(request.weights_path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LaunchRefused(f"The weights {path} cannot be read: {error.strerror}.", code="no_weights") from error
    if magic != b"GGUF":
        raise LaunchRefused(
            f"{path} is not a GGUF file; llama.cpp runs GGUF weights only. Convert the model first.",
            code="wrong_format",
        )
    return path


def prompt_cache_mib(hardware: Hardware, weights_bytes: int) -> int:
    """How much memory, in MiB, llama.cpp may keep prompts in: half of what the replica's memory leaves beside weights
    and process, since the slots' own caches need the rest; at most llama.cpp's default of 8 GiB, at least 0."""
    left = hardware.resources.memory_bytes - weights_bytes - OVERHEAD
    return max(0, min(left // 2 // MIB, LARGEST_CACHE_MIB))


def option_flags(model: Model) -> list[str]:
    """The entry's options as flags. Raises ``LaunchRefused`` for one that is unknown or not a whole number."""
    flags = []
    for name, value in sorted(model.options.items()):
        if name not in OPTIONS:
            known = ", ".join(sorted(OPTIONS))
            raise LaunchRefused(f"llama_cpp has no option {name!r}; it has {known}.", code="unknown_option")
        if not value.isdecimal():
            raise LaunchRefused(f"The option {name} takes a whole number, not {value!r}.", code="unknown_option")
        flags.append(f"{OPTIONS[name]}={value}")
    return flags
