"""What each condition of a machine means, and what is said to do about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from roost.policy.diagnosis import (
    GIB,
    Credentials,
    Database,
    Engine,
    Facts,
    Home,
    Index,
    Outcome,
    Server,
    System,
    Weights,
    diagnose,
    worst,
)

SYSTEM = System(
    python=(3, 11, 2),
    platform="linux",
    proc=True,
    pidfd=True,
    pdeathsig=True,
    cores=4,
    core_quota=None,
    memory=16 * GIB,
    memory_limit=None,
    open_files=65536,
    now=datetime(2026, 11, 1, tzinfo=UTC),
)
HOME = Home("/h", exists=True, problem=None, mode=0o700, free=100 * GIB, socket_spare=60)
SERVER = Server(pid=7, version="1.2.3", gateways=(9,), control=8, problem=None)
DATABASE = Database("the database /h/roost.db", "0003", "0003")
CREDENTIALS = Credentials("/h/credentials.json", exists=True)
WEIGHTS = Weights(models=2, size=3_000_000_000)
GOOD = Facts(
    system=SYSTEM,
    home=HOME,
    settings=None,
    host="127.0.0.1",
    port=8080,
    port_problem=None,
    workers=1,
    connections=10_000,
    engines=(Engine("echo", "1.2.3", None),),
    database=DATABASE,
    server=None,
    credentials=CREDENTIALS,
    weights=WEIGHTS,
)


def of(part: str, **changes: Any) -> Facts:
    """The good facts with another value of a part, or of a field of the facts."""
    whole = getattr(GOOD, part)
    return replace(GOOD, **{part: replace(whole, **changes)})


def finding(facts: Facts, check: str) -> tuple[str, str, str | None]:
    (found,) = (item for item in diagnose(facts) if item.check == check)
    return found.outcome.value, found.message, found.fix


def test_a_good_machine_has_nothing_to_mend() -> None:
    findings = diagnose(GOOD)
    assert {item.outcome for item in findings} == {Outcome.OK}
    assert all(item.fix is None for item in findings)
    assert len({item.check for item in findings}) == len(findings)


OK, WARNING, FAILURE = "ok", "warning", "failure"


@pytest.mark.parametrize(
    ("facts", "check", "outcome", "words"),
    [
        (of("system", python=(3, 10, 9)), "python", FAILURE, "3.10.9"),
        (of("system", platform="darwin"), "system", FAILURE, "darwin"),
        (of("system", pdeathsig=False, pidfd=False), "system", FAILURE, "pidfds, PDEATHSIG"),
        (of("system", now=datetime(2020, 1, 1, tzinfo=UTC)), "clock", FAILURE, "2020-01-01"),
        (of("system", clock_ahead_s=-300.0), "clock", WARNING, "300 s behind"),
        (of("system", clock_ahead_s=59.0), "clock", OK, "2026"),
        (of("system", core_quota=0.5), "cores", WARNING, "0.5 of a core"),
        (of("system", core_quota=2.0), "cores", OK, "4, of which the cgroup allows 2"),
        (of("system", memory_limit=GIB), "memory", WARNING, "1.0 GiB (the cgroup's limit)"),
        (of("system", memory_limit=1 << 50), "memory", OK, "16.0 GiB"),
        (of("system", open_files=1024), "open files", WARNING, "carries 418 client connections, not 10000"),
        (of("system", open_files=21_096), "open files", OK, "21096 per process"),
        (of("system", open_files=None), "open files", OK, "no limit"),
        (of("system", gpus=("NVIDIA H100",)), "gpus", OK, "NVIDIA H100"),
        (of("home", problem="/h is not a folder"), "home", FAILURE, "not a folder"),
        (of("home", socket_spare=-3), "home", FAILURE, "3 bytes too long"),
        (of("home", mode=0o777), "home", WARNING, "mode 777"),
        (of("home", exists=False, mode=None), "home", OK, "made by the first"),
        (of("home", free=GIB // 4), "disk", FAILURE, "0.2 GiB free"),
        (of("home", free=2 * GIB), "disk", WARNING, "2.0 GiB free"),
        (replace(GOOD, settings="port must be a number."), "settings", FAILURE, "port must be"),
        (replace(GOOD, engines=(Engine("x", None, "It needs y; install it."),)), "engine x", WARNING, "It needs y."),
        (replace(GOOD, port_problem="Port 8080 is held by nginx (pid 3)."), "port", FAILURE, "nginx"),
        (replace(GOOD, server=SERVER, port_problem="unused"), "port", OK, "this home's server"),
        (replace(GOOD, port=0), "port", OK, "any free one"),
        (of("database", problem="It cannot be reached."), "database", FAILURE, "cannot be reached"),
        (of("database", schema="0002"), "database", WARNING, "schema 0002, the newest is 0003"),
        (of("database", schema="0004"), "database", FAILURE, "knows up to 0003"),
        (of("database", schema=None), "database", OK, "made by the first"),
        (replace(GOOD, server=SERVER), "server", OK, "control plane 8, gateways 9"),
        (replace(GOOD, server=replace(SERVER, problem="draining")), "server", FAILURE, "draining"),
        (replace(GOOD, left=1), "server", WARNING, "1 replica of an earlier server runs"),
        (replace(GOOD, left=2), "server", WARNING, "2 replicas of an earlier server run"),
        (of("database", shown="The database file /h/roost.db"), "database", OK, "/h/roost.db, schema"),
        (of("credentials", problem="It is not JSON."), "credentials", FAILURE, "not JSON"),
        (of("credentials", exists=False), "credentials", OK, "is written by the first"),
        (of("credentials", private=False), "credentials", WARNING, "Other users can read"),
        (of("credentials", accepted=False), "credentials", FAILURE, "does not accept"),
        (of("credentials", untrusted="https://h/v1"), "credentials", WARNING, "certificate of https://h/v1"),
        (of("credentials", accepted=True), "credentials", OK, "key accepted"),
        (of("weights", damaged=("a/b",)), "weights", WARNING, "a/b are gone or were changed"),
        (of("weights", quota=2_000_000_000), "weights", WARNING, "3.0 GB of 2.0 GB: over the quota"),
        (of("weights", problem="Unreadable."), "weights", FAILURE, "Unreadable"),
        (replace(GOOD, index=Index("https://i/", "no route")), "index", WARNING, "no route"),
        (replace(GOOD, index=Index("https://i/")), "index", OK, "answers"),
    ],
)
def test_each_condition_has_its_outcome(facts: Facts, check: str, outcome: str, words: str) -> None:
    found, message, fix = finding(facts, check)
    assert (found, words in message) == (outcome, True), message
    assert (fix is None) == (outcome == OK), "what is wrong can be mended, what is not needs nothing"
    assert worst(diagnose(facts)).value == outcome


def test_no_port_is_judged_while_the_settings_cannot_be_read() -> None:
    facts = replace(GOOD, settings="no TOML", port_problem="Port 8080 is held by nginx (pid 3).")
    assert finding(facts, "port")[:2] == (WARNING, "Which port is not known while the settings cannot be read.")


def test_a_server_without_a_credentials_file_is_worth_a_warning() -> None:
    facts = replace(of("credentials", exists=False), server=SERVER)
    assert finding(facts, "credentials")[0] == WARNING


def test_what_was_not_looked_at_is_not_spoken_of() -> None:
    checks = {item.check for item in diagnose(replace(GOOD, database=None, weights=None, index=None))}
    assert checks.isdisjoint({"database", "weights", "index"})


def test_no_finding_is_a_good_end() -> None:
    assert worst([]) is Outcome.OK
