"""llama.cpp, through the ``xllamacpp`` package: the default engine.

Called by control through the registry. It builds the command line of ``roost.engines.llama_cpp_server`` and explains
how that process ended; it never imports ``xllamacpp`` itself, which is 100 MB of native code.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from roost.domain.errors import LaunchRefused
from roost.domain.launch import LISTEN, LaunchSpec, ProcessSpec
from roost.domain.model import Footprint, Model
from roost.domain.replica import ExitInfo, Failure
from roost.domain.routing import LLAMA_CPP
from roost.engines import llama_cpp_exits
from roost.engines.base import Capabilities, LaunchRequest, Probe
from roost.engines.gguf_shape import HEAD_BYTES, facts, kv_bytes_per_token
from roost.engines.llama_cpp_output import OUTPUT
from roost.policy.sizing import Demand, MemoryUse, prompt_cache_bytes, size

SERVER = "roost.engines.llama_cpp_server"
PACKAGE = "xllamacpp"
DEFAULT_SLOTS = 4
TASKS = {
    "chat": "generate",
    "language": "generate",
    "code": "generate",
    "embedding": "embedding",
    "rerank": "rerank",
}
"""What a replica does, by the type of its model."""
MIB = 1024**2

MEMORY = MemoryUse(copies_on_cpu=2.0, overhead_bytes=256 * MIB)
"""On CPUs llama.cpp repacks the weights for the processor beside the mapped file. The overhead is room for the
interpreter, the native code and llama.cpp's compute buffers."""
MAX_PROMPT_CACHE_MIB = 8192
"""llama.cpp's own bound; more prefixes than that are rarely asked for again."""
CPU_BATCH = 64
"""Tokens of a prompt in one step on CPUs. Between two steps llama.cpp ends requests that are over and lets its other
slots go on; larger steps compute a prompt no faster there."""
LOAD_BYTES_PER_S = 50 * MIB
"""The slowest disk that a load is expected from."""
SPIN_COUNT = 1000
"""How long an idle worker thread spins before it sleeps. OpenMP's default (hundreds of thousands) makes a replica that
shares its cores with anything else several times slower; a short spin costs next to nothing on idle cores."""

_RANGES = {
    "batch": (1, 2**20),
    "ubatch": (1, 2**20),
    "prompt_cache_mib": (0, MAX_PROMPT_CACHE_MIB),
    "start_timeout_s": (1, 86_400),
}
_LONGEST_NUMBER = 7
"""Digits of the largest of them."""
OPTIONS = {
    "batch": f"a whole number of tokens from 1 to {_RANGES['batch'][1]}",
    "ubatch": f"a whole number of tokens from 1 to {_RANGES['ubatch'][1]}",
    "speculation": "on or off",
    "pooling": "mean, cls or last",
    "prompt_cache_mib": f"a whole number, at most {MAX_PROMPT_CACHE_MIB}; 0 turns the cache off",
    "start_timeout_s": f"a whole number of seconds from 1 to {_RANGES['start_timeout_s'][1]}",
}
"""Engine options of a model's entry, and what each takes."""
_WORDS = {"speculation": ("off", "on"), "pooling": ("mean", "cls", "last")}


