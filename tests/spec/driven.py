"""Clients that are libraries, each driven in a process of its own, and what the API's calls are called there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.spec import published
from tests.spec.stage import Stage

DRIVERS = Path(__file__).parent / "drivers"
WORDS = [{"role": "user", "content": "Hello!"}]
SHORT = {"max_tokens": 8, "temperature": 0}


class Refused(Exception):
    """The client raised, or its command failed."""

    def __init__(self, kind: str, status: int | None, message: str) -> None:
        super().__init__(f"{kind} ({status}): {message}")
        self.kind = kind
        self.status = status
        self.message = message


class Driven:
    """A library in a process that lives as long as this object; closed by the fixture that made it."""

    title: str
    package: published.PythonPackage | published.NodePackage | None = None
    tool: str | None = None
    not_offered: frozenset[str] = frozenset()
    """Calls that are inherited here, but that this client does not have."""

    def __init__(self, stage: Stage, key: str | None = None) -> None:
        self.stage = stage
        self.key = key
        self._process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        """The driver with its arguments."""
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        return self.stage.scratch

    def environment(self) -> dict[str, str]:
        """Where the server is, and the key."""
        return self.stage.environment(self.key)

    def call(self, path: str, *arguments: Any, **options: Any) -> Any:
        """What the client returned, as JSON. Raises ``Refused`` when it raised."""
        if self._process is None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                self.command(), env=self.environment(), cwd=self.folder, stdin=pipe, stdout=pipe, text=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"path": path, "args": arguments, "kwargs": options}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{self.title} ended"
        answer = json.loads(line)
        if "refused" in answer:
            raise Refused(answer["refused"]["type"], answer["refused"]["status"], answer["refused"]["message"])
        return answer["value"]

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.communicate(timeout=30)


class Together(Driven):
    """The 2.x SDK of the classic API."""

    title = f"together {published.TOGETHER}"
    mode = "sync"

    def command(self) -> list[str]:
        return [sys.executable, str(DRIVERS / "drive.py"), "together", self.mode]

    def create(self, **body: Any) -> Any:
        return self.call("endpoints.create", **body)

    def retrieve(self, endpoint: str) -> Any:
        return self.call("endpoints.retrieve", endpoint)

    def listed(self, **filters: Any) -> Any:
        return self.call("endpoints.list", **filters)["data"]

    def update(self, endpoint: str, **changes: Any) -> Any:
        return self.call("endpoints.update", endpoint, **changes)

    def delete(self, endpoint: str) -> Any:
        return self.call("endpoints.delete", endpoint)

    def hardware(self, **filters: Any) -> Any:
        return self.call("endpoints.list_hardware", **filters)["data"]

    def zones(self) -> Any:
        return self.call("endpoints.list_avzones")["avzones"]

    def adapters(self, endpoint: str) -> Any:
        return self.call("endpoints.adapters.list", endpoint)

    def whoami(self) -> Any:
        return self.call("whoami")

    def models(self) -> Any:
        return self.call("models.list")

    def chat(self, model: str) -> Any:
        return self.call("chat.completions.create", model=model, messages=WORDS, **SHORT)

    def stream(self, model: str) -> Any:
        return self.call("chat.completions.create", model=model, messages=WORDS, stream=True, **SHORT)

    def complete(self, model: str) -> Any:
        return self.call("completions.create", model=model, prompt="Once upon a time", **SHORT)

    def embed(self, model: str) -> Any:
        return self.call("embeddings.create", model=model, input="Hello!")


class AsyncTogether(Together):
    """The same, ``async``."""

    title = f"{Together.title} async"
    mode = "async"


class RawTogether(Together):
    """The same, through ``with_raw_response``."""

    title = f"{Together.title} raw"
    mode = "raw"

    def call(self, path: str, *arguments: Any, **options: Any) -> Any:
        """As ``Driven.call``; the response's own face is looked at on the way."""
        answer = super().call(path, *arguments, **options)
        assert answer["status"] == (204 if path == "endpoints.delete" else 200)
        assert answer["headers"]["x-request-id"]
        return answer["value"]


