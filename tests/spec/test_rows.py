"""Every row of the reference's tables: a check by its heading and first cell, and none without one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.server import until
from tests.spec.commanded import TogetherCommand
from tests.spec.conftest import MODEL
from tests.spec.driven import Refused
from tests.spec.reference import Reference, Row
from tests.spec.stage import Stage

SCARCE = "8x_nvidia_b200_180gb_sxm"
Check = Callable[[Stage], None]
CHECKS: dict[tuple[str, str], Check] = {}


def of(heading: str, name: str) -> Callable[[Check], Check]:
    """Registers the check of a row."""

    def register(check: Check) -> Check:
        CHECKS[heading, name] = check
        return check

    return register


def test_row(row: Row, stage: Stage) -> None:
    CHECKS[row.heading, row.name](stage)


def test_no_check_is_about_a_row_that_is_not_there(request: pytest.FixtureRequest) -> None:
    rows = Reference.read(request.config.getoption("reference")).rows
    assert {(row.heading, row.name) for row in rows} == set(CHECKS)


# Routes


@of("Endpoints", "POST /endpoints")
def _create(stage: Stage) -> None:
    answer = stage.ask("POST", "/endpoints", json=stage.body())
    assert (answer.status_code, answer.json()["object"]) == (200, "endpoint")
    assert answer.json()["id"] in stage.ids()


@of("Endpoints", "GET /endpoints")
def _list(stage: Stage) -> None:
    made = [stage.made()["id"] for _ in range(3)]
    answer = stage.ask("GET", "/endpoints")
    assert (answer.status_code, answer.json()["object"]) == (200, "list")
    assert [endpoint["id"] for endpoint in answer.json()["data"]][:3] == made[::-1]


@of("Endpoints", "GET /endpoints/{id}")
def _retrieve(stage: Stage) -> None:
    made = stage.made()
    answer = stage.ask("GET", f"/endpoints/{made['id']}")
    assert (answer.status_code, answer.json()["id"]) == (200, made["id"])


@of("Endpoints", "PATCH /endpoints/{id}")
def _update(stage: Stage) -> None:
    made = stage.made()
    answer = stage.ask("PATCH", f"/endpoints/{made['id']}", json={"display_name": "New"})
    assert (answer.status_code, answer.json()) == (200, stage.server.endpoint(made["id"]))
    assert answer.json()["display_name"] == "New"


@of("Endpoints", "DELETE /endpoints/{id}")
def _delete(stage: Stage) -> None:
    made = stage.made()
    answer = stage.ask("DELETE", f"/endpoints/{made['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert stage.gone(made["id"])


@of("Endpoints", "GET /hardware")
def _hardware(stage: Stage) -> None:
    answer = stage.ask("GET", "/hardware")
    assert (answer.status_code, answer.json()["object"]) == (200, "list")
    assert {item["object"] for item in answer.json()["data"]} == {"hardware"}


# The body of a create


def refused(stage: Stage, field: str, **body: Any) -> str:
    """The message of a create that is refused for ``field``, which leaves nothing behind."""
    before = stage.ids()
    whole = {name: value for name, value in stage.body(**body).items() if value is not ...}
    answer = stage.ask("POST", "/endpoints", json=whole)
    assert answer.status_code == 400, answer.text
    error: dict[str, str] = answer.json()["error"]
    assert error["param"] is not None
    assert error["param"].split(".")[0] == field
    assert stage.ids() == before
    return error["message"]


def _required(field: str) -> Check:
    def check(stage: Stage) -> None:
        assert f"{field} is required" in refused(stage, field, **{field: ...})
        assert f"{field} is required" in refused(stage, field, **{field: None})
        refused(stage, field, **{field: 7})
        body = stage.body()
        assert stage.made()[field] == body[field]

    return check


for _field in ("model", "hardware", "autoscaling"):
    CHECKS["Request Body", _field] = _required(_field)


@of("Request Body", "display_name")
def _display_name(stage: Stage) -> None:
    assert stage.made(display_name="Läma 🦙")["display_name"] == "Läma 🦙"
    assert stage.made()["display_name"] == MODEL
    refused(stage, "display_name", display_name=["x"])


@of("Request Body", "disable_speculative_decoding")
def _speculative(stage: Stage) -> None:
    assert stage.made()["disable_speculative_decoding"] is False
    assert stage.made(disable_speculative_decoding=True)["disable_speculative_decoding"] is True
    refused(stage, "disable_speculative_decoding", disable_speculative_decoding="yes")


@of("Request Body", "state")
def _state(stage: Stage) -> None:
    body = stage.body()
    del body["state"]
    by_default = stage.ask("POST", "/endpoints", json=body).json()
    assert by_default["state"] in ("PENDING", "STARTING", "STARTED")
    assert stage.made(state="STARTED")["state"] in ("PENDING", "STARTING", "STARTED")
    assert stage.made(state="STOPPED")["state"] == "STOPPED"
    refused(stage, "state", state="PENDING")
    refused(stage, "state", state="started")


@of("Request Body", "inactive_timeout")
def _inactive_timeout(stage: Stage) -> None:
    assert stage.made()["inactive_timeout"] == 60
    assert stage.made(inactive_timeout=5)["inactive_timeout"] == 5
    assert stage.made(inactive_timeout=None)["inactive_timeout"] is None
    assert stage.made(inactive_timeout=0)["inactive_timeout"] is None
    for wrong in (-1, 1.5, "5", True, 2**70):
        refused(stage, "inactive_timeout", inactive_timeout=wrong)


@of("Request Body", "availability_zone")
def _zone(stage: Stage) -> None:
    zones = stage.ask("GET", "/clusters/availability-zones").json()["avzones"]
    assert stage.made()["availability_zone"] is None
    assert stage.made(availability_zone=zones[0])["availability_zone"] == zones[0]
    assert "zone" in refused(stage, "availability_zone", availability_zone="nowhere-1")


# States


@of("Endpoint States", "PENDING")
def _pending(stage: Stage) -> None:
    # One node has eight of these: the second endpoint waits until the first one goes.
    first = stage.made(state="STARTED", hardware=SCARCE)
    stage.server.wait_state(first["id"], "STARTED", 120)
    second = stage.made(state="STARTED", hardware=SCARCE)
    waiting = until("it waits", lambda: (e := stage.server.endpoint(second["id"]))["state_reason"] and e)
    assert (waiting["state"], waiting["state_reason"]["code"]) == ("PENDING", "no_capacity")
    stage.ask("DELETE", f"/endpoints/{first['id']}")
    stage.server.wait_state(second["id"], "STARTED", 120)


def _states(stage: Stage, endpoint_id: str) -> list[str]:
    return [e["data"]["to"] for e in stage.server.events(endpoint_id) if e["kind"] == "endpoint.state"]


@of("Endpoint States", "STARTING")
def _starting(stage: Stage) -> None:
    made = stage.made(state="STARTED")
    stage.server.wait_state(made["id"], "STARTED", 120)
    assert _states(stage, made["id"]) == ["STARTING", "STARTED"]


@of("Endpoint States", "STARTED")
def _started(stage: Stage) -> None:
    made = stage.made(state="STARTED")
    stage.server.wait_state(made["id"], "STARTED", 120)
    body = {"model": made["id"], "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    assert stage.ask("POST", "/chat/completions", json=body).status_code == 200


@of("Endpoint States", "STOPPING")
def _stopping(stage: Stage) -> None:
    made = stage.made(state="STARTED")
    stage.server.wait_state(made["id"], "STARTED", 120)
    stage.ask("PATCH", f"/endpoints/{made['id']}", json={"state": "STOPPED"})
    stage.server.wait_state(made["id"], "STOPPED")
    assert _states(stage, made["id"])[-2:] == ["STOPPING", "STOPPED"]


@of("Endpoint States", "STOPPED")
def _stopped(stage: Stage) -> None:
    made = stage.made()
    body = {"model": made["id"], "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    answer = stage.ask("POST", "/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "endpoint_stopped")
    assert answer.headers["x-should-retry"] == "false"
    assert "start" in answer.json()["error"]["message"]


@of("Endpoint States", "ERROR")
def _error(stage: Stage) -> None:
    broken = {"id": "test/broken", "engine": "echo", "options": {"fail_at_start": "told to"}}
    assert stage.ask("POST", "/models", json=broken).status_code in (200, 201)
    made = stage.made(model="test/broken", hardware="1x_cpu", state="STARTED")
    shown = stage.server.wait_state(made["id"], "ERROR", 120)
    assert shown["state_reason"]["message"]
    stage.ask("DELETE", f"/endpoints/{made['id']}")
    stage.ask("DELETE", "/models/test/broken")


# What can be updated


def _updated(field: str, value: Any, wrong: Any) -> Check:
    def check(stage: Stage) -> None:
        made = stage.settled()
        answer = stage.ask("PATCH", f"/endpoints/{made['id']}", json={field: wrong})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"].split(".")[0] == field
        assert stage.server.endpoint(made["id"]) == made
        assert stage.ask("PATCH", f"/endpoints/{made['id']}", json={field: value}).status_code == 200
        until(f"{field} is {value}", lambda: stage.server.endpoint(made["id"])[field] in (value, "STARTED"))

    return check


CHECKS["Updatable Fields", "display_name"] = _updated("display_name", "New", 7)
CHECKS["Updatable Fields", "state"] = _updated("state", "STARTED", "RUNNING")
CHECKS["Updatable Fields", "autoscaling"] = _updated(
    "autoscaling", {"min_replicas": 2, "max_replicas": 5}, {"min_replicas": 9, "max_replicas": 2}
)
CHECKS["Updatable Fields", "inactive_timeout"] = _updated("inactive_timeout", 7, "7")


# The command line: each command and flag of the page, by ``together`` itself


def line(stage: Stage, *arguments: str) -> str:
    return TogetherCommand(stage).run("endpoints", *arguments)


def asked(stage: Stage, *arguments: str) -> Any:
    return json.loads(line(stage, *arguments, "--json"))


def created(stage: Stage, *flags: str) -> dict[str, Any]:
    """What was made by a create with these flags."""
    told = asked(stage, "create", "--model", MODEL, "--hardware", stage.hardware, *flags, "--no-auto-start")
    return stage.server.endpoint(told["id"])


@of("CLI Reference", "together endpoints create")
def _cli_create(stage: Stage) -> None:
    flags = ("--model", MODEL, "--hardware", stage.hardware, "--no-auto-start")
    assert "created" in line(stage, "create", *flags)
    assert stage.listed()[0]["model"] == MODEL


@of("CLI Reference", "together endpoints retrieve <ID>")
def _cli_retrieve(stage: Stage) -> None:
    made = stage.made()
    assert made["name"] in line(stage, "retrieve", made["id"])


@of("CLI Reference", "together endpoints list")
def _cli_list(stage: Stage) -> None:
    made = stage.made()
    assert made["id"] in line(stage, "list")


@of("CLI Reference", "together endpoints update <ID>")
def _cli_update(stage: Stage) -> None:
    made = stage.made(autoscaling={"min_replicas": 1, "max_replicas": 3})
    line(stage, "update", made["id"], "--min-replicas", "2", "--inactive-timeout", "0")
    told = stage.server.endpoint(made["id"])
    assert (told["autoscaling"], told["inactive_timeout"]) == ({"min_replicas": 2, "max_replicas": 3}, None)


@of("CLI Reference", "together endpoints start <ID>")
def _cli_start(stage: Stage) -> None:
    made = stage.made()
    line(stage, "start", made["id"], "--wait")
    assert stage.server.endpoint(made["id"])["state"] == "STARTED"


@of("CLI Reference", "together endpoints stop <ID>")
def _cli_stop(stage: Stage) -> None:
    made = stage.made(state="STARTED")
    line(stage, "stop", made["id"], "--wait")
    assert stage.server.endpoint(made["id"])["state"] == "STOPPED"


@of("CLI Reference", "together endpoints delete <ID>")
def _cli_delete(stage: Stage) -> None:
    made = stage.made()
    line(stage, "delete", made["id"])
    assert stage.gone(made["id"])


@of("CLI Reference", "together endpoints hardware")
def _cli_hardware(stage: Stage) -> None:
    printed = line(stage, "hardware")
    assert stage.hardware in printed
    assert "1x_cpu" in printed


@of("CLI Reference", "together endpoints availability-zones")
def _cli_zones(stage: Stage) -> None:
    printed = line(stage, "availability-zones")
    assert all(zone in printed for zone in stage.ask("GET", "/clusters/availability-zones").json()["avzones"])


@of("Create Options", "--model")
def _cli_model(stage: Stage) -> None:
    assert created(stage)["model"] == MODEL
    with pytest.raises(Refused, match="Model 'no/such' was not found"):
        line(stage, "create", "--model", "no/such", "--hardware", stage.hardware)


@of("Create Options", "--hardware")
def _cli_hardware_flag(stage: Stage) -> None:
    assert created(stage)["hardware"] == stage.hardware
    with pytest.raises(Refused) as caught:
        line(stage, "create", "--model", MODEL, "--hardware", "9x_dream")
    assert "Invalid hardware selected." in caught.value.message
    assert stage.hardware in caught.value.message, "the table of hardware"
    with pytest.raises(Refused) as caught:
        line(stage, "create", "--model", MODEL)
    assert "Missing required argument --hardware" in caught.value.message
    assert stage.hardware in caught.value.message, "the table of hardware"


@of("Create Options", "--min-replicas")
def _cli_min(stage: Stage) -> None:
    told = created(stage, "--min-replicas", "0", "--max-replicas", "2")
    assert told["autoscaling"] == {"min_replicas": 0, "max_replicas": 2}


@of("Create Options", "--max-replicas")
def _cli_max(stage: Stage) -> None:
    assert created(stage, "--max-replicas", "4")["autoscaling"] == {"min_replicas": 1, "max_replicas": 4}


@of("Create Options", "--display-name")
def _cli_display_name(stage: Stage) -> None:
    assert created(stage, "--display-name", "My Läma")["display_name"] == "My Läma"


@of("Create Options", "--no-auto-start")
def _cli_no_auto_start(stage: Stage) -> None:
    assert created(stage)["state"] == "STOPPED"


@of("Create Options", "--no-speculative-decoding")
def _cli_speculative(stage: Stage) -> None:
    assert created(stage, "--no-speculative-decoding")["disable_speculative_decoding"] is True


@of("Create Options", "--availability-zone")
def _cli_zone(stage: Stage) -> None:
    zone = stage.ask("GET", "/clusters/availability-zones").json()["avzones"][-1]
    assert created(stage, "--availability-zone", zone)["availability_zone"] == zone
    with pytest.raises(Refused, match="Invalid availability zone 'nowhere-1'"):
        line(stage, "create", "--model", MODEL, "--hardware", stage.hardware, "--availability-zone", "nowhere-1")


@of("Create Options", "--wait")
def _cli_wait(stage: Stage) -> None:
    assert asked(stage, "create", "--model", MODEL, "--hardware", stage.hardware, "--wait")["state"] == "STARTED"


@of("Create Options", "--json")
def _cli_json(stage: Stage) -> None:
    told = asked(stage, "create", "--model", MODEL, "--hardware", stage.hardware, "--no-auto-start")
    assert told["object"] == "endpoint"


@of("Hardware Options", "--model")
def _cli_hardware_model(stage: Stage) -> None:
    assert len(asked(stage, "hardware", "--model", MODEL)) < len(asked(stage, "hardware"))


@of("Hardware Options", "--available")
def _cli_hardware_available(stage: Stage) -> None:
    free = asked(stage, "hardware", "--model", MODEL, "--available")
    assert stage.hardware in [item["id"] for item in free]
    assert {item["availability"]["status"] for item in free} == {"available"}
    # The command of 2.x ignores the flag without a model; ours says that it needs one.
    roost = subprocess.run(
        ["roost", "endpoints", "hardware", "--available"], env=stage.environment(), capture_output=True, text=True
    )
    assert (roost.returncode, "--model" in roost.stderr) == (2, True)


@of("Hardware Options", "--json")
def _cli_hardware_json(stage: Stage) -> None:
    assert {item["object"] for item in asked(stage, "hardware")} == {"hardware"}


# The response


FIELDS = ("object", "id", "name", "display_name", "model", "hardware", "type", "state", "autoscaling", "created_at")


@pytest.mark.parametrize("field", FIELDS)
def test_response_object(field: str, stage: Stage) -> None:
    made = stage.made(display_name="My Endpoint")
    owner, _, rest = made["name"].partition("/")
    expected = {
        "object": made["object"] == "endpoint",
        "id": made["id"].startswith("endpoint-") and len(made["id"]) == len("endpoint-") + 36,
        "name": rest == f"{MODEL}-{made['id'][9:17]}" and owner == made["owner"],
        "display_name": made["display_name"] == "My Endpoint",
        "model": made["model"] == MODEL,
        "hardware": made["hardware"] == stage.hardware,
        "type": made["type"] == "dedicated",
        "state": made["state"] == "STOPPED",
        "autoscaling": made["autoscaling"] == {"min_replicas": 1, "max_replicas": 1},
        "created_at": made["created_at"].endswith("Z") and "T" in made["created_at"],
    }
    assert expected[field], made


def test_the_response_object_has_no_other_field(request: pytest.FixtureRequest) -> None:
    blocks = Reference.read(request.config.getoption("reference")).blocks
    (block,) = [block for block in blocks if block.kind == "json"]
    assert set(json.loads(block.code)) == set(FIELDS)