class LlamaCppEngine:
    """GGUF weights on CPU threads (or accelerators, where the installed ``xllamacpp`` was built for them)."""

    name = "llama_cpp"

    def version(self) -> str | None:
        """The version of ``xllamacpp``, None when it is not installed."""
        try:
            return version(PACKAGE)
        except PackageNotFoundError:
            return None

    def missing(self) -> str | None:
        """What to install, None when it is there."""
        if find_spec(PACKAGE) is not None:
            return None
        return "The llama_cpp engine needs the package xllamacpp; install it with: pip install 'roost[llamacpp]'."

    def capabilities(self, model: Model) -> Capabilities:
        """A dropped non-stream request is generated to its end, so the gateway must ask for streams only."""
        return Capabilities(
            slots=slots_of(model),
            cancels_non_stream=False,
            any_model_name=True,
            can_continue=TASKS.get(model.type) == "generate",
            metrics=True,
            health_path="/health",
            # Each stream ends with `timings`.
            usage_on_request=False,
            dialect=LLAMA_CPP,
            # It reports no probability of a token that was guessed right.
            speculation_spoils_logprobs=speculates(model),
            memory=memory_of(model),
            keeps_prompts_whole=True,
        )

    def check_options(self, model: Model) -> None:
        """Raise ``LaunchRefused`` for an option that llama.cpp lacks, or a value that it does not take."""
        read_options(model)

    def build(self, request: LaunchRequest) -> LaunchSpec:
        """The server's command line. Raises ``LaunchRefused``."""
        missing = self.missing()
        if missing:
            raise LaunchRefused(missing, code="missing_package")
        model, hardware = request.model, request.hardware
        options = read_options(model)
        task = TASKS.get(model.type)
        if task is None:
            raise LaunchRefused(
                f"The llama_cpp engine serves models of type {', '.join(TASKS)}; {model.id} is of type {model.type!r}.",
                code="unsupported_model",
            )
        weights = check_weights(model, request.weights_path)
        weights_bytes = weights.stat().st_size
        threads = max(1, hardware.resources.threads)
        cache = self._prompt_cache(request, weights, weights_bytes)
        argv = [sys.executable, "-P", "-m", SERVER]
        argv += ["--listen", LISTEN, "--model", str(weights), "--alias", request.endpoint_name]
        argv += ["--threads", str(threads), "--slots", str(slots_of(model)), "--context", str(model.context_length)]
        argv += ["--cache-ram-mib", str(cache), "--accelerators", str(hardware.resources.accelerators)]
        if task != "generate":
            argv += ["--task", task]
            # An input is worked on in one piece.
            options = {"batch": model.context_length, "ubatch": model.context_length, **options}
        elif not hardware.resources.accelerators and options.keys().isdisjoint(("batch", "ubatch")):
            batch = max(CPU_BATCH, slots_of(model))
            options = {"batch": batch, "ubatch": batch, **options}
        if task == "embedding":
            argv += pooling(model, weights)
        argv += [part for name in ("batch", "ubatch") if name in options for part in (f"--{name}", str(options[name]))]
        if request.speculative_decoding and speculates(model):
            argv.append("--speculation")
        timeout = options.get("start_timeout_s") or 120 + weights_bytes // LOAD_BYTES_PER_S
        return LaunchSpec(
            endpoint_id=request.endpoint_id,
            processes=(ProcessSpec(tuple(argv), env=thread_environment(threads), output=OUTPUT),),
            resources=hardware.resources,
            accelerator=hardware.accelerator,
            zone=request.placement.zone,
            node_id=request.placement.node_id,
            start_timeout=timedelta(seconds=timeout),
        )

    def _prompt_cache(self, request: LaunchRequest, weights: Path, weights_bytes: int) -> int:
        model, hardware = request.model, request.hardware
        footprint = Footprint(weights_bytes, kv_bytes_per_token(weights))
        demand = Demand(footprint, model.context_length, slots_of(model), memory_of(model))
        sized = size(demand, hardware)
        if not sized.fits:
            raise LaunchRefused(f"{model.id} does not fit {hardware.id}. {sized.reason}", code="out_of_memory")
        needed = sized.need.total_bytes if sized.need is not None else 0
        return prompt_cache_bytes(demand.use, hardware.resources.memory_bytes, needed) // MIB

    def probe(self, model: Model) -> Probe:
        """One token, of chat where the model chats."""
        if model.type == "chat":
            messages = [{"role": "user", "content": "Hi"}]
            return Probe("POST", "/v1/chat/completions", {"messages": messages, "max_tokens": 1})
        if model.type == "embedding":
            return Probe("POST", "/v1/embeddings", {"input": "Hi"})
        if model.type == "rerank":
            return Probe("POST", "/v1/rerank", {"query": "Hi", "documents": ["Hi"]})
        return Probe("POST", "/v1/completions", {"prompt": "Hi", "max_tokens": 1})

    def explain(self, exit: ExitInfo) -> Failure:
        """llama.cpp's own first error line, as a code and a sentence."""
        return llama_cpp_exits.explain(exit)


