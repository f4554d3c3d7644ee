"""The server under test, what the tests make on it, and the environment that clients get."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.e2e.server import Server, until
from tests.spec.published import ENVIRONMENT

SCALE = {"min_replicas": 1, "max_replicas": 1}


@dataclass
class Stage:
    """A running server. ``model`` and ``hardware`` are what endpoints are made of where a test does not care."""

    server: Server
    scratch: Path
    model: str
    hardware: str
    kept: set[str] = field(default_factory=set)

    @property
    def gpu(self) -> tuple[str, int]:
        """``hardware`` as the 1.x command line says it: ``h100``, 4."""
        found = re.fullmatch(r"(\d+)x_nvidia_([a-z0-9]+)_.*", self.hardware)
        assert found, f"{self.hardware} has no NVIDIA GPU"
        return found[2], int(found[1])

    def environment(self, key: str | None = None) -> dict[str, str]:
        """For the clients: where the server is, the key, and nothing of this process's own."""
        key = key or self.server.key
        return {
            "PATH": f"{ENVIRONMENT}:{os.environ['PATH']}",
            "HOME": str(self.scratch),
            "COLUMNS": "200",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "NO_PROXY": "*",
            "TOGETHER_API_KEY": key,
            "TOGETHER_BASE_URL": self.server.base_url,
            "TOGETHER_NO_BANNER": "1",
            "TOGETHER_TELEMETRY_DISABLED": "1",
            "TOGETHER_DISABLE_VERSION_CHECK": "1",
            "OPENAI_API_KEY": key,
            "OPENAI_BASE_URL": self.server.base_url,
            "ROOST_API_KEY": key,
            "ROOST_BASE_URL": self.server.base_url,
        }

    def body(self, **fields: Any) -> dict[str, Any]:
        """The body of a create; STOPPED, so that nothing runs, unless ``fields`` say otherwise."""
        return {
            "model": self.model,
            "hardware": self.hardware,
            "autoscaling": dict(SCALE),
            "state": "STOPPED",
            **fields,
        }

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request with the admin's key."""
        with self.server.http as http:
            return http.request(method, path, **options)

    def made(self, **fields: Any) -> dict[str, Any]:
        """A new endpoint."""
        answer = self.ask("POST", "/endpoints", json=self.body(**fields))
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def settled(self, **fields: Any) -> dict[str, Any]:
        """A new endpoint that does not run and of which control has taken note, so that nothing of it changes."""
        made = self.made(**fields, state="STOPPED")
        shown: dict[str, Any] = until(
            "control has seen it", lambda: (e := self.server.endpoint(made["id"]))["state_reason"] and e
        )
        return shown

    def listed(self) -> list[dict[str, Any]]:
        """All endpoints, newest first."""
        data: list[dict[str, Any]] = self.ask("GET", "/endpoints").json()["data"]
        return data

    def ids(self) -> list[str]:
        return [endpoint["id"] for endpoint in self.listed()]

    def gone(self, endpoint_id: str) -> bool:
        return self.ask("GET", f"/endpoints/{endpoint_id}").status_code == 404

    def sweep(self) -> None:
        """Delete every endpoint but those in ``kept``."""
        for endpoint_id in self.ids():
            if endpoint_id not in self.kept:
                self.ask("DELETE", f"/endpoints/{endpoint_id}")
