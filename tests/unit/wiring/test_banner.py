"""The banner: where the server is, where the key is, what to do next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from roost.wiring.banner import Welcome, banner, ready_line

WELCOME = Welcome("1.2.3", "http://127.0.0.1:8080", Path("/h/credentials.json"), Path("/h/logs"), "2x_cpu")


def test_it_names_version_address_key_file_and_a_command_that_works_here() -> None:
    text = banner(WELCOME)
    assert text.startswith("Roost 1.2.3 is serving at http://127.0.0.1:8080\n")
    assert "http://127.0.0.1:8080/v1" in text
    assert "/h/credentials.json" in text
    assert "--hardware 2x_cpu" in text


def test_the_key_is_shown_only_when_it_was_made_now() -> None:
    assert "roost-" not in banner(WELCOME)
    assert "roost-new  (shown only now" in banner(replace(WELCOME, api_key="roost-new"))


def test_a_note_is_shown() -> None:
    assert "The file is gone." in banner(replace(WELCOME, note="The file is gone."))


def test_the_command_is_one_that_the_user_s_shell_knows() -> None:
    assert "\n  roost endpoints create" in banner(WELCOME)
    assert "\n  .venv/bin/roost endpoints create" in banner(replace(WELCOME, program=".venv/bin/roost"))


def test_a_sandbox_says_what_is_not_real() -> None:
    text = banner(replace(WELCOME, sandbox=True, home=Path("/a b/sandbox")))
    assert "THIS IS A SANDBOX" in text
    assert "really SmolLM2-135M on this machine's CPU, at most 6 engines at once" in text
    assert "--model meta-llama/Llama-3.3-70B-Instruct-Turbo \\\n      --hardware 4x_nvidia_h100_80gb_sxm --wait" in text
    commands = [line for line in text.splitlines() if " --" in line]
    assert max(map(len, commands)) <= 80
    assert "\n  export ROOST_HOME='/a b/sandbox'\n" in text
    assert "export" not in banner(replace(WELCOME, sandbox=True))
    assert "sandbox" not in banner(WELCOME).lower()


def test_for_programs_it_is_one_line_that_never_holds_the_key() -> None:
    text = ready_line(replace(WELCOME, api_key="roost-secret", note="Care."), pid=7, home=Path("/h"))
    assert "\n" not in text
    assert "roost-secret" not in text
    assert json.loads(text) == {
        "ready": True,
        "version": "1.2.3",
        "base_url": "http://127.0.0.1:8080/v1",
        "pid": 7,
        "home": "/h",
        "credentials": "/h/credentials.json",
        "key_is_new": True,
        "logs": "/h/logs",
        "note": "Care.",
        "sandbox": False,
    }
