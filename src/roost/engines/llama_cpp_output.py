"""What may be kept of the output of ``llama_cpp_server``: llama.cpp puts parts of requests into it.

Used by the llama.cpp engine. A malformed request's text ends an error's message, and a grammar that cannot be read is
printed as it is, line by line, so that a client could write lines of its own. Kept are therefore only beginnings whose
every word is llama.cpp's; a pattern must never match text that a request may choose, beyond the name of a file or a
function in the last words of a crash.
"""

from __future__ import annotations

from roost.domain.launch import OutputRule

_STAMP = r"\d+\.\d\d\.\d{3}\.\d{3} [A-Z] "
"""How llama.cpp begins a line: the time since the start, and the line's weight."""
_TASK = r"(?:id +\d+ \| )?task -?\d+ \| "

OUTPUT = OutputRule(
    open_until=r"llama_cpp_server: xllamacpp \S+ listens on ",
    keep=(
        _STAMP + r'srv +operator\(\): got exception: \{"error":\{"code":\d{3}',
        _STAMP + r"srv +send_error: task id = \d+, error: request \(\d+ tokens\) exceeds the available context size"
        r" \(\d+ tokens\), try increasing it$",
        _STAMP + r"srv +send_error: task id = \d+, error: Failed to initialize samplers: failed to parse grammar$",
        _STAMP + r"srv +(?:send_error|stop|process_sing): (?:cancel task, |failed to launch slot with task, )?"
        r"(?:id_task|task id) = \d+",
        _STAMP + r"slot +operator\(\): " + _TASK + r"n_past was set to \d+$",
        _STAMP + r"slot +operator\(\): " + _TASK + r"need to evaluate at least 1 token for each active slot",
        _STAMP + r"(?:slot|srv) +operator\(\): (?:" + _TASK + r")?",
        _STAMP + r"failed to parse grammar$",
        # The last words of a crash.
        r"(?:" + _STAMP + r")?(?:alloc_tensor_range: failed to allocate|ggml_\w{1,40}: (?:insufficient memory|"
        r"failed to allocate)|common_init_from_params: failed to create context)",
        r"(?:/[\w./+-]{1,200}/)?[\w-]{1,40}\.(?:cpp|hpp|c|h|cu|cuh):\d+: GGML_(?:ASSERT|ABORT)",
        r"terminate called after throwing an instance of 'std::\w{1,40}'$",
        r"  what\(\):  std::bad_alloc$",
        # That there was a line, and when.
        _STAMP,
    ),
)
