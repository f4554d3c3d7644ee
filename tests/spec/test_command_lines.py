"""The command lines beyond the lines that the reference prints: spellings, flags, and what they show of failures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.spec.commanded import ClassicCommand, Commanded, RoostCommand, TogetherCommand
from tests.spec.conftest import MODEL, Opened
from tests.spec.driven import Refused
from tests.spec.stage import Stage

BOTH = pytest.mark.parametrize("kind", [TogetherCommand, RoostCommand], ids=["together", "roost"])


def create(stage: Stage, *flags: str) -> list[str]:
    return ["endpoints", "create", "--model", MODEL, "--hardware", stage.hardware, "--no-auto-start", *flags]


def newest(stage: Stage) -> dict[str, Any]:
    return stage.server.endpoint(stage.ids()[0])


@BOTH
@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--inactive-timeout", "0"], "inactive_timeout", None),
        (["--inactive-timeout", "5"], "inactive_timeout", 5),
        (["--no-prompt-cache"], "display_name", MODEL),
        (["--min-replicas", "2", "--max-replicas", "4"], "autoscaling", {"min_replicas": 2, "max_replicas": 4}),
    ],
)
def test_a_create_with(
    kind: type[Commanded], opened: Opened, stage: Stage, flags: list[str], field: str, value: Any
) -> None:
    opened(kind).run(*create(stage, *flags))
    assert newest(stage)[field] == value


@BOTH
def test_a_model_without_its_flag(kind: type[Commanded], opened: Opened, stage: Stage) -> None:
    opened(kind).run("endpoints", "create", MODEL, "--hardware", stage.hardware, "--no-auto-start")
    assert newest(stage)["model"] == MODEL


@BOTH
def test_short_names(kind: type[Commanded], opened: Opened, stage: Stage) -> None:
    client = opened(kind)
    client.run("endpoints", "-c", "--model", MODEL, "--hardware", stage.hardware, "--no-auto-start")
    made = newest(stage)
    assert made["id"] in client.run("endpoints", "ls")
    assert made["name"] in client.run("endpoints", "get", made["id"])
    client.run("endpoints", "-d", made["id"])
    assert stage.gone(made["id"])


@BOTH
@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--mine"], True),
        (["--type", "dedicated"], True),
        (["--usage-type", "on-demand"], True),
        (["--usage-type", "reserved"], False),
    ],
)
def test_a_list_with(
    kind: type[Commanded], opened: Opened, stopped: dict[str, Any], flags: list[str], found: bool
) -> None:
    assert (stopped["id"] in opened(kind).run("endpoints", "list", *flags)) is found


def test_a_long_list_is_paged_by_the_command(opened: Opened, stage: Stage) -> None:
    made = [stage.made()["id"] for _ in range(25)][::-1]
    client = opened(TogetherCommand)
    first = [endpoint["id"] for endpoint in client.json("endpoints", "list")]
    assert first == made[: len(first)]
    rest = [endpoint["id"] for endpoint in client.json("endpoints", "list", "--after", first[-1])]
    assert first + rest == stage.ids()


@BOTH
def test_the_flags_of_every_command(kind: type[Commanded], opened: Opened, stopped: dict[str, Any]) -> None:
    for flags in (["--non-interactive"], ["--project", "roost"], ["--no-json"]):
        assert stopped["name"] in opened(kind).run("endpoints", "retrieve", stopped["id"], *flags)


def test_debug_prints_the_request(opened: Opened, stopped: dict[str, Any]) -> None:
    assert stopped["name"] in opened(TogetherCommand).run("endpoints", "retrieve", stopped["id"], "--debug")


@BOTH
def test_an_update_of_one_bound(kind: type[Commanded], opened: Opened, stage: Stage, stopped: dict[str, Any]) -> None:
    opened(kind).run("endpoints", "update", stopped["id"], "--max-replicas", "7", "--inactive-timeout", "30")
    told = stage.server.endpoint(stopped["id"])
    assert (told["autoscaling"], told["inactive_timeout"]) == ({"min_replicas": 1, "max_replicas": 7}, 30)


@BOTH
@pytest.mark.parametrize(
    "arguments",
    [
        ("endpoints", "create", "--model", MODEL, "--hardware", "1x_cpu", "--min-replicas", "3", "--max-replicas", "1"),
        ("endpoints", "update", "endpoint-none"),
        ("endpoints", "retrieve", "endpoint-none"),
        ("endpoints", "update", "endpoint-none", "--display-name", "x"),
    ],
)
def test_a_mistake_is_told(kind: type[Commanded], opened: Opened, stage: Stage, arguments: tuple[str, ...]) -> None:
    before = stage.ids()
    with pytest.raises(Refused) as caught:
        opened(kind).run(*arguments)
    assert "Traceback" not in caught.value.message
    assert stage.ids() == before


def test_1_x_shows_and_lists(opened: Opened, stage: Stage) -> None:
    client = opened(ClassicCommand)
    if not stage.kept:
        assert client.run("endpoints", "list") == ""
    made = stage.made()
    assert made["name"] in client.run("endpoints", "get", made["id"])
    assert made["id"] in client.run("endpoints", "list", "--mine", "false")
    assert "us-central-1a" in client.run("endpoints", "availability-zones")
    free = json.loads(client.run("endpoints", "hardware", "--model", MODEL, "--available", "--json"))
    assert {item["availability"]["status"] for item in free} == {"available"}


def test_1_x_creates_with_all_flags(opened: Opened, stage: Stage) -> None:
    gpu, count = stage.gpu
    flags = ["--gpu", gpu, "--gpu-count", str(count), "--no-auto-start", "--no-wait", "--no-prompt-cache"]
    flags += ["--no-speculative-decoding", "--inactive-timeout", "9", "--availability-zone", "us-east-1a"]
    printed = opened(ClassicCommand).run("endpoints", "create", "--model", MODEL, *flags)
    told = stage.server.endpoint(printed.strip())
    assert (told["inactive_timeout"], told["availability_zone"]) == (9, "us-east-1a")
    assert told["disable_speculative_decoding"] is True


def test_1_x_prints_the_hardware_when_what_was_asked_for_is_not_there(opened: Opened, stage: Stage) -> None:
    with pytest.raises(Refused) as caught:
        opened(ClassicCommand).run("endpoints", "create", "--model", MODEL, "--gpu", "rtx-6000")
    assert "Invalid hardware provided" in caught.value.message
    assert stage.hardware in caught.value.message
