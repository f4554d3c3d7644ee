from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.models.partial import empty, folder_name, held, remove


async def test_left_overs_stay_for_the_same_source_only(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    async with held(folder, "one"):
        (folder / "part").write_bytes(b"x")
        (folder / "deep").mkdir()
    async with held(folder, "one"):
        assert (folder / "part").exists()
    async with held(folder, "two"):
        assert not (folder / "part").exists()
        assert not (folder / "deep").exists()


async def test_one_holder_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    order: list[str] = []

    async def second() -> None:
        async with held(folder, "one"):
            order.append("second")

    async with held(folder, "one"):
        task = asyncio.create_task(second())
        await asyncio.sleep(0)
        order.append("first")
        remove(folder)  # as after a success: the one who waits must not hold a folder that is gone
    await asyncio.wait_for(task, 20)
    assert order == ["first", "second"]
    assert folder.exists()


async def test_a_cancelled_wait_holds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "f"

    async def wait() -> None:
        async with held(folder, "one"):
            pytest.fail("it is held by another")

    async with held(folder, "one"):
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    async with asyncio.timeout(20), held(folder, "one"):
        assert task.cancelled()


async def test_emptying_never_follows_links(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x")
    async with held(tmp_path / "f", "one") as folder:
        (folder / "link").symlink_to(precious)
        empty(folder)
        assert not (folder / "link").exists()
    assert (precious / "file").exists()


@given(st.text(max_size=300), st.text(max_size=300))
def test_folder_names_are_safe_and_differ(one: str, other: str) -> None:
    name = folder_name(one)
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) < 100
    assert name.isascii()
    assert (name == folder_name(other)) == (one == other)
