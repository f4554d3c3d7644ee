"""Why a llama.cpp process ended, from its exit status and its log. Pure; used by ``engines.llama_cpp``.

All failures raise the same RuntimeError; the cause is the first line of llama.cpp's own that is marked as an error.
"""

from __future__ import annotations

import re
import signal

from roost.domain.replica import ExitInfo, Failure

ERROR_LINE = re.compile(r"(?:^|\s)E\s|error|failed|couldn't bind", re.IGNORECASE)

CAUSES: tuple[tuple[str, str, str, bool], ...] = (
    (
        r"not within the file bounds|data is not|tensor .* (?:missing|out of)|unexpectedly reached end|corrupt",
        "corrupt_weights",
        "The weights file is damaged or cut short; pull or copy it again.",
        False,
    ),
    (
        r"invalid magic|unknown model architecture|unsupported|key not found in model|failed to read (?:magic|header)"
        r"|failed to load model",
        "wrong_format",
        "This llama.cpp cannot run the file; use a GGUF of a supported architecture.",
        False,
    ),
    (
        r"failed to create context|cannot allocate|out of memory|bad_alloc|failed to allocate",
        "out_of_memory",
        "Choose hardware with more memory, or a smaller context length or fewer slots for the model.",
        True,
    ),
    (r"couldn't bind|address already in use", "port_in_use", "Another process listens there; it is tried again.", True),
    (
        r"unrecognized arguments|invalid choice|expected one argument",
        "unknown_option",
        "Mend the model's options.",
        False,
    ),
    (r"No module named", "missing_package", "Install it with `pip install 'roost[llamacpp]'`.", False),
)


def explain(exit: ExitInfo) -> Failure:
    """The failure of one process."""
    tail = exit.log_tail
    if exit.signal == signal.SIGKILL and exit.cause is None:
        return Failure(
            "engine_killed",
            "The engine was killed (signal 9), by the kernel for lack of memory or by hand.",
            "If the machine is short of memory, choose a smaller model, context or prompt cache.",
            log_tail=tail,
        )
    line = first_error(tail)
    for pattern, code, hint, retryable in CAUSES:
        for text in tail:
            if re.search(pattern, text, re.IGNORECASE):
                return Failure(code, f"llama.cpp could not start: {clean(line or text)}", hint, retryable, tail)
    how = exit.cause or (f"signal {exit.signal}" if exit.signal else f"exit code {exit.code}")
    said = f" {clean(line)}" if line else ""
    return Failure("engine_crashed", f"llama.cpp ended ({how}).{said}", "Look at its last lines.", log_tail=tail)


def first_error(lines: tuple[str, ...]) -> str | None:
    """llama.cpp's first error line."""
    return next((line for line in lines if ERROR_LINE.search(line)), None)


def clean(line: str) -> str:
    """A log line without its time stamp and level."""
    return re.sub(r"^\S*\d\S*\s+[EWI]\s+", "", line).strip()