def _flat(body: dict[str, Any]) -> dict[str, Any]:
    """The 1.x SDK has the bounds side by side with the rest."""
    bounds: dict[str, Any] = body.get("autoscaling", {})
    return {key: value for key, value in body.items() if key != "autoscaling"} | bounds


class Classic(Together):
    """The 1.x SDK."""

    title = f"together {published.CLASSIC.version}"
    package = published.CLASSIC
    not_offered = frozenset({"adapters", "whoami"})

    def command(self) -> list[str]:
        return [str(published.CLASSIC.bin / "python"), str(DRIVERS / "drive.py"), "together", self.mode]

    def create(self, **body: Any) -> Any:
        return self.call("endpoints.create", **_flat(body))

    def retrieve(self, endpoint: str) -> Any:
        return self.call("endpoints.get", endpoint)

    def listed(self, **filters: Any) -> Any:
        return self.call("endpoints.list", **filters)

    def update(self, endpoint: str, **changes: Any) -> Any:
        return self.call("endpoints.update", endpoint, **_flat(changes))

    def hardware(self, **filters: Any) -> Any:
        return self.call("endpoints.list_hardware", **filters)

    def zones(self) -> Any:
        return self.call("endpoints.list_avzones")


class AsyncClassic(Classic):
    """The same, ``async``."""

    title = f"{Classic.title} async"
    not_offered = Classic.not_offered | {"create", "retrieve", "listed", "update", "delete", "hardware", "zones"}
    mode = "async"


class TypeScript(Together):
    """The TypeScript SDK."""

    title = f"together-ai {published.TYPESCRIPT.version} (npm)"
    package = published.TYPESCRIPT
    tool = "node"

    def command(self) -> list[str]:
        return ["node", str(DRIVERS / "drive.mjs"), "together-ai"]

    @property
    def folder(self) -> Path:
        return published.TYPESCRIPT.folder

    def call(self, path: str, *arguments: Any, **options: Any) -> Any:
        """Keyword arguments are an object there."""
        return super().call(path, *arguments, *([options] if options else []))

    def hardware(self, **filters: Any) -> Any:
        return self.call("endpoints.listHardware", **filters)["data"]

    def zones(self) -> Any:
        return self.call("endpoints.listAvzones")["avzones"]


class OpenAI(Driven):
    """OpenAI's Python SDK: inference and the list of models."""

    title = f"openai {published.OPENAI}"

    def command(self) -> list[str]:
        return [sys.executable, str(DRIVERS / "drive.py"), "openai", "sync"]

    def models(self) -> Any:
        return self.call("models.list")["data"]

    def chat(self, model: str) -> Any:
        return self.call("chat.completions.create", model=model, messages=WORDS, **SHORT)

    def stream(self, model: str) -> Any:
        usage = {"include_usage": True}
        return self.call(
            "chat.completions.create", model=model, messages=WORDS, stream=True, stream_options=usage, **SHORT
        )

    def complete(self, model: str) -> Any:
        return self.call("completions.create", model=model, prompt="Once upon a time", **SHORT)

    def embed(self, model: str) -> Any:
        return self.call("embeddings.create", model=model, input="Hello!")


class OpenAINode(OpenAI):
    """OpenAI's JavaScript SDK."""

    title = f"openai {published.OPENAI_NODE.version} (npm)"
    package = published.OPENAI_NODE
    tool = "node"

    def command(self) -> list[str]:
        return ["node", str(DRIVERS / "drive.mjs"), "openai"]

    @property
    def folder(self) -> Path:
        return published.OPENAI_NODE.folder

    def call(self, path: str, *arguments: Any, **options: Any) -> Any:
        """Keyword arguments are an object there."""
        return super().call(path, *arguments, *([options] if options else []))


class Successor(Driven):
    """The newest ``together``: another API, under /v2."""

    title = f"together {published.SUCCESSOR.version}"
    package = published.SUCCESSOR

    def command(self) -> list[str]:
        return [str(published.SUCCESSOR.bin / "python"), str(DRIVERS / "drive.py"), "together", "sync"]

    def environment(self) -> dict[str, str]:
        return self.stage.environment(self.key) | {"TOGETHER_BASE_URL": self.stage.server.origin}
