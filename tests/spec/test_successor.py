"""The newest ``together`` has dropped this API: whoever installs it is told what to do. And what clients lack is so."""

from __future__ import annotations

import pytest
from tests.spec import commanded, driven, lineup, published, table
from tests.spec.conftest import TABLE, Opened
from tests.spec.driven import Refused
from tests.spec.stage import Stage


def test_the_newest_python_sdk_is_told_which_one_to_use(stage: Stage, opened: Opened) -> None:
    client = opened(driven.Successor)
    with pytest.raises(Refused, match="use together<3") as caught:
        client.call("endpoints.create", name="mine", project_id="roost")
    assert (caught.value.kind, caught.value.status) == ("NotFoundError", 404)
    with pytest.raises(Refused, match="use together<3"):
        client.call("endpoints.retrieve", "endpoint-none", project_id="roost")


class SuccessorCommand(commanded.Commanded):
    """The newest command line."""

    title = f"together {published.SUCCESSOR.version} CLI"
    package = published.SUCCESSOR

    def program(self) -> list[str]:
        return [str(published.SUCCESSOR.bin / "together")]


def test_the_newest_command_line_is_told_which_one_to_use(stage: Stage, opened: Opened) -> None:
    with pytest.raises(Refused, match="use together<3"):
        opened(SuccessorCommand).run("endpoints", "ls")


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        (driven.AsyncClassic, ["endpoints.create"]),
        (driven.Classic, ["endpoints.adapters.list", "whoami"]),
        (driven.OpenAI, ["endpoints.create", "hardware.list", "whoami"]),
        (driven.OpenAINode, ["endpoints.create", "hardware.list", "whoami"]),
    ],
)
def test_what_a_library_is_said_to_lack_is_not_there(
    kind: type[driven.Driven], paths: list[str], opened: Opened
) -> None:
    for path in paths:
        with pytest.raises(Refused) as caught:
            opened(kind).call(path)
        assert caught.value.kind in ("AttributeError", "TypeError")
        assert caught.value.status is None


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (commanded.TogetherCommand, ("chat",)),
        (commanded.TogetherCommand, ("completions",)),
        (commanded.ClassicCommand, ("endpoints", "adapters")),
        (commanded.ClassicCommand, ("whoami",)),
    ],
)
def test_what_a_command_line_is_said_to_lack_is_not_there(
    kind: type[commanded.Commanded], arguments: tuple[str, ...], opened: Opened
) -> None:
    with pytest.raises(Refused, match=r"(?i)no such command|unknown command"):
        opened(kind).run(*arguments)


def test_the_table_is_full_and_says_what_is_not_offered() -> None:
    cells = table.read(TABLE.read_text())
    wanted = {
        (feature, client.title): lineup.offers(client, feature)
        for feature in lineup.FEATURES
        for client in lineup.CLIENTS
    }
    assert set(cells) == set(wanted)
    assert {cell for cell, offered in wanted.items() if not offered} == {
        cell for cell, text in cells.items() if text == table.NOT_OFFERED
    }
    assert set(cells.values()) <= {"yes", "no", table.NOT_OFFERED}


def test_every_feature_is_offered_by_somebody() -> None:
    for feature in lineup.FEATURES:
        assert any(lineup.offers(client, feature) for client in lineup.CLIENTS), feature
