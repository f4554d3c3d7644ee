"""``roost endpoints …`` before the real API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from tests.integration.cli_bench import MODEL, Bench

from roost.cli import describe
from roost.cli.output import fitting, table_width
from roost.domain.endpoint import Progress, StateReason
from roost.domain.hardware import Node, Resources
from roost.domain.lifecycle import DesiredState
from roost.domain.replica import ReplicaState
from roost.schemas import Endpoint as EndpointOut
from roost.schemas import Hardware as HardwareOut
from roost.schemas import Model as ModelOut
from roost.testing.builders import make_replica


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with start_blocking_portal() as portal:
        yield Bench(portal, tmp_path)


CREATE = ("endpoints", "create", "--model", MODEL, "--hardware", "1x_cpu")


def interrupt() -> None:
    raise KeyboardInterrupt


def test_create_deploys_with_the_defaults_of_the_reference(bench: Bench) -> None:
    result = bench.run(*CREATE)
    spec = bench.endpoint().spec
    assert result.exit_code == 0, result.output
    assert (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas) == (1, 1)
    assert spec.desired_state is DesiredState.STARTED
    assert spec.inactive_timeout is not None
    assert bench.endpoint().id in result.stdout
    assert "State:" in result.stdout


def test_create_passes_every_flag_on(bench: Bench) -> None:
    bench.create(
        *("--min-replicas", "2", "--max-replicas", "5", "--display-name", "Mine", "--no-auto-start"),
        *("--no-speculative-decoding", "--availability-zone", "local", "--inactive-timeout", "0"),
    )
    spec = bench.endpoint().spec
    assert (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas) == (2, 5)
    assert spec.display_name == "Mine"
    assert spec.desired_state is DesiredState.STOPPED
    assert spec.disable_speculative_decoding
    assert spec.availability_zone == "local"
    assert spec.inactive_timeout is None


def test_the_maximum_follows_the_minimum(bench: Bench) -> None:
    assert bench.create("--min-replicas", "3")["autoscaling"] == {"min_replicas": 3, "max_replicas": 3}
    assert bench.create("--min-replicas", "0")["autoscaling"] == {"min_replicas": 0, "max_replicas": 1}


def test_json_is_what_the_api_says(bench: Bench) -> None:
    created = bench.create()
    response = bench.transport.requests[-1]
    assert response.method == "POST"
    shown = bench.run("endpoints", "retrieve", created["id"], "--json")
    assert json.loads(shown.stdout) == created
    assert shown.stdout == json.dumps(created, indent=2, ensure_ascii=False) + "\n"
    assert shown.stderr == ""


@pytest.mark.parametrize("by", ["id", "name"])
def test_an_endpoint_is_named_by_id_or_name(bench: Bench, by: str) -> None:
    created = bench.create()
    assert bench.json("endpoints", "retrieve", created[by])["id"] == created["id"]
    assert bench.json("endpoints", "update", created[by], "--display-name", "New")["display_name"] == "New"


def test_list_shows_the_newest_first(bench: Bench) -> None:
    first, second = bench.create(), bench.create("--display-name", "two")
    result = bench.run("endpoints", "list")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ID", "NAME", "MODEL", "STATE", "READY", "REPLICAS", "HARDWARE", "CREATED"]
    assert {line.split()[0] for line in lines[1:]} == {first["id"], second["id"]}
    listing = bench.json("endpoints", "list", "--mine", "--type", "dedicated", "--usage-type", "on-demand")
    assert listing["object"] == "list"
    assert len(listing["data"]) == 2
    assert bench.json("endpoints", "list", "--type", "serverless")["data"] == []


def test_an_empty_list_says_so_beside_the_output(bench: Bench) -> None:
    result = bench.run("endpoints", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "roost endpoints create" in result.stderr


def test_a_list_emptied_by_a_filter_says_that(bench: Bench) -> None:
    bench.create()
    result = bench.run("endpoints", "list", "--mine", "--type", "serverless")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No endpoint matches --mine --type serverless.\n"


def test_auto_stop_is_shown_as_what_it_is(bench: Bench) -> None:
    lines = [line.split(maxsplit=1) for line in bench.run(*CREATE, "--inactive-timeout", "60").stdout.splitlines()]
    assert ["Auto-stop:", "60 min (recorded; not in force yet)"] in lines
    lines = [line.split(maxsplit=1) for line in bench.run(*CREATE, "--inactive-timeout", "0").stdout.splitlines()]
    assert ["Auto-stop:", "never"] in lines


def test_update_changes_what_is_given(bench: Bench) -> None:
    created = bench.create("--max-replicas", "4")
    updated = bench.json("endpoints", "update", "--min-replicas", "2", created["id"])
    assert updated["autoscaling"] == {"min_replicas": 2, "max_replicas": 4}
    assert bench.json("endpoints", "update", created["id"], "--inactive-timeout", "7")["inactive_timeout"] == 7
    assert bench.json("endpoints", "update", created["id"], "--inactive-timeout", "0")["inactive_timeout"] is None


def test_delete_deletes_at_once(bench: Bench) -> None:
    created = bench.create()
    result = bench.run("endpoints", "delete", created["id"])
    assert (result.exit_code, result.stdout) == (0, f"Deleted {created['id']}.\n")
    assert bench.run("endpoints", "retrieve", created["id"]).exit_code == 3
    other = bench.create()
    assert bench.json("endpoints", "delete", other["name"]) == {"deleted": True, "endpoint": other["name"]}


def test_hardware_is_listed_and_filtered(bench: Bench) -> None:
    everything = bench.run("endpoints", "hardware")
    assert "1x_cpu" in everything.stdout
    assert everything.stdout.splitlines()[0].startswith("ID")
    # Room for one thread only: what needs two is not available now.
    bench.nodes = [Node("local", "local", "cpu", Resources(2, 8 << 30), Resources(1, 4 << 30))]
    listed = bench.json("endpoints", "hardware", "--model", MODEL)["data"]
    free = bench.json("endpoints", "hardware", "--model", MODEL, "--available")["data"]
    assert {item["availability"]["status"] for item in free} == {"available"}
    assert len(free) < len(listed)
    shown = bench.run("endpoints", "hardware", "--model", MODEL, "--available")
    assert len(shown.stdout.splitlines()) == 1 + len(free)


def test_hardware_that_is_not_there_says_whether_it_could_be(bench: Bench) -> None:
    bench.nodes = [Node("local", "local", "cpu", Resources(1, 4 << 30), Resources(0, 0))]
    assert "1x_cpu" in bench.run("endpoints", "hardware", "--model", MODEL).stdout
    busy = bench.run("endpoints", "hardware", "--model", MODEL, "--available")
    assert "No hardware is free for this model now: other endpoints hold it (`roost endpoints list`)." in busy.output
    bench.nodes = [Node("local", "local", "cpu", Resources(1, 512 << 20), Resources(1, 512 << 20))]
    for more in ((), ("--available",)):
        small = bench.run("endpoints", "hardware", "--model", MODEL, *more)
        assert f"No hardware of this server can hold {MODEL}." in small.output
    refused = bench.run("endpoints", "create", "--model", MODEL, "--hardware", "1x_cpu")
    assert refused.exit_code == 1
    assert "A replica needs 530 MiB of memory" in refused.stderr
    assert f"No hardware of this server can hold {MODEL}." in refused.stderr


def columns_in_80(columns: Sequence[str], row: Sequence[str], spare: Sequence[str]) -> list[str]:
    widths = {name: max(len(name), len(cell)) for name, cell in zip(columns, row, strict=True)}
    kept = fitting(widths, spare, 80)
    assert table_width({name: widths[name] for name in kept}) <= 80
    return kept


def test_the_lists_fit_80_columns_and_tell_deployments_apart(bench: Bench) -> None:
    endpoint = EndpointOut.model_validate(bench.create())
    for model in ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "smollm2-135m"):
        row = describe.endpoint_row(endpoint.model_copy(update={"model": model}))
        kept = columns_in_80(describe.ENDPOINT_COLUMNS, row, describe.SPARE_ENDPOINT_COLUMNS)
        assert kept[:3] == ["ID", "MODEL", "STATE"]
    offer = HardwareOut.model_validate(bench.json("endpoints", "hardware")["data"][0])
    wide = ("4x_nvidia_h100_80gb_sxm", "nvidia_h100_80gb_sxm", *describe.hardware_row(offer)[2:-1], "insufficient")
    kept = columns_in_80(describe.HARDWARE_COLUMNS, wide, describe.SPARE_HARDWARE_COLUMNS)
    assert kept == [name for name in describe.HARDWARE_COLUMNS if name != "TYPE"]
    none = ModelOut.model_validate(bench.json("models", "list")["data"][0]).model_copy(update={"alias": None})
    assert describe.spare_model_columns([none])[0] == "ALIAS"
    assert "ALIAS" not in describe.spare_model_columns([none, none.model_copy(update={"alias": "a"})])


def test_zones_are_listed(bench: Bench) -> None:
    assert bench.run("endpoints", "availability-zones").stdout == "local\n"
    assert bench.json("endpoints", "availability-zones") == {"avzones": ["local"]}


def test_wait_shows_each_phase_once_and_prints_the_endpoint_at_the_end(bench: Bench) -> None:
    fetching = StateReason("downloading", "The weights are being fetched.")
    total = 98_362_432
    bench.at_polls = [
        lambda: bench.becomes("STARTING", reason=fetching, progress=Progress("fetching", 10.0, total // 10, total)),
        lambda: bench.becomes("STARTING", reason=fetching, progress=Progress("fetching", 11.0, total // 9, total)),
        lambda: bench.becomes("STARTING", progress=Progress("loading")),
        lambda: bench.becomes("STARTED", make_replica(state=ReplicaState.READY)),
    ]
    result = bench.run(*CREATE, "--wait")
    assert result.exit_code == 0, result.output
    assert ["State:", "STARTED"] in [line.split() for line in result.stdout.splitlines()]
    assert "1 ready" in result.stdout
    lines = result.stderr.splitlines()
    assert lines[0] == f"Created {bench.endpoint().id}."
    assert "STARTING · fetching 10 % (9.8 MB of 98.4 MB) · The weights are being fetched." in lines
    assert not any("11 %" in line for line in lines)
    assert lines[-2:] == ["STARTING · loading", "STARTED"]


def test_wait_with_json_keeps_stdout_pure(bench: Bench) -> None:
    bench.at_polls = [lambda: bench.becomes("STARTED")]
    assert bench.create("--wait")["state"] == "STARTED"


def test_waiting_for_hardware_shows_the_reason(bench: Bench) -> None:
    why = StateReason("no_capacity", "local lacks 1 CPU threads.")
    bench.at_polls = [lambda: bench.becomes("PENDING", reason=why), lambda: bench.becomes("STARTED")]
    result = bench.run(*CREATE, "--wait")
    assert result.exit_code == 0
    assert "PENDING · local lacks 1 CPU threads." in result.stderr


def test_waiting_for_hardware_gives_the_hint_once(bench: Bench) -> None:
    why = StateReason("no_capacity", "local lacks 1 CPU thread.", "Stop another endpoint.")
    bench.at_polls = [lambda: bench.becomes("PENDING", reason=why), lambda: None, lambda: bench.becomes("STARTING")]
    result = bench.run(*CREATE, "--wait", "--timeout", "9")
    assert result.exit_code == 7
    assert result.stderr.splitlines().count("Hint: Stop another endpoint.") == 1
    assert result.stderr.count("Stop another endpoint.") == 1


def test_what_helped_a_stopped_endpoint_is_no_hint_for_one_that_is_started(bench: Bench) -> None:
    created = bench.create("--no-auto-start")
    bench.becomes("STOPPED", reason=StateReason("stopped_by_user", "It is stopped.", "Start it to use it."))
    bench.at_polls = [lambda: bench.becomes("STARTED")]
    result = bench.run("endpoints", "start", created["id"], "--wait")
    assert result.exit_code == 0
    assert "Start it to use it" not in result.output


def test_an_endpoint_in_error_ends_the_wait_with_cause_hint_and_log(bench: Bench) -> None:
    reason = StateReason(
        "out_of_memory", "The engine ran out of memory.", "Choose more.", log_tail=("loading", "killed")
    )
    bench.at_polls = [lambda: bench.becomes("STARTING"), lambda: bench.becomes("ERROR", reason=reason)]
    result = bench.run(*CREATE, "--wait")
    assert result.exit_code == 5
    assert result.stdout == ""
    tail = result.stderr.splitlines()[-5:]
    assert tail == [
        "Error: The endpoint failed. The engine ran out of memory.",
        "Hint: Choose more.",
        "Last lines of the engine's log:",
        "  loading",
        "  killed",
    ]


def test_start_forgives_the_error_that_was_there_before(bench: Bench) -> None:
    created = bench.create()
    bench.becomes("ERROR")
    bench.at_polls = [lambda: None, lambda: bench.becomes("PENDING"), lambda: bench.becomes("STARTED")]
    result = bench.run("endpoints", "start", created["id"], "--wait")
    assert result.exit_code == 0, result.output


def test_start_believes_an_error_that_stays(bench: Bench) -> None:
    created = bench.create()
    bench.becomes("ERROR")
    assert bench.run("endpoints", "start", created["id"], "--wait").exit_code == 5


def test_stop_waits_for_stopped(bench: Bench) -> None:
    created = bench.create()
    bench.becomes("STARTED")
    bench.at_polls = [lambda: bench.becomes("STOPPING"), lambda: bench.becomes("STOPPED")]
    result = bench.run("endpoints", "stop", created["id"], "--wait")
    assert result.exit_code == 0
    assert bench.endpoint().spec.desired_state is DesiredState.STOPPED
    assert result.stderr.splitlines() == ["stopping …", "STOPPING", "STOPPED"]


def test_without_wait_start_and_stop_return_at_once(bench: Bench) -> None:
    created = bench.create("--no-auto-start")
    started = bench.run("endpoints", "start", created["id"])
    assert (started.exit_code, bench.sleeps) == (0, 0)
    assert started.stdout == f"Asked {created['id']} to start (it was STOPPED).\n"
    assert f"roost endpoints start {created['id']} --wait" in started.stderr
    # The state of before, and how to leave it, are no answer to that.
    assert "Start it to use it" not in started.output
    assert bench.endpoint().spec.desired_state is DesiredState.STARTED
    assert bench.json("endpoints", "stop", created["id"])["id"] == created["id"]
    assert bench.endpoint().spec.desired_state is DesiredState.STOPPED


def test_what_is_as_asked_already_is_said_to_be(bench: Bench) -> None:
    created = bench.create("--no-auto-start")
    assert bench.run("endpoints", "stop", created["id"]).stdout == f"{created['id']} is STOPPED already.\n"
    bench.becomes("STARTED")
    assert bench.run("endpoints", "start", created["id"]).stdout == f"{created['id']} is STARTED already.\n"


def test_the_state_of_before_is_not_shown_while_it_starts(bench: Bench) -> None:
    created = bench.create("--no-auto-start")
    bench.at_polls = [lambda: None, lambda: bench.becomes("STARTING"), lambda: bench.becomes("STARTED")]
    result = bench.run("endpoints", "start", created["id"], "--wait")
    assert result.stderr.splitlines() == ["starting …", "STARTING", "STARTED"]


def test_an_endpoint_left_in_the_queue_is_not_said_to_be_starting(bench: Bench) -> None:
    why = StateReason("no_capacity", "local lacks 1 CPU thread.")
    bench.at_polls = [lambda: bench.becomes("PENDING", reason=why), interrupt]
    result = bench.run(*CREATE, "--wait")
    assert "the endpoint stays in the queue and starts when there is room." in result.stderr


def test_a_sandbox_without_free_hardware_names_its_limit(bench: Bench) -> None:
    bench.nodes = [Node("local", "local", "cpu", Resources(1, 4 << 30), Resources(0, 0))]
    listed = bench.json("endpoints", "hardware", "--model", MODEL)
    bench.transport.failures = [httpx.Response(200, json=listed, headers={"x-roost-sandbox": "true"})]
    assert "at most 6 engines" in bench.run("endpoints", "hardware", "--model", MODEL, "--available").stderr


def test_somebody_who_stops_it_meanwhile_ends_the_wait(bench: Bench) -> None:
    bench.at_polls = [lambda: bench.becomes("STARTING"), lambda: bench.becomes("STOPPED")]
    result = bench.run(*CREATE, "--wait")
    assert result.exit_code == 1
    assert "something else wanted that meanwhile" in result.stderr


def test_a_wait_has_an_end_when_asked(bench: Bench) -> None:
    result = bench.run(*CREATE, "--wait", "--timeout", "3")
    assert result.exit_code == 7
    assert "not STARTED after 3 s" in result.stderr
    assert bench.sleeps == 3


def test_ctrl_c_leaves_the_endpoint_and_says_how_to_go_on(bench: Bench) -> None:
    bench.at_polls = [interrupt]
    result = bench.run(*CREATE, "--wait")
    assert result.exit_code == 130
    endpoint = bench.endpoint()
    assert endpoint.spec.desired_state is DesiredState.STARTED
    assert f"roost endpoints retrieve {endpoint.id}" in result.stderr
    assert f"roost endpoints stop {endpoint.id}" in result.stderr


def test_a_wait_survives_a_server_that_is_restarted(bench: Bench) -> None:
    away = httpx.Response(503, json={"error": {"message": "Restarting.", "type": "overloaded_error"}})

    def restart() -> None:
        bench.transport.failures = [away, away, away, httpx.ConnectError("refused"), httpx.ConnectError("refused")]
        bench.at_polls = [lambda: None] * 5
        bench.becomes("STARTED")

    bench.at_polls = [restart]
    result = bench.run(*CREATE, "--wait")
    assert result.exit_code == 0, result.output
    assert "Restarting. Trying again." in result.stderr


def test_a_wait_ends_when_the_server_stays_away(bench: Bench) -> None:
    def vanish() -> None:
        bench.transport.failures = [httpx.ConnectError("refused") for _ in range(900)]

    bench.at_polls = [vanish]
    result = bench.run(*CREATE, "--wait")
    assert result.exit_code == 6


def test_an_endpoint_deleted_during_the_wait_is_not_found(bench: Bench) -> None:
    def delete() -> None:
        bench.run("endpoints", "delete", bench.endpoint().id)

    bench.at_polls = [delete]
    result = bench.run(*CREATE, "--wait")
    assert result.exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "--hardware", "1x_cpu"), "Missing option '--model'"),
        (
            (*CREATE[1:], "--min-replicas", "3", "--max-replicas", "2"),
            "(3) cannot",
        ),
        ((*CREATE[1:], "--min-replicas", "-1"), "--min-replicas"),
        ((*CREATE[1:], "--wait", "--no-auto-start"), "--no-auto-start"),
        ((*CREATE[1:], "--timeout", "3"), "--timeout requires --wait"),
        ((*CREATE[1:], "--inactive-timeout", "x"), "--inactive-timeout"),
        (("update", "endpoint-1"), "Nothing to change"),
        (("update", "endpoint-1", "--min-replicas", "2", "--max-replicas", "1"), "cannot be greater"),
        (("hardware", "--available"), "--available requires --model"),
        (("list", "--type", "other"), "--type"),
        (("start", "endpoint-1", "--timeout", "1"), "--timeout requires --wait"),
        (("retrieve",), "ENDPOINT"),
        (("creat",), "Did you mean 'create'?"),
    ],
)
def test_mistakes_of_usage_end_with_2_and_reach_no_server(
    bench: Bench, arguments: tuple[str, ...], message: str
) -> None:
    result = bench.run("endpoints", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stdout == ""
    assert bench.transport.requests == []


def test_without_hardware_the_choices_are_shown(bench: Bench) -> None:
    result = bench.run("endpoints", "create", "--model", MODEL)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == "Error: Missing option --hardware."
    assert any(line.startswith("  1x_cpu") for line in lines)


def test_unknown_hardware_shows_the_choices_too(bench: Bench) -> None:
    result = bench.run("endpoints", "create", "--model", MODEL, "--hardware", "9x_gpu")
    assert result.exit_code == 1
    assert "Invalid hardware provided: there is no '9x_gpu' here." in result.stderr
    assert "hardware API" not in result.stderr
    assert any(line.startswith("  1x_cpu") for line in result.stderr.splitlines())


def test_the_servers_refusals_are_one_sentence_and_an_exit_code(bench: Bench) -> None:
    cases: list[tuple[Callable[[], object], int, str]] = [
        (lambda: bench.run("endpoints", "retrieve", "endpoint-none"), 3, "found. `roost endpoints list` shows"),
        (lambda: bench.run("endpoints", "create", "--model", "no/such", "--hardware", "1x_cpu"), 3, "no/such"),
        (lambda: bench.run("endpoints", "list", key=9), 4, "authentication"),
        (lambda: bench.run("endpoints", "hardware", key=3), 4, "permission"),
    ]
    for run, code, word in cases:
        result = run()
        assert result.exit_code == code, result.output  # type: ignore[attr-defined]
        text: str = result.stderr  # type: ignore[attr-defined]
        assert text.startswith("Error: ")
        assert word in text
        assert len(text.splitlines()) == 1


def test_nobody_at_the_address_ends_with_6(bench: Bench) -> None:
    bench.transport.failures = [httpx.ConnectError("refused") for _ in range(9)]
    result = bench.run("endpoints", "list")
    assert result.exit_code == 6
    assert "Is it running?" in result.stderr


def test_a_defect_of_the_server_names_the_request(bench: Bench) -> None:
    error = {"error": {"message": "Something broke.", "type": "server_error"}}
    bench.transport.failures = [httpx.Response(500, json=error, headers={"x-request-id": "req-7"}) for _ in range(3)]
    result = bench.run("endpoints", "list")
    assert result.exit_code == 1
    assert result.stderr == "Error: Something broke. (request req-7)\n"
