"""Settings: where they come from, what they refuse, and that the documentation names each of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from roost import config
from roost.config import HardwarePrice, Settings
from roost.domain.errors import InvalidSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("ROOST_")]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


def test_flags_beat_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('port = 1\nzone = "file"\nowner = "file"\n')
    os.environ["ROOST_PORT"] = "2"
    os.environ["ROOST_ZONE"] = "environment"
    settings = config.load(home=tmp_path, port=3)
    assert (settings.port, settings.zone, settings.owner, settings.host) == (3, "environment", "file", "127.0.0.1")


def test_the_home_comes_from_the_environment(tmp_path: Path) -> None:
    os.environ["ROOST_HOME"] = str(tmp_path)
    assert config.load().home == tmp_path
    assert config.load().database == f"sqlite:///{tmp_path / 'roost.db'}"


def test_settings_survive_the_way_to_a_child(tmp_path: Path) -> None:
    settings = config.load(home=tmp_path, port=5)
    settings = config.replace(settings, hardware={"cpu": HardwarePrice(cents_per_minute=1.5)})
    assert Settings.parse(settings.dump()) == settings


def test_hardware_prices(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[hardware.cpu]\ncents_per_minute = 0.5\ngpu_type = "epyc"\n')
    assert config.load(home=tmp_path).hardware == {"cpu": HardwarePrice(0.5, "epyc")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "prot"),
        ('port = "many"', "port"),
        ("port = 70000", "port"),
        ("port = true", "port"),
        ("gateway_workers = 0", "gateway_workers"),
        ("gateway_workers = 1.5", "gateway_workers"),
        ('log_level = "loud"', "log_level"),
        ('sandbox = "perhaps"', "sandbox"),
        ('runtime = "sandbox"', "--sandbox"),
        ('sandbox = true\nruntime = "local"', "--sandbox"),
        ("[hardware.cpu]\nprice = 1", "price"),
        ("[hardware]\ncpu = 1", "cpu"),
        ("not toml", "TOML"),
        ('engine_env = "A B"', "engine_env"),
        ('engine_env = "*"', "engine_env"),
        ('engine_env = "ROOST_HOME"', "engine_env"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(InvalidSettings, match=words):
        config.load(home=tmp_path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"none\.toml"):
        config.load(home=tmp_path, config=tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["true", "1", "on", "Yes"])
def test_a_switch_can_be_written_in_the_usual_ways(tmp_path: Path, text: str) -> None:
    os.environ["ROOST_SANDBOX"] = text
    settings = config.load(home=tmp_path)
    assert (settings.sandbox, settings.runtime) == (True, "sandbox")
    ordinary = config.load(home=tmp_path, sandbox=False)
    assert (ordinary.sandbox, ordinary.runtime) == (False, "local")
    assert Settings.parse(settings.dump()) == settings


def test_a_sandbox_has_a_home_of_its_own_unless_one_is_named(tmp_path: Path) -> None:
    os.environ["HOME"] = str(tmp_path)
    assert config.load().home == tmp_path / ".roost"
    assert config.load(sandbox=True).home == tmp_path / ".roost-sandbox"
    assert config.load(home=tmp_path / "mine", sandbox=True).home == tmp_path / "mine"
    os.environ["ROOST_SANDBOX"] = "1"
    assert config.load().home == tmp_path / ".roost-sandbox"
    os.environ["ROOST_HOME"] = str(tmp_path / "other")
    assert config.load().home == tmp_path / "other"


def test_commands_find_the_sandbox_where_there_is_nothing_else_or_where_they_are_told(tmp_path: Path) -> None:
    os.environ["HOME"] = str(tmp_path)
    own, sandbox = tmp_path / ".roost", tmp_path / ".roost-sandbox"
    assert config.known_home() == own
    for home in (sandbox, own):
        home.mkdir()
        (home / "credentials.json").touch()
        assert config.known_home() == home
    os.environ["ROOST_SANDBOX"] = "1"
    assert config.known_home() == sandbox
    assert config.known_home(tmp_path / "mine") == tmp_path / "mine"
    os.environ["ROOST_SANDBOX"] = "0"
    (own / "credentials.json").unlink()
    assert config.known_home() == own


def test_an_empty_secret_is_no_secret() -> None:
    os.environ["ROOST_TEST_SECRET"] = ""
    assert config.secret("ROOST_TEST_SECRET") is None


def test_engines_inherit_what_says_how_programs_run_and_what_is_named() -> None:
    os.environ.clear()
    usual = (
        "PATH",
        "LC_ALL",
        "PYTHONPATH",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "https_proxy",
        "VLLM_CACHE_ROOT",
    )
    secret = ("MYKEY", "VLLM_API_KEY", "HF_TOKEN", "PIP_INDEX_URL", "PGPASSWORD", "ROOST_API_KEY", "ROOST_DATABASE_URL")
    os.environ.update(dict.fromkeys((*usual, *secret, "MINE_A", "MINE_B", "PATHS"), "1"))

    assert config.engine_environment().keys() == set(usual)
    named = config.load(home=Path("/nowhere"), engine_env="MINE_*, VLLM_API_KEY").engine_variables
    assert config.engine_environment(named).keys() == {*usual, "MINE_A", "MINE_B", "VLLM_API_KEY"}
    assert not [name for name in config.engine_environment(("R*", "RO*")) if name.startswith("ROOST_")]


def test_the_documentation_lists_what_engines_inherit() -> None:
    text = (DOCUMENT.parent / "engines.md").read_text().split("## What engines inherit")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([A-Z_*]+)`", text.split("of these, none")[0]))
    assert listed == {item for item in config.ENGINE_VARIABLES if item.isupper()}


def test_the_documentation_lists_every_setting_and_no_other() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text().split("## The home")[0], re.MULTILINE))
    assert listed == {field.name for field in fields(Settings)}
