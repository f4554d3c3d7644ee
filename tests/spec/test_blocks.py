"""Every code block of the API reference, as printed: only the host and the endpoint's id are replaced."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.server import until
from tests.spec import commanded, driven
from tests.spec.conftest import MODEL, Opened
from tests.spec.published import TYPESCRIPT
from tests.spec.reference import PAGE, Block, Reference
from tests.spec.stage import Stage

HOST = re.compile(r"https?://[a-z0-9.:]+/v1(?=/)")
ID = re.compile(r"endpoint-abc123|<ENDPOINT_ID>")
KINDS = ("python", "typescript", "curl", "together", "json")


class Made:
    """Blocks that make an endpoint: no other is there, and this one is as asked for."""

    def __init__(self, stage: Stage, request: pytest.FixtureRequest) -> None:
        self.stage = stage
        self.before = set(stage.ids())
        self.id = "endpoint-none"

    def check(self, block: Block, output: str) -> None:
        (made,) = [endpoint for endpoint in self.stage.listed() if endpoint["id"] not in self.before]
        assert (made["model"], made["hardware"]) == (MODEL, self.stage.hardware)
        assert made["autoscaling"] == {"min_replicas": 1, "max_replicas": 3}
        assert made["display_name"] == (MODEL if block.kind == "typescript" else "My Llama Endpoint")
        assert made["id"] in output
        if "--wait" in block.code:
            assert made["state"] == "STARTED"


class Stopped:
    """Blocks that are about an endpoint that is there, and does not run."""

    def __init__(self, stage: Stage, request: pytest.FixtureRequest) -> None:
        self.stage = stage
        self.id = stage.made(display_name="Before")["id"]

    def check(self, block: Block, output: str) -> None:
        raise NotImplementedError


class Shown(Stopped):
    def check(self, block: Block, output: str) -> None:
        assert ("STOPPED" if block.kind == "python" else self.id) in output


class Listed(Stopped):
    def check(self, block: Block, output: str) -> None:
        assert self.id in output


class Updated(Stopped):
    def check(self, block: Block, output: str) -> None:
        told = self.stage.server.endpoint(self.id)
        assert told["autoscaling"] == {"min_replicas": 2, "max_replicas": 5}
        assert told["display_name"] == "Updated Name"


class StartedAndStopped(Stopped):
    def check(self, block: Block, output: str) -> None:
        until("it is stopped", lambda: self.stage.server.endpoint(self.id)["state"] == "STOPPED")
        asked = [e["data"] for e in self.stage.server.events(self.id) if e["kind"] == "endpoint.updated"]
        assert len(asked) >= 2, asked


class Deleted(Stopped):
    def check(self, block: Block, output: str) -> None:
        assert self.stage.gone(self.id)


class Hardware(Stopped):
    def check(self, block: Block, output: str) -> None:
        assert self.stage.hardware in output


class Used:
    """Blocks that talk to an endpoint that runs."""

    def __init__(self, stage: Stage, request: pytest.FixtureRequest) -> None:
        self.id = request.getfixturevalue("running")["id"]

    def check(self, block: Block, output: str) -> None:
        assert output.strip()


EFFECTS: dict[str, Callable[[Stage, pytest.FixtureRequest], Made | Stopped | Used]] = {
    "Create Endpoint": Made,
    "Get Endpoint": Shown,
    "List Endpoints": Listed,
    "Update Endpoint": Updated,
    "Start / Stop": StartedAndStopped,
    "Delete": Deleted,
    "List Hardware": Hardware,
    "Using the Endpoint": Used,
}


@pytest.fixture
def effect(request: pytest.FixtureRequest, block: Block, stage: Stage) -> Any:
    """What a block is to find, and to leave behind."""
    return EFFECTS[block.heading](stage, request)


def run(stage: Stage, *command: str) -> subprocess.CompletedProcess[str]:
    environment = stage.environment()
    return subprocess.run(
        command,
        env=environment,
        cwd=stage.scratch,
        capture_output=True,
        text=True,
        timeout=180,
        stdin=subprocess.DEVNULL,
    )


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def as_it_is_here(block: Block, stage: Stage, endpoint_id: str) -> str:
    return ID.sub(endpoint_id, HOST.sub(stage.server.base_url, block.code))


@pytest.mark.kind("python")
def test_python(block: Block, effect: Any, stage: Stage) -> None:
    last = "print(response.choices[0].message.content)" if block.heading == "Using the Endpoint" else ""
    code = f"from together import Together\nclient = Together()\n{as_it_is_here(block, stage, effect.id)}\n{last}"
    effect.check(block, succeeded(run(stage, sys.executable, "-c", code)))


@pytest.mark.kind("typescript")
def test_typescript(block: Block, effect: Any, stage: Stage, opened: Opened, tmp_path: Path) -> None:
    opened(driven.TypeScript)
    (tmp_path / "node_modules").symlink_to(TYPESCRIPT.folder / "node_modules")
    script = tmp_path / "block.mjs"
    script.write_text(as_it_is_here(block, stage, effect.id))
    if "list_hardware" in block.code:
        # A slip of the page: no release of the client has this name.
        refused = run(stage, "node", str(script))
        assert "list_hardware is not a function" in refused.stderr
        script.write_text(script.read_text().replace("list_hardware", "listHardware"))
    effect.check(block, succeeded(run(stage, "node", str(script))))


@pytest.mark.kind("curl")
def test_curl(block: Block, effect: Any, stage: Stage, opened: Opened) -> None:
    opened(commanded.Curl)
    output = succeeded(run(stage, "bash", "-euo", "pipefail", "-c", as_it_is_here(block, stage, effect.id)))
    answers = list(documents(output))
    assert len(answers) == (0 if block.heading == "Delete" else block.code.count("curl "))
    assert all("error" not in answer for answer in answers), output
    effect.check(block, output)


@pytest.mark.parametrize("program", ["together", "roost"])
@pytest.mark.kind("together")
def test_command_line(block: Block, effect: Any, stage: Stage, program: str) -> None:
    lines = re.sub("(?m)^together ", f"{program} ", as_it_is_here(block, stage, effect.id))
    effect.check(block, succeeded(run(stage, "bash", "-euo", "pipefail", "-c", lines)))


@pytest.mark.kind("json")
def test_json(block: Block, stopped: dict[str, Any]) -> None:
    printed = json.loads(block.code)
    assert set(printed) <= set(stopped)
    assert {name: type(stopped[name]) for name in printed} == {name: type(value) for name, value in printed.items()}


def documents(text: str) -> Any:
    """The JSON values in a text, one after the other."""
    rest = text.strip()
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        yield value
        rest = rest[end:].strip()


def test_no_block_is_left_out(request: pytest.FixtureRequest) -> None:
    path = request.config.getoption("reference")
    fences = Counter(re.findall(r"(?m)^```(\w+)$", path.read_text()))
    blocks = Reference.read(path).blocks
    assert Counter(block.language for block in blocks) == fences
    assert fences == {"python": 8, "typescript": 8, "shell": 15, "json": 1}
    assert {block.kind for block in blocks} == set(KINDS)
    assert {block.heading for block in blocks if block.kind != "json"} == set(EFFECTS)


def test_the_own_page_has_the_same_calls(request: pytest.FixtureRequest) -> None:
    def calls(path: Path) -> list[tuple[str, str, str]]:
        blocks = Reference.read(path).blocks
        return [(block.heading, block.language, bare(block.code)) for block in blocks]

    assert calls(PAGE) == calls(request.config.getoption("reference"))


def bare(code: str) -> str:
    """A block without comments and white space, with one host, and without the page's slip."""
    lines = [re.sub(r"(^|\s)(#|//) .*$", "", line).strip() for line in code.splitlines()]
    return HOST.sub("HOST", " ".join(line for line in lines if line)).replace("list_hardware();", "listHardware();")
