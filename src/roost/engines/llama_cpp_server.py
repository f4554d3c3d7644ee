"""The llama.cpp engine process: ``python -m roost.engines.llama_cpp_server --listen ADDRESS --model PATH ...``.

Started by a runtime, as ``LlamaCppEngine.build`` asks. It imports as little as it can, since its start is part of a
cold start, and begins to listen only when the weights are loaded, so that its first answer is an answer. SIGTERM ends
it at once, whatever is in flight: whoever sends it has drained it before.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from roost.engines.chat_template import template_for
from roost.engines.listen import Listen, parse_listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LOADING_SUFFIX = ".loading.sock"
"""Names of sockets whose servers still load; llama.cpp wants ``.sock`` at the end."""
WARNINGS = 2
"""llama.cpp's verbosity: warnings and errors, nothing per token."""

NOT_STARTED = 70
"""Exit status when llama.cpp could not start."""
MISSING = 69
"""Exit status when a package or an accelerator is missing."""
USAGE = 2
"""Exit status for unknown options, as ``argparse`` has it."""


def main(arguments: Sequence[str]) -> int:
    """Load, serve until SIGTERM or SIGINT; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        import xllamacpp
    except ImportError as error:
        _say(f"missing package xllamacpp: {error}")
        return MISSING
    if options.accelerators and not _accelerators(xllamacpp):
        _say(f"missing accelerator: {options.accelerators} reserved, but this xllamacpp finds none")
        return MISSING
    listen: Listen = options.listen
    parameters = _parameters(xllamacpp, options)
    hidden = None
    if listen.path is None:
        parameters.hostnames, parameters.port = [listen.host], listen.port
    else:
        try:
            hidden = _hidden_socket(listen.path)
        except OSError as error:
            _say(f"cannot listen on {listen.path}: {error.strerror}")
            return NOT_STARTED
        parameters.hostnames = [hidden]
    # Nobody but this user may connect. Until the server is up, SIGTERM ends the process by its default action: no
    # handler of Python's could run while the native code loads.
    mask = os.umask(0o177)
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        if hidden is not None:
            _remove(hidden)
        _say(f"llama.cpp could not start ({error}); its first line marked E says why")
        return NOT_STARTED
    finally:
        os.umask(mask)
    return _serve(server, listen, hidden, xllamacpp.__version__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama_cpp_server", allow_abbrev=False)
    parser.add_argument("--listen", type=parse_listen, required=True, help="unix:<path> or <host>:<port>")
    parser.add_argument("--model", type=os.path.abspath, required=True, help="the GGUF file")
    parser.add_argument("--alias", required=True, help="the model's name in answers")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True, help="requests worked on at once")
    parser.add_argument("--context", type=int, required=True, help="tokens of context of each slot")
    parser.add_argument("--cache-ram-mib", type=int, required=True, help="memory for prompts of earlier requests")
    parser.add_argument("--batch", type=int, help="most tokens of a prompt in one step")
    parser.add_argument("--ubatch", type=int, help="most tokens computed together")
    parser.add_argument("--accelerators", type=int, default=0, help="devices that must be there")
    parser.add_argument("--speculation", action="store_true", help="n-gram speculative decoding")
    parser.add_argument("--task", choices=("generate", "embedding", "rerank"), default="generate")
    parser.add_argument("--pooling", choices=("mean", "cls", "last"), help="of embeddings; default: the model's own")
    return parser


def _accelerators(xllamacpp: Any) -> int:
    processors = (xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU,)
    return sum(device["type"] not in processors for device in xllamacpp.get_device_info())


def _parameters(xllamacpp: Any, options: argparse.Namespace) -> Any:
    found = xllamacpp.CommonParams()
    found.model.path = options.model
    found.model_alias = {options.alias}
    found.n_parallel = options.slots
    # llama.cpp divides the context among the slots.
    found.n_ctx = options.context * options.slots
    found.kv_unified = False
    found.cpuparams.n_threads = options.threads
    found.cpuparams_batch.n_threads = options.threads
    if options.batch is not None:
        found.n_batch = options.batch
    if options.ubatch is not None:
        found.n_ubatch = options.ubatch
    found.cache_ram_mib = max(0, options.cache_ram_mib)  # -1 would mean without limit
    if options.slots == 1:
        # By default a prompt that has a beginning in common with the slot's, like a system prompt, overwrites the rest
        # unsaved. Without a choice of slots, each conversation is put aside in the cache, and found there again.
        found.slot_prompt_similarity = 0.0
    # The placement has reserved what the model needs; fitting would load the model's layout a second time.
    found.fit_params = False
    found.warmup = True
    found.use_jinja = True
    template = _template(options)
    if template is not None:
        found.chat_template = template
    found.ui = False
    found.endpoint_metrics = True
    found.endpoint_slots = True
    # A ping a second makes llama.cpp notice clients that are gone while it works on a prompt.
    found.sse_ping_interval = 1
    # Each open connection holds one of these threads: keep some for metrics and probes.
    found.n_threads_http = 2 * options.slots + 8
    # No browser talks to a replica.
    found.cors_origins, found.cors_origins_explicit = "", True
    found.verbosity = WARNINGS
    if options.speculation:
        found.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_MOD]
    if options.task != "generate":
        found.embedding = True
        pooling = "rank" if options.task == "rerank" else options.pooling or "unspecified"
        found.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling.upper()}")
    return found


def _template(options: argparse.Namespace) -> str | None:
    if options.task != "generate":
        return None
    try:
        return template_for(options.model)
    except (OSError, ValueError):
        return None  # a file that cannot be read: llama.cpp says it better


def _hidden_socket(path: str) -> str:
    """A name in the folder of ``path`` to listen under while loading, relative to it (so it is short, however long the
    path is). What dead processes left there under such names is removed.

    The folder becomes the working directory.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.chdir(folder)
    for name in os.listdir("."):
        pid = name.removesuffix(LOADING_SUFFIX)
        if name != pid and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            _remove(name)
    hidden = f"{os.getpid()}{LOADING_SUFFIX}"
    _remove(hidden)
    return hidden


def _serve(server: Any, listen: Listen, hidden: str | None, version: str) -> int:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # The wake-up pipe, since the kernel may deliver a signal to one of llama.cpp's threads.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    path = listen.path and os.path.basename(listen.path)
    where = f"unix:{listen.path}" if listen.path else server.listening_address
    # Before there can be a request: what comes after this line is not all kept (``llama_cpp_output``).
    _say(f"xllamacpp {version} listens on {where}")
    if hidden is not None and path:
        os.rename(hidden, path)  # in the working directory; takes the place of a socket left behind
    os.read(reader, 1)
    if path:
        _remove(path)
    # Not by returning: that would wait for requests whose clients stay connected.
    sys.stderr.flush()
    os._exit(0)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _say(text: str) -> None:
    print(f"llama_cpp_server: {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
