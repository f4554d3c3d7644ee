"""Clients that are commands: the two classic command lines, ``roost`` itself, and curl."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any
from urllib.parse import quote, urlencode

from tests.spec import published
from tests.spec.driven import SHORT, WORDS, Refused
from tests.spec.stage import Stage

PATIENCE_S = 180
SHORT_FLAGS = ("--max-tokens", "8")
CHAT = ("chat.completions", "--message", "user", "Hello!")


class Commanded:
    """A command; one process a call."""

    title: str
    package: published.PythonPackage | None = None
    tool: str | None = None
    not_offered: frozenset[str] = frozenset()
    """Calls that are inherited here, but that this client does not have."""

    def __init__(self, stage: Stage, key: str | None = None) -> None:
        self.stage = stage
        self.key = key

    def program(self) -> list[str]:
        """The command with what goes before its arguments."""
        raise NotImplementedError

    def run(self, *arguments: str) -> str:
        """What the command printed to stdout. Raises ``Refused`` with all it printed when it failed."""
        done = subprocess.run(
            [*self.program(), *arguments],
            env=self.stage.environment(self.key),
            cwd=self.stage.scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        if done.returncode != 0:
            raise Refused(self.title, done.returncode, done.stdout + done.stderr)
        return done.stdout

    def close(self) -> None:
        """Nothing lives on."""


def _flags(fields: dict[str, Any], *names: str) -> list[str]:
    """``--name value`` for those fields that are given."""
    pairs = [(name, fields[name]) for name in names if fields.get(name) is not None]
    return [part for name, value in pairs for part in (f"--{name.replace('_', '-')}", str(value))]


def _create_flags(body: dict[str, Any]) -> list[str]:
    fields = body | body["autoscaling"]
    flags = _flags(fields, "model", "hardware", "min_replicas", "max_replicas", "display_name", "availability_zone")
    flags += _flags(fields, "inactive_timeout")
    return flags + (["--no-auto-start"] if fields.get("state") == "STOPPED" else [])


class TogetherCommand(Commanded):
    """The command line of ``together`` 2.x."""

    title = f"together {published.TOGETHER} CLI"
    read = "retrieve"

    def program(self) -> list[str]:
        return [str(published.ENVIRONMENT / "together")]

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def create(self, *more: str, **body: Any) -> Any:
        return self.json("endpoints", "create", *_create_flags(body), *more)

    def create_wait(self, **body: Any) -> Any:
        return self.create("--wait", **body)

    def retrieve(self, endpoint: str) -> Any:
        return self.json("endpoints", self.read, endpoint)

    def listed(self, **filters: Any) -> Any:
        return self.json("endpoints", "list", *_flags(filters, "type", "usage_type"), *self.mine(filters))

    def mine(self, filters: dict[str, Any]) -> list[str]:
        return ["--mine"] if filters.get("mine") else []

    def update(self, endpoint: str, **changes: Any) -> Any:
        if "state" in changes:
            return self.json("endpoints", {"STARTED": "start", "STOPPED": "stop"}[changes["state"]], endpoint)
        fields = changes | changes.get("autoscaling", {})
        flags = _flags(fields, "display_name", "min_replicas", "max_replicas", "inactive_timeout")
        return self.json("endpoints", "update", endpoint, *flags)

    def start_wait(self, endpoint: str) -> Any:
        return self.json("endpoints", "start", endpoint, "--wait")

    def stop_wait(self, endpoint: str) -> Any:
        return self.json("endpoints", "stop", endpoint, "--wait")

    def delete(self, endpoint: str) -> Any:
        self.json("endpoints", "delete", endpoint)

    def hardware(self, **filters: Any) -> Any:
        return self.json("endpoints", "hardware", *_flags(filters, "model"))

    def zones(self) -> Any:
        return self.json("endpoints", "availability-zones")["avzones"]

    def whoami(self) -> Any:
        return self.json("whoami")

    def adapters(self, endpoint: str) -> Any:
        return self.json("endpoints", "adapters", "list", endpoint)

    def models(self) -> Any:
        return self.json("models", "list")["data"]


class ClassicCommand(TogetherCommand):
    """The command line of ``together`` 1.x. It prints JSON for some commands only, else the id."""

    title = f"together {published.CLASSIC.version} CLI"
    package = published.CLASSIC
    read = "get"
    not_offered = frozenset({"whoami", "adapters"})

    def program(self) -> list[str]:
        return [str(published.CLASSIC.bin / "together")]

    def create(self, *more: str, **body: Any) -> Any:
        # It knows GPUs by names of its own; this one is in no list of this server.
        gpu, count = self.stage.gpu if body["hardware"] == self.stage.hardware else ("rtx-6000", 1)
        flags = _create_flags({**body, "hardware": None})
        wait = more or ("--no-wait",)
        made = self.run("endpoints", "create", "--gpu", gpu, "--gpu-count", str(count), *flags, *wait)
        return self.retrieve(made.strip())

    def mine(self, filters: dict[str, Any]) -> list[str]:
        return ["--mine", "true"] if filters.get("mine") else []

    def listed(self, **filters: Any) -> Any:
        printed = self.run("endpoints", "list", "--json", *_flags(filters, "type", "usage_type"), *self.mine(filters))
        return json.loads(printed or "[]")

    def update(self, endpoint: str, **changes: Any) -> Any:
        if "state" in changes:
            self.run("endpoints", {"STARTED": "start", "STOPPED": "stop"}[changes["state"]], endpoint, "--no-wait")
        else:
            fields = changes | changes.get("autoscaling", {})
            flags = _flags(fields, "display_name", "min_replicas", "max_replicas", "inactive_timeout")
            self.run("endpoints", "update", endpoint, *flags)
        return self.retrieve(endpoint)

    def start_wait(self, endpoint: str) -> Any:
        self.run("endpoints", "start", endpoint, "--wait")
        return self.retrieve(endpoint)

    def stop_wait(self, endpoint: str) -> Any:
        self.run("endpoints", "stop", endpoint, "--wait")
        return self.retrieve(endpoint)

    def delete(self, endpoint: str) -> Any:
        assert self.run("endpoints", "delete", endpoint).strip() == endpoint

    def models(self) -> Any:
        return [{"id": item["ID"]} for item in self.json("models", "list")]

    def chat(self, model: str) -> Any:
        printed = self.run(*CHAT, "--model", model, *SHORT_FLAGS, "--no-stream")
        return {"choices": [{"message": {"content": printed}}]}

    def stream(self, model: str) -> Any:
        printed = self.run(*CHAT, "--model", model, *SHORT_FLAGS)
        return [{"choices": [{"delta": {"content": printed}}]}]

    def complete(self, model: str) -> Any:
        printed = self.run("completions", "Once upon a time", "--model", model, *SHORT_FLAGS, "--no-stream")
        return {"choices": [{"text": printed}]}


class RoostCommand(TogetherCommand):
    """``roost``, which takes the same lines."""

    title = "roost"
    not_offered = frozenset({"adapters"})

    def program(self) -> list[str]:
        return [sys.executable, "-m", "roost"]

    def run(self, *arguments: str) -> str:
        """As ``Commanded.run``; a traceback is never an answer of ours."""
        try:
            return super().run(*arguments)
        except Refused as refused:
            if "Traceback" in refused.message:
                raise AssertionError(refused.message) from refused
            raise

    def listed(self, **filters: Any) -> Any:
        return super().listed(**filters)["data"]

    def hardware(self, **filters: Any) -> Any:
        return super().hardware(**filters)["data"]

    def delete(self, endpoint: str) -> Any:
        self.run("endpoints", "delete", endpoint)

    def chat(self, model: str) -> Any:
        printed = self.run("chat", model, "Hello!", *SHORT_FLAGS)
        return {"choices": [{"message": {"content": printed}}]}

    def stream(self, model: str) -> Any:
        printed = self.run("chat", model, "Hello!", *SHORT_FLAGS)
        return [{"choices": [{"delta": {"content": printed}}]}]


class Curl(Commanded):
    """curl, with JSON bodies."""

    title = "curl"
    tool = "curl"

    def program(self) -> list[str]:
        return ["curl", "--silent", "--show-error", "--write-out", "\\n%{http_code}"]

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON; raises ``Refused`` with its text beyond 299."""
        key = self.key or self.stage.server.key
        headers = ["-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"]
        data = [] if body is None else ["-d", json.dumps(body)]
        printed = self.run("-X", method, f"{self.stage.server.base_url}{path}", *headers, *data)
        text, _, status = printed.rpartition("\n")
        if int(status) > 299:
            raise Refused("curl", int(status), text)
        if text.startswith("data:"):
            frames = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data:")]
            assert frames[-1] == "[DONE]"
            return [json.loads(frame) for frame in frames[:-1]]
        return json.loads(text) if text else None

    def create(self, **body: Any) -> Any:
        return self.request("POST", "/endpoints", body)

    def retrieve(self, endpoint: str) -> Any:
        return self.request("GET", f"/endpoints/{quote(endpoint, safe='')}")

    def listed(self, **filters: Any) -> Any:
        return self.request("GET", f"/endpoints?{urlencode(filters)}")["data"]

    def update(self, endpoint: str, **changes: Any) -> Any:
        return self.request("PATCH", f"/endpoints/{endpoint}", changes)

    def delete(self, endpoint: str) -> Any:
        return self.request("DELETE", f"/endpoints/{endpoint}")

    def hardware(self, **filters: Any) -> Any:
        return self.request("GET", f"/hardware?{urlencode(filters)}")["data"]

    def zones(self) -> Any:
        return self.request("GET", "/clusters/availability-zones")["avzones"]

    def whoami(self) -> Any:
        return self.request("GET", "/whoami")

    def adapters(self, endpoint: str) -> Any:
        return self.request("GET", f"/endpoints/{endpoint}/adapters")

    def models(self) -> Any:
        return self.request("GET", "/models")["data"]

    def chat(self, model: str) -> Any:
        return self.request("POST", "/chat/completions", {"model": model, "messages": WORDS, **SHORT})

    def stream(self, model: str) -> Any:
        return self.request("POST", "/chat/completions", {"model": model, "messages": WORDS, "stream": True, **SHORT})

    def complete(self, model: str) -> Any:
        return self.request("POST", "/completions", {"model": model, "prompt": "Once upon a time", **SHORT})

    def embed(self, model: str) -> Any:
        return self.request("POST", "/embeddings", {"model": model, "input": "Hello!"})
