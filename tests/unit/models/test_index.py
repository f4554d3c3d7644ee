from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest

from roost.models.index import Entry, Index


def entry_of(root: Path, name: str = "a", content: bytes = b"abc") -> Entry:
    path = root / "blobs" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content)
    status = path.stat()
    return Entry("mark", name, str(path), status.st_size, status.st_mtime_ns)


def test_entries_come_back(tmp_path: Path) -> None:
    index = Index(tmp_path)
    assert index.read() == {}
    blob, own = entry_of(tmp_path), replace(entry_of(tmp_path, "b"), in_place=True)
    index.put("one", blob)
    index.put("two", own)
    assert Index(tmp_path).read() == {"one": blob, "two": own}
    index.drop("one")
    index.drop("one")
    assert list(index.read()) == ["two"]


def test_a_file_that_is_gone_gets_no_entry(tmp_path: Path) -> None:
    blob = entry_of(tmp_path)
    os.unlink(blob.path)
    with pytest.raises(FileNotFoundError):
        Index(tmp_path).put("one", blob)
    assert Index(tmp_path).read() == {}


def test_fields_of_a_newer_release_are_ignored(tmp_path: Path) -> None:
    index = Index(tmp_path)
    blob = entry_of(tmp_path)
    index.put("one", blob)
    path = tmp_path / "index.json"
    path.write_text(path.read_text().replace('"source"', '"hue": "blue", "source"'))
    assert index.read() == {"one": blob}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "models": {"a": {}}}'])
def test_a_damaged_file_counts_as_empty_and_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    index = Index(tmp_path)
    assert index.read() == {}
    index.put("one", entry_of(tmp_path))
    assert list(index.read()) == ["one"]


def test_a_file_is_intact_until_it_is_touched(tmp_path: Path) -> None:
    entry = entry_of(tmp_path)
    assert entry.intact()
    os.utime(entry.path, (1, 1))
    assert not entry.intact()
    os.utime(entry.path, ns=(entry.mtime_ns, entry.mtime_ns))
    assert entry.intact()
    os.unlink(entry.path)
    assert not entry.intact()


def _put_many(root: Path, name: str) -> None:
    entry = entry_of(root, name)
    for number in range(20):
        Index(root).put(f"{name}-{number}", replace(entry, size=number))


def test_processes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put_many, args=(tmp_path, name)) for name in ("x", "y")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(Index(tmp_path).read()) == 40
