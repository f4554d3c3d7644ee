"""The chat template in a GGUF file, and its branch for tools."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engines.gguf_files import SMALL, Value, head

from roost.engines.chat_template import KEY, template_for, template_of, with_tools

CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endfor %}\n"


def gguf(folder: Path, **entries: Value) -> str:
    path = folder / "m.gguf"
    path.write_bytes(head({**SMALL, "tokenizer.ggml.tokens": ["a", "tokenizer.chat_template"], **entries}) + b"\0" * 64)
    return str(path)


def test_a_chatml_template_that_knows_no_tools_gets_a_branch_for_them(tmp_path: Path) -> None:
    extended = template_for(gguf(tmp_path, **{KEY.decode(): CHATML}))
    assert extended is not None
    assert extended.startswith("{%- if tools %}")
    assert extended.endswith("{%- else %}" + CHATML.removesuffix("\n") + "{% endif %}")


def test_templates_that_know_tools_or_are_of_another_family_stay(tmp_path: Path) -> None:
    assert with_tools(CHATML + "{% if tools %}{% endif %}") is None
    assert with_tools("[INST] {{ messages[0].content }} [/INST]") is None
    assert template_for(gguf(tmp_path)) is None
    two: dict[str, Value] = {KEY.decode(): CHATML, f"{KEY.decode()}.tool_use": "{{ tools }}"}
    assert template_for(gguf(tmp_path, **two)) is None


def test_a_key_that_only_begins_like_it_is_another(tmp_path: Path) -> None:
    assert template_of(gguf(tmp_path, **{f"{KEY.decode()}s": ["x"]})) is None


@given(data=st.binary(max_size=60), cut=st.integers(1, 400))
def test_no_file_upsets_it(data: bytes, cut: int) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write((head({KEY.decode(): CHATML}) + data)[:cut])
        file.flush()
        assert template_of(file.name) in (None, CHATML)
