"""What is kept of llama.cpp's output: its own words, none of a request's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.engines.llama_cpp_output import OUTPUT
from roost.runtimes.supervision.log_filter import LogFilter

LISTENS = b"llama_cpp_server: xllamacpp 2026.10.11549 listens on unix:/tmp/e.sock\n"


def kept(text: str) -> str:
    """What is kept of the output of a server that serves."""
    log = LogFilter(OUTPUT.open_until, OUTPUT.keep)
    assert log.feed(LISTENS) == LISTENS
    return (log.feed(text.encode("utf-8", "replace")) + log.end()).decode()


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (
            '0.09.291.758 W srv    operator(): got exception: {"error":{"code":400,"message":"last read: \'SECRET',
            '0.09.291.758 W srv    operator(): got exception: {"error":{"code":400 [...]',
        ),
        ("parse: error parsing grammar: expecting ::= at SECRET", ""),
        ("0.09.496.959 E failed to parse grammar", None),
        ("0.09.497.003 E srv    send_error: task id = 186, error: Failed to initialize samplers: failed to parse "
         "grammar", None),
        ("0.09.702.372 W srv          stop: cancel task, id_task = 188", None),
        ("0.09.497.891 E srv  process_sing: failed to launch slot with task, id_task = 186", None),
        ("0.15.421.269 E srv    send_error: task id = 341, error: request (18030 tokens) exceeds the available context "
         "size (2048 tokens), try increasing it", None),
        ("0.07.304.265 W slot   operator(): id  3 | task 124 | n_past was set to 213", None),
        ("WARNING: JSON schema conversion was incomplete: pattern ^SECRET", ""),
        ("0.14.151.105 W common_sampler_types_from_names: unable to match sampler by name 'SECRET'",
         "0.14.151.105 W  [...]"),
        ('   2 | start: %json "SECRET"', ""),
        ("/build/ggml/src/ggml.c:1234: GGML_ASSERT(SECRET) failed", "/build/ggml/src/ggml.c:1234: GGML_ASSERT [...]"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", None),
        ("  what():  std::bad_alloc", None),
        ("  what():  SECRET", ""),
        ("99.99 E FORGED LINE", ""),
        ("0.09.496.959 E FORGED LINE", "0.09.496.959 E  [...]"),
    ],
)  # fmt: skip
def test_lines_of_llama_cpp_without_what_requests_said(line: str, left: str | None) -> None:
    expected = line if left is None else left
    assert kept(line) == (f"{expected}\n" if expected else "")


@given(st.text(), st.sampled_from(["", "0.09.496.959 E ", "0.09.496.959 W srv    operator(): got exception: "]))
def test_nothing_that_a_client_wrote_is_kept(words: str, before: str) -> None:
    told = kept(f"{before}<{words}>\n")
    assert told in ("", "0.09.496.959 E  [...]\n", "0.09.496.959 W srv    operator():  [...]\n")
