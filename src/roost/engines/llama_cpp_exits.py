"""What llama.cpp's last words mean. Called by the llama.cpp engine; pure.

llama.cpp raises one and the same error for everything; the cause is the first line marked " E ". Lines of a server
that has served are another matter: there each mistake of a client leaves such a line too, so they explain a crash only
where they name one.
"""

from __future__ import annotations

import signal

from roost.domain.replica import ExitInfo, Failure
from roost.engines.exits import Rule, crash, match, rule
from roost.engines.llama_cpp_server import MISSING, NOT_STARTED, USAGE

_SMALLER = "Choose larger hardware, a smaller model, a shorter context_length or fewer slots."
_AGAIN = "Remove the file from the weights cache (or fetch it anew) and start the endpoint again."

_MEMORY = rule(
    r"insufficient memory|failed to allocate|[Cc]annot allocate memory|failed to create[ _]context|bad_alloc"
    r"|out of memory",
    "out_of_memory",
    "The memory was not enough",
    _SMALLER,
    retryable=True,
)

START: tuple[Rule, ...] = (
    _MEMORY,
    rule(r"failed to open GGUF file", "missing_weights", "The weights file cannot be opened", _AGAIN),
    rule(
        r" E .*couldn't bind|[Aa]ddress already in use|cannot listen on",
        "port_in_use",
        "The replica's address is taken or cannot be used",
        "Another process listens there; the next attempt gets an address of its own.",
        retryable=True,
    ),
    rule(
        r"unknown model architecture|invalid magic|only supports up to version|is no longer supported",
        "wrong_format",
        "The installed llama.cpp cannot run this file",
        "Use a GGUF file of an architecture that it knows, or a newer xllamacpp.",
    ),
    rule(
        r"chat template",
        "bad_chat_template",
        "The model's chat template cannot be read",
        "Use a GGUF file with a valid chat template.",
    ),
    rule(
        r" E .*(not within the file bounds|corrupted or incomplete|gguf_init_from|failed to read|wrong shape"
        r"|error loading model)",
        "corrupt_weights",
        "The weights file is damaged or incomplete",
        _AGAIN,
    ),
    rule(r" E ", "engine_start_failed", "llama.cpp could not start", "The line is llama.cpp's own."),
)

ABSENT: tuple[Rule, ...] = (
    rule(
        r"missing accelerator",
        "missing_accelerator",
        "The engine sees no accelerator",
        "Install an xllamacpp that was built for this machine's accelerators.",
    ),
    rule(
        r"missing package|No module named|ImportError",
        "missing_package",
        "The engine's package is not there or cannot be loaded",
        "Install it where the replica runs: pip install 'roost[llamacpp]'.",
    ),
)

OPTION: tuple[Rule, ...] = (
    rule(
        r"error: ",
        "unknown_option",
        "The engine does not take one of its options",
        "Check the options of the model's entry; after an upgrade, restart the server.",
    ),
)

CRASH: tuple[Rule, ...] = (
    _MEMORY,
    rule(r"No module named|ImportError", "missing_package", "The engine's package is not there or cannot be loaded"),
    rule(r"GGML_ASSERT|GGML_ABORT", "engine_crashed", "llama.cpp gave up", "Its last lines say more.", retryable=True),
)


def explain(exit: ExitInfo) -> Failure:
    """Why a ``llama_cpp_server`` process ended."""
    if exit.cause is not None:
        return crash(exit)
    if exit.signal is None:
        rules = {NOT_STARTED: START, MISSING: ABSENT, USAGE: OPTION}.get(exit.code or 0, CRASH)
    else:
        rules = CRASH[-1:] if exit.signal != signal.SIGABRT else CRASH
    return match(exit.log_tail, rules) or crash(exit)