def slots_of(model: Model) -> int:
    """Requests that a replica works on at once."""
    return model.slots if model.slots is not None else DEFAULT_SLOTS


def memory_of(model: Model) -> MemoryUse:
    """How a replica of ``model`` uses memory. An option that ``check_options`` refuses counts as none."""
    wanted = _number("prompt_cache_mib", model.options.get("prompt_cache_mib", ""))
    return replace(MEMORY, prompt_cache_bytes=MIB * (MAX_PROMPT_CACHE_MIB if wanted is None else wanted))


def speculates(model: Model) -> bool:
    """Whether the entry turns n-gram speculation on."""
    return model.options.get("speculation") == "on" and TASKS.get(model.type) == "generate"


def pooling(model: Model, weights: Path) -> list[str]:
    """The arguments for how an embedding is made of the tokens': as the entry says, else as the file's header does,
    else by their mean. Raises ``OSError``."""
    if "pooling" in model.options:
        return ["--pooling", model.options["pooling"]]
    with weights.open("rb") as file:
        known = facts(file.read(HEAD_BYTES))
    named = any(name.endswith(".pooling_type") and value for name, value in known.items())
    return [] if named else ["--pooling", "mean"]


def thread_environment(threads: int) -> dict[str, str]:
    """Variables that keep native thread pools to the replica's threads."""
    count = str(threads)
    return {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "GOMP_SPINCOUNT": str(SPIN_COUNT)}


def read_options(model: Model) -> dict[str, int]:
    """The entry's options as numbers (a word as its place in ``_WORDS``). Raises ``LaunchRefused``."""
    found = {}
    for name, text in model.options.items():
        if name not in OPTIONS:
            raise LaunchRefused(
                f"{model.id}: the llama_cpp engine has no option {name!r}; it has {', '.join(sorted(OPTIONS))}.",
                code="unknown_option",
            )
        number = _number(name, text)
        if number is None:
            raise LaunchRefused(f"{model.id}: {name} takes {OPTIONS[name]}, not {text[:100]!r}.", code="unknown_option")
        found[name] = number
    return found


def _number(name: str, text: str) -> int | None:
    words = _WORDS.get(name)
    if words is not None:
        return words.index(text) if text in words else None
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER):
        return None
    least, most = _RANGES[name]
    return int(text) if least <= int(text) <= most else None


def check_weights(model: Model, weights_path: str | None) -> Path:
    """The weights file, absolute, once it is known to be there, a GGUF file and of the right size. Raises
    ``LaunchRefused``."""
    if weights_path is None:
        raise LaunchRefused(
            f"{model.id} has no weights: its entry names no source, and the llama_cpp engine needs a GGUF file.",
            code="missing_weights",
        )
    path = Path(weights_path).absolute()
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LaunchRefused(
            f"The weights of {model.id} cannot be read ({path}: {error.strerror}); fetch them again.",
            code="missing_weights",
        ) from error
    expected = model.source.size_bytes if model.source is not None else None
    if expected is not None and size != expected:
        raise LaunchRefused(
            f"The weights of {model.id} are damaged: {path} has {size} bytes instead of {expected}; remove the file, "
            "and it is fetched again.",
            code="corrupt_weights",
        )
    if magic != b"GGUF":
        raise LaunchRefused(
            f"{path} is not a GGUF file; the llama_cpp engine runs GGUF weights only. Convert the model first.",
            code="wrong_format",
        )
    return path
