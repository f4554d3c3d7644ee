"""The server and the clients of the tests here, and the compatibility table that a run of them makes or checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.server import Server
from tests.spec import lineup, table
from tests.spec.reference import PAGE, Reference
from tests.spec.stage import Stage

from roost.models import catalog
from roost.testing.weights import smollm2_path

assert catalog.SMOLLM2.source is not None
SMOLLM2 = catalog.SMOLLM2.source

PROJECT = Path(__file__).parents[2]
TABLE = PROJECT / "docs" / "reference" / "compatibility.md"
MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
HARDWARE = "4x_nvidia_h100_80gb_sxm"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("spec")
    group.addoption("--reference", type=Path, default=PAGE, help="The API reference whose code blocks are run.")
    group.addoption("--write-table", action="store_true", help="Write the compatibility table instead of checking it.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "feature(name): a row of the compatibility table")
    config.addinivalue_line("markers", "kind(name): run once for each code block of this kind")
    config.pluginmanager.register(Findings(config), "findings")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with a ``feature`` run with each client that offers it; ``block`` and ``row`` are the reference's."""
    reference = Reference.read(metafunc.config.getoption("reference"))
    mark = metafunc.definition.get_closest_marker("feature")
    if mark is not None and "client" in metafunc.fixturenames:
        those = [client for client in lineup.CLIENTS if lineup.offers(client, mark.args[0])]
        metafunc.parametrize("client", those, indirect=True, ids=[client.title for client in those])
    kind = metafunc.definition.get_closest_marker("kind")
    if kind is not None:
        blocks = [block for block in reference.blocks if block.kind == kind.args[0]]
        metafunc.parametrize("block", blocks, ids=[block.title for block in blocks])
    if "row" in metafunc.fixturenames:
        metafunc.parametrize("row", reference.rows, ids=[f"{row.heading}: {row.name}" for row in reference.rows])


class Findings:
    """Collects what each client was found to do, in the controlling process of a run; then writes or compares."""

    def __init__(self, config: pytest.Config) -> None:
        self.write = bool(config.getoption("write_table"))
        self.found: dict[tuple[str, str], list[str]] = {}
        self.wrong: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Reports travel from the workers with the cell that they are about."""
        report = yield
        mark = item.get_closest_marker("feature")
        callspec = getattr(item, "callspec", None)
        if report.when == "call" and mark is not None and callspec is not None and "client" in callspec.params:
            report.user_properties.append(("cell", [mark.args[0], callspec.params["client"].title]))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == "cell" and isinstance(value, list) and report.when == "call":
                expected_failure = report.skipped and hasattr(report, "wasxfail")
                if report.skipped and not expected_failure:
                    continue
                self.found.setdefault((value[0], value[1]), []).append("yes" if report.passed else "no")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.found or hasattr(session.config, "workerinput"):
            return
        cells = {cell: table.worst(outcomes) for cell, outcomes in self.found.items()}
        page = TABLE.read_text()
        if self.write:
            titles = [client.title for client in lineup.CLIENTS]
            absent = {
                (feature, client.title): table.NOT_OFFERED
                for feature in lineup.FEATURES
                for client in lineup.CLIENTS
                if not lineup.offers(client, feature)
            }
            # What was not run this time stays as it was found before.
            cells = table.read(page) | absent | cells
            TABLE.write_text(table.replaced(page, table.rendered(cells, list(lineup.FEATURES), titles)))
            return
        committed = table.read(page)
        self.wrong = [
            f"{feature} with {client}: the table says {committed.get((feature, client))}, this run {outcome}"
            for (feature, client), outcome in cells.items()
            if committed.get((feature, client)) != outcome
        ]
        if self.wrong and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.wrong:
            terminalreporter.section("docs/reference/compatibility.md is out of date: make compatibility")
            for line in self.wrong:
                terminalreporter.line(line)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A sandbox: declared GPUs, the reference's model names, and a small real model behind them."""
    cache = Path(os.environ.get("ROOST_TEST_CACHE") or PROJECT / ".cache").absolute()
    smollm2_path(cache)
    scratch = tmp_path_factory.mktemp("clients")
    with Server(tmp_path_factory.mktemp("spec") / "home", "--sandbox", weights=cache / "models") as server:
        yield Stage(server, scratch, MODEL, HARDWARE)


@pytest.fixture(autouse=True)
def _swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test finds another's endpoints."""
    yield
    if "stage" in request.fixturenames:
        stage: Stage = request.getfixturevalue("stage")
        stage.sweep()


@pytest.fixture
def stopped(stage: Stage) -> dict[str, Any]:
    """A new endpoint that does not run."""
    return stage.settled(display_name="Before")


@pytest.fixture(scope="session")
def running(stage: Stage) -> dict[str, Any]:
    """An endpoint that is STARTED, for all tests of a process."""
    endpoint = stage.made(state="STARTED", inactive_timeout=None)
    stage.kept.add(endpoint["id"])
    return stage.server.wait_state(endpoint["id"], "STARTED", 120)


@pytest.fixture(scope="session")
def embedding(stage: Stage) -> dict[str, Any]:
    """An endpoint that is STARTED and makes embeddings, with the same weights."""
    source = {"kind": SMOLLM2.kind, "location": SMOLLM2.location, "member": SMOLLM2.member, "sha256": SMOLLM2.sha256}
    entry = {"id": "test/embed", "engine": "llama_cpp", "type": "embedding", "context_length": 512, "source": source}
    added = stage.ask("POST", "/models", json=entry)
    assert added.status_code in (200, 201), added.text
    endpoint = stage.made(model="test/embed", hardware="1x_cpu", state="STARTED", inactive_timeout=None)
    stage.kept.add(endpoint["id"])
    return stage.server.wait_state(endpoint["id"], "STARTED", 120)


Opened = Callable[..., Any]


@pytest.fixture(scope="session")
def opened(stage: Stage) -> Iterator[Opened]:
    """Gives the one client of a class and key; fails, or skips outside CI, where it cannot be run."""
    clients: dict[tuple[Any, str | None], Any] = {}

    def get(kind: Any, key: str | None = None) -> Any:
        obstacle = lineup.obstacle(kind)
        if obstacle is not None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(obstacle)
        if (kind, key) not in clients:
            clients[kind, key] = kind(stage, key)
        return clients[kind, key]

    yield get
    for client in clients.values():
        client.close()


@pytest.fixture
def client(request: pytest.FixtureRequest, opened: Opened) -> Any:
    """The client that the test is run with."""
    return opened(request.param)
