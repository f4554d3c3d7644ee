"""The example of an engine plug-in is found by its entry point and keeps the contract, without being installed."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.domain.errors import LaunchRefused
from roost.engines.base import Engine
from roost.engines.registry import engine, names
from roost.testing.builders import make_model
from roost.testing.engine_contract import EngineCase, EngineContract, make_launch_request
from roost.testing.engine_process import EngineEnded, start_engine

EXAMPLE = Path(__file__).parents[2] / "examples" / "engine_plugin"
MODEL = make_model(engine="static", source=None, options={"answer": "You said so: I am always right, as you know."})


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine as the registry finds it: beside the module lie the entry points that an installer would write."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    written = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    written.mkdir()
    (written / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"]["roost.engines"]
    lines = [f"{name} = {target}\n" for name, target in points.items()]
    (written / "entry_points.txt").write_text("[roost.engines]\n" + "".join(lines))
    folders = [str(site), str(EXAMPLE)]
    sys.path[:0] = folders
    engine.cache_clear()
    names.cache_clear()
    try:
        yield engine("static")
    finally:
        for folder in folders:
            sys.path.remove(folder)
        sys.modules.pop("roost_engine_static", None)
        engine.cache_clear()
        names.cache_clear()


class TestStaticEngine(EngineContract):
    @pytest.fixture
    def case(self, static: Engine) -> EngineCase:
        # All that can go wrong with it is its address, so the case of a failed start is overridden below.
        return EngineCase(static, make_launch_request(MODEL), broken=make_launch_request(MODEL))

    async def test_a_failed_start_is_explained(self, case: EngineCase, folder: Path) -> None:
        with pytest.raises(EngineEnded) as ended:
            await start_engine(case.engine.build(case.broken), folder / "nowhere" / "e.sock", 20.0)
        assert case.engine.explain(ended.value.exit).code == "port_in_use"

    def test_an_entry_without_an_answer_is_refused(self, case: EngineCase) -> None:
        with pytest.raises(LaunchRefused, match="answer"):
            case.engine.build(make_launch_request(make_model(engine="static", source=None)))
