"""Where a replica's files are."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from roost.domain.errors import InvalidSettings
from roost.runtimes.local_paths import MAX_SOCKET_PATH, LocalPaths, is_safe_id


def test_sockets_of_a_short_home_are_in_it() -> None:
    paths = LocalPaths(Path("/home/user/.roost")).replica("replica-0123456789ab")
    assert paths.record == Path("/home/user/.roost/run/replicas/replica-0123456789ab.json")
    assert paths.lock.parent == paths.engine_socket.parent == paths.control_socket.parent == paths.record.parent
    assert paths.log == Path("/home/user/.roost/logs/replica-0123456789ab.log")


def test_sockets_of_a_long_home_are_in_a_folder_of_their_own() -> None:
    homes = [LocalPaths(Path("/" + "x" * 90)), LocalPaths(Path("/" + "y" * 90))]
    folders = {home.replica("replica-0123456789ab").engine_socket.parent for home in homes}
    assert len(folders) == 2
    for folder in folders:
        assert folder.parent == Path(tempfile.gettempdir())
        assert str(os.getuid()) in folder.name
        assert len(os.fsencode(folder / "replica-0123456789ab.sock")) <= MAX_SOCKET_PATH


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    home = LocalPaths(tmp_path / ("x" * 90))
    home.fallback.mkdir(mode=0o755)
    home.fallback.chmod(0o755)
    try:
        with pytest.raises(InvalidSettings, match="not a private folder"):
            home.prepare_fallback(home.replica("replica-1"))
    finally:
        home.fallback.rmdir()


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    home = LocalPaths(tmp_path / ("x" * 90))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    home.fallback.symlink_to(tmp_path / "elsewhere")
    try:
        with pytest.raises(InvalidSettings, match="not a private folder"):
            home.prepare_fallback(home.replica("replica-1"))
    finally:
        home.fallback.unlink()


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSettings, match="Cannot make the folder"):
        LocalPaths(tmp_path / "file" / "home").prepare()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", ".x", "x" * 65, "a b", "a\0"])
def test_ids_that_are_no_file_names(name: str) -> None:
    assert not is_safe_id(name)


def test_ids_that_are() -> None:
    assert is_safe_id("replica-0123456789ab")
