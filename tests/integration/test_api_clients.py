"""The published clients against the API, unchanged: the classic SDK and its command line, and OpenAI's SDK."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
import together
from fastapi import FastAPI
from tests.unit.api.front import BASE_URL, app_of
from tests.unit.services.office import Office, make_node

from roost.testing.builders import secret_of
from roost.wiring.http import Site, serving

SCALE: Any = {"min_replicas": 1, "max_replicas": 2}


@pytest.fixture
async def office() -> Office:
    """Services over an empty store with three keys, on two zones."""
    office = await Office().open()
    office.nodes = [make_node("n1", "local"), make_node("n2", "east", 2)]
    return office


@pytest.fixture
def app(office: Office) -> FastAPI:
    """The public app."""
    return app_of(office)


@pytest.fixture
async def classic(app: FastAPI) -> AsyncIterator[together.AsyncTogether]:
    """The classic SDK with the admin's key."""
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app))
    async with together.AsyncTogether(api_key=secret_of(1), base_url=BASE_URL, http_client=http) as client:
        yield client


async def test_the_classic_sdk_lives_a_whole_life(office: Office, classic: together.AsyncTogether) -> None:
    made = await classic.endpoints.create(
        model="test/model",
        hardware="1x_cpu",
        autoscaling=SCALE,
        display_name="Mine",
        disable_prompt_cache=True,
        state="STARTED",
        inactive_timeout=None,
        availability_zone="east",
    )
    assert (made.object, made.type, made.state, made.display_name) == ("endpoint", "dedicated", "PENDING", "Mine")

    assert await classic.endpoints.retrieve(made.id) == made
    assert await classic.endpoints.retrieve(made.name) == made
    changed = await classic.endpoints.update(made.id, autoscaling={"min_replicas": 2, "max_replicas": 5})
    assert (changed.autoscaling.min_replicas, changed.autoscaling.max_replicas) == (2, 5)
    stopped = await classic.endpoints.update(made.name, state="STOPPED", display_name="Yours")
    assert stopped.display_name == "Yours"
    listed = await classic.endpoints.list(mine=True, type="dedicated", usage_type="on-demand")
    assert [item.id for item in listed.data] == [made.id]
    await classic.endpoints.delete(made.id)
    with pytest.raises(together.NotFoundError):
        await classic.endpoints.retrieve(made.id)
    assert [event.kind for event in await office.events()] == [
        "endpoint.created",
        "endpoint.updated",
        "endpoint.updated",
        "endpoint.deleted",
    ]


async def test_the_classic_sdk_reads_lists(classic: together.AsyncTogether) -> None:
    hardware = await classic.endpoints.list_hardware(model="test/model")
    assert [item.id for item in hardware.data] == ["1x_cpu", "2x_cpu", "3x_cpu", "4x_cpu"]
    assert all(item.availability and item.availability.status == "available" for item in hardware.data)
    assert (await classic.endpoints.list_avzones()).avzones == ["east", "local"]
    models = await classic.models.list(dedicated=True)
    assert [model.id for model in models] == ["test/model", "far/away"]
    assert models[0].pricing
    assert models[0].pricing.hourly == 0
    assert (await classic.whoami()).project_slug == "roost"


async def test_the_classic_sdk_understands_refusals(office: Office, classic: together.AsyncTogether) -> None:
    with pytest.raises(together.BadRequestError, match="hardware is required") as caught:
        await classic.endpoints.create(model="test/model", hardware="", autoscaling=SCALE)
    assert isinstance(caught.value.body, dict)
    with pytest.raises(together.NotFoundError, match="was not found"):
        await classic.endpoints.create(model="no/such", hardware="1x_cpu", autoscaling=SCALE)
    with pytest.raises(together.AuthenticationError, match="authentication"):
        await classic.with_options(api_key="wrong").endpoints.list()
    with pytest.raises(together.PermissionDeniedError, match="permission"):
        await classic.with_options(api_key=secret_of(3)).endpoints.list()
    with pytest.raises(together.InternalServerError, match="not offered"):
        await classic.endpoints.adapters.list("endpoint-x")
    assert await office.store.endpoints() == []


async def test_openai_s_sdk_reads_the_catalog(app: FastAPI) -> None:
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    async with openai.AsyncOpenAI(api_key=secret_of(3), base_url=BASE_URL, http_client=http) as client:
        assert [model.id async for model in client.models.list()] == ["test/model", "far/away"]
        assert (await client.models.retrieve("test/model")).owned_by == "test"
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("no/such")
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@dataclass
class CommandLine:
    """The classic command line as a process of its own, pointed at a server on a loopback port."""

    port: int
    home: Path

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run one command to its end; the exit code and all that it printed."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "COLUMNS": "200",
            "TOGETHER_API_KEY": secret_of(1),
            "TOGETHER_BASE_URL": f"http://127.0.0.1:{self.port}/v1",
            "TOGETHER_TELEMETRY_DISABLED": "1",
            "TOGETHER_DISABLE_VERSION_CHECK": "1",
            "NO_PROXY": "*",
        }
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("together")),
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), 60)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        return process.returncode or 0, output.decode()


@pytest.fixture
async def command_line(app: FastAPI, tmp_path: Path) -> AsyncIterator[CommandLine]:
    """The command line and a server for it."""
    listening = socket.create_server(("127.0.0.1", 0))
    async with serving([Site(app, listening)]):
        yield CommandLine(listening.getsockname()[1], tmp_path)


async def test_the_classic_command_line(office: Office, command_line: CommandLine) -> None:
    create = ("endpoints", "create", "--min-replicas", "1", "--max-replicas", "1")
    results = await asyncio.gather(
        command_line.run(*create, "--model", "test/model"),
        command_line.run(*create, "--model", "test/model", "--hardware", "9x_cpu"),
        command_line.run(*create, "--model", "no/such", "--hardware", "1x_cpu"),
        command_line.run("endpoints", "retrieve", "endpoint-none"),
        command_line.run(
            *create,
            "--model",
            "tiny",
            "--hardware",
            "1x_cpu",
            "--availability-zone",
            "east",
            "--no-auto-start",
            "--json",
        ),
    )
    (no_hardware, wrong_hardware, no_model, no_endpoint, made) = results

    assert "Missing required argument --hardware" in no_hardware[1]
    assert "2x_cpu" in no_hardware[1], "the table of hardware"
    assert "Invalid hardware selected." in wrong_hardware[1]
    assert "Model 'no/such' was not found" in no_model[1]
    assert "Use 'together endpoints list' to see your endpoints." in no_endpoint[1]
    assert all(code != 0 for code, _ in results[:-1])
    assert made[0] == 0, made[1]
    endpoint = json.loads(made[1])
    assert (endpoint["state"], endpoint["availability_zone"], endpoint["inactive_timeout"]) == ("STOPPED", "east", None)

    listed, hardware = await asyncio.gather(
        command_line.run("endpoints", "list", "--json"), command_line.run("endpoints", "hardware", "--json")
    )
    assert [item["id"] for item in json.loads(listed[1])] == [endpoint["id"]]
    assert len(json.loads(hardware[1])) == 4
    assert (await command_line.run("endpoints", "delete", endpoint["id"]))[0] == 0
    assert await office.store.endpoints() == []
