"""Which server a client talks to, and with which key."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from roost.client.credentials import Credentials, about_refused, choose, find, read
from roost.client.errors import NoKeyKnown, NoServerKnown, NotConfigured
from roost.client.transport import connection_failed

STORED = Credentials("http://127.0.0.1:8080/v1", "stored-key")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ROOST_BASE_URL", "ROOST_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROOST_HOME", str(tmp_path))


def write(home: Path, value: object) -> None:
    (home / "credentials.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("base_url", "api_key", "stored", "chosen"),
    [
        (None, None, None, None),
        (None, None, STORED, STORED),
        ("http://other/v1/", "k", STORED, Credentials("http://other/v1", "k")),
        (None, "k", STORED, Credentials(STORED.base_url, "k")),
        ("http://127.0.0.1:8080", None, STORED, Credentials("http://127.0.0.1:8080", "stored-key")),
        ("http://127.0.0.1:8081/v1", None, STORED, None),
        ("https://127.0.0.1:8080/v1", None, STORED, None),
        (None, "k", None, None),
    ],
)
def test_choose(
    base_url: str | None, api_key: str | None, stored: Credentials | None, chosen: Credentials | None
) -> None:
    assert choose(base_url, api_key, stored) == chosen


def test_the_file_of_the_home_is_found(tmp_path: Path) -> None:
    write(tmp_path, {"base_url": "http://127.0.0.1:9/v1", "api_key": "k"})
    assert find() == Credentials("http://127.0.0.1:9/v1", "k")


def test_the_environment_wins_over_the_file_and_arguments_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"base_url": "http://file/v1", "api_key": "file"})
    monkeypatch.setenv("ROOST_BASE_URL", "http://env/v1")
    monkeypatch.setenv("ROOST_API_KEY", "env")
    assert find() == Credentials("http://env/v1", "env")
    assert find("http://flag/v1") == Credentials("http://flag/v1", "env")


def test_an_explicit_home_is_asked_instead_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(other, {"base_url": "http://other/v1", "api_key": "k"})
    monkeypatch.setenv("ROOST_BASE_URL", "http://env/v1")
    monkeypatch.setenv("ROOST_API_KEY", "env")
    assert find(home=other) == Credentials("http://other/v1", "k")


def test_nothing_known_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoServerKnown, match=r"roost serve.*ROOST_BASE_URL and ROOST_API_KEY"):
        find()


def test_a_key_is_never_sent_to_another_server(tmp_path: Path) -> None:
    write(tmp_path, {"base_url": "http://127.0.0.1:8080/v1", "api_key": "secret"})
    with pytest.raises(NoKeyKnown, match=r"No API key for http://elsewhere/v1.*another server"):
        find("http://elsewhere/v1")


@pytest.mark.parametrize(
    "value", [[], {}, {"base_url": "x"}, {"base_url": 1, "api_key": "k"}, {"base_url": "", "api_key": ""}]
)
def test_an_unusable_file_is_named(tmp_path: Path, value: object) -> None:
    write(tmp_path, value)
    with pytest.raises(NotConfigured, match=r"credentials\.json must hold"):
        find()


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(NotConfigured, match="not valid JSON"):
        read(tmp_path / "credentials.json")


def test_a_broken_file_does_not_disturb_those_who_need_none(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    assert find("http://a/v1", "k") == Credentials("http://a/v1", "k")


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").mkdir()
    with pytest.raises(NotConfigured, match="Cannot read"):
        find()


@pytest.mark.parametrize("base_url", ["127.0.0.1:8080", "ftp://host/v1", "http://", "localhost"])
def test_what_is_no_base_url_is_refused(base_url: str) -> None:
    with pytest.raises(NotConfigured, match="is not a base URL"):
        find(base_url, "k")


def test_a_base_url_without_a_scheme_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_BASE_URL", "127.0.0.1:8080")
    with pytest.raises(NotConfigured, match="http:// is missing"):
        find(api_key="k")


@pytest.mark.parametrize("key", ["a b", "k\n", "schlüssel"])
def test_what_is_no_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(NotConfigured, match="API key") as caught:
        find("http://a/v1", key)
    assert key not in caught.value.message


def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The usual home and that of a sandbox, each with a key for the same address."""
    monkeypatch.delenv("ROOST_HOME")
    monkeypatch.delenv("ROOST_SANDBOX", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    ordinary, toy = tmp_path / ".roost", tmp_path / ".roost-sandbox"
    for home in (ordinary, toy):
        home.mkdir()
        write(home, {"base_url": STORED.base_url, "api_key": home.name})
    return ordinary, toy


def test_a_sandbox_that_refuses_the_ordinary_homes_key_is_told_and_the_reverse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary, toy = homes(tmp_path, monkeypatch)
    used = find()
    told = about_refused(used, sandbox=True)
    assert f"The key is from {ordinary}/credentials.json" in told
    assert "`export ROOST_SANDBOX=1`" in told
    assert about_refused(used, sandbox=False) == f"The key is from {ordinary}/credentials.json."
    monkeypatch.setenv("ROOST_SANDBOX", "1")
    used = find()
    told = about_refused(used, sandbox=False)
    assert f"The key is from {toy}/credentials.json" in told
    assert "`export ROOST_SANDBOX=0`" in told
    assert "export" not in about_refused(used, sandbox=True)


def test_a_refused_key_of_the_environment_or_of_an_option_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_API_KEY", "env")
    assert about_refused(find("http://env/v1"), sandbox=True) == "The key is from ROOST_API_KEY."
    assert about_refused(find("http://env/v1", "k"), sandbox=True) == "The key is from --api-key."


def test_who_cannot_reach_a_sandbox_is_told_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    homes(tmp_path, monkeypatch)
    failure = httpx.ConnectError("refused")
    assert connection_failed(failure, find()).message.endswith("Try `roost serve`.")
    monkeypatch.setenv("ROOST_SANDBOX", "1")
    assert connection_failed(failure, find()).message.endswith("Try `roost serve --sandbox`.")
