"""Tools for chat templates that know none: the template in a GGUF file, extended when it is of the ChatML family.

Called by ``llama_cpp_server`` before it loads a model; standard library only. llama.cpp leaves tools out of the prompt
when a template does not mention them. It must never change what a request without tools becomes.
"""

from __future__ import annotations

import mmap
import struct

KEY = b"tokenizer.chat_template"
OF_ITS_OWN = b"tokenizer.chat_template.tool_use"
"""Some files bring a second template for tools; llama.cpp knows to take it."""
SEARCHED_BYTES = 64 * 1024**2
"""The header of a large vocabulary ends long before."""
LONGEST = 1024**2
CHATML = "<|im_start|>"

_STRING = 8

_WITH_TOOLS = r"""{%- if tools %}
{{- '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}
{{- messages[0].content + '\n\n' }}
{%- endif %}
{{- "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
{%- for tool in tools %}
{{- "\n" }}
{{- tool | tojson }}
{%- endfor %}
{{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>assistant' }}
{%- if message.content %}
{{- '\n' + message.content }}
{%- endif %}
{%- for tool_call in message.tool_calls or [] %}
{%- if tool_call.function is defined %}
{%- set tool_call = tool_call.function %}
{%- endif %}
{{- '\n<tool_call>\n{"name": "' }}
{{- tool_call.name }}
{{- '", "arguments": ' }}
{{- tool_call.arguments | tojson }}
{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}
{{- '<|im_start|>user' }}
{%- endif %}
{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- elif message.role != 'system' or not loop.first %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- endif %}
{%- else %}"""  # noqa: E501 (the format that tool-trained ChatML models know, word for word)


def template_for(path: str) -> str | None:
    """The template to use for the GGUF file at ``path``; None: the file's own will do. Raises ``OSError``."""
    template = template_of(path)
    return None if template is None else with_tools(template)


def with_tools(template: str) -> str | None:
    """``template`` with a branch for requests that bring tools; None when it knows tools or is not ChatML."""
    if CHATML not in template or "tools" in template:
        return None
    # Jinja drops a newline at a template's end.
    return _WITH_TOOLS + template.removesuffix("\n") + "{% endif %}"


def template_of(path: str) -> str | None:
    """The chat template in a GGUF file's header; None when there is none, or one for tools besides."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(OF_ITS_OWN, 0, SEARCHED_BYTES) >= 0:
            return None
        entry = struct.pack("<Q", len(KEY)) + KEY + struct.pack("<I", _STRING)
        at = content.find(entry, 0, SEARCHED_BYTES) + len(entry)
        if at < len(entry) or at + 8 > len(content):
            return None
        (length,) = struct.unpack_from("<Q", content, at)
        whole = length <= min(LONGEST, len(content) - at - 8)
        text = content[at + 8 : at + 8 + length] if whole else b""
    return text.decode(errors="replace") or None
