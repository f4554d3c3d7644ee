"""Records and locks on disk, messages on the wire."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.domain.hardware import Resources
from roost.domain.launch import LaunchSpec, ProcessSpec
from roost.domain.replica import ExitInfo, RuntimeState
from roost.runtimes import local_records
from roost.runtimes.supervision import protocol, record

RAW = {
    "format": 1,
    "replica_id": "replica-1",
    "endpoint_id": "endpoint-1",
    "installation": "installation-1",
    "nonce": "cafe",
    "node_id": "node-1",
    "address": "unix:/x.sock",
    "control_socket": "/x.ctl",
    "log": "/x.log",
    "resources": {"threads": 1, "memory_bytes": 2, "accelerators": 0},
    "spec_digest": "00",
    "supervisor_pid": 10,
    "supervisor_started": 100,
    "boot_id": "boot",
    "engine_pid": None,
    "engine_started": None,
    "started": 1000.5,
    "state": "STARTING",
    "exit": None,
    "field of a later version": 1,
}


def test_a_record_is_private_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "replica-1.json"
    assert record.read(str(path)) is None
    record.write(str(path), RAW, durable=False)
    inode = path.stat().st_ino
    record.write(str(path), {**RAW, "state": "READY"}, durable=True)
    assert path.stat().st_ino != inode
    assert path.stat().st_mode & 0o777 == 0o600
    assert record.read(str(path)) == {**RAW, "state": "READY"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_record_that_cannot_be_replaced_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "replica-1.json"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        record.write(str(path), RAW, durable=False)
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    path = str(tmp_path / "replica-1.lock")
    first = record.lock(path)
    assert first is not None
    assert record.lock(path) is None
    os.close(first)
    second = record.lock(path)
    assert second is not None
    os.close(second)


def test_records_become_domain_values() -> None:
    parsed = local_records.parse(RAW)
    assert parsed.state is RuntimeState.STARTING
    assert parsed.resources == Resources(threads=1, memory_bytes=2)
    assert parsed.marker == "replica-1/cafe"
    assert parsed.started.timestamp() == 1000.5
    ended = local_records.parse({**RAW, "exit": {"code": 1, "signal": None, "cause": None, "log_tail": ["x"]}})
    assert ended.exit == ExitInfo(code=1, log_tail=("x",))


@pytest.mark.parametrize("field", ["nonce", "state", "resources", "started", "exit"])
def test_a_record_without_a_field_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        local_records.parse({name: value for name, value in RAW.items() if name != field})


@pytest.mark.parametrize(("field", "value"), [("state", "ASLEEP"), ("resources", {"cores": 1}), ("started", "noon")])
def test_a_record_with_nonsense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError):
        local_records.parse({**RAW, field: value})


def test_a_supervisor_s_end_is_written_for_it(tmp_path: Path) -> None:
    path = tmp_path / "replica-1.json"
    local_records.write_exit(path, RAW, ExitInfo(cause="its supervisor died", log_tail=("x",)))
    found = local_records.read(path)
    assert found is not None
    assert (found.state, found.exit) == (RuntimeState.EXITED, ExitInfo(cause="its supervisor died", log_tail=("x",)))


def test_the_digest_tells_specs_apart_and_knows_no_secret() -> None:
    one = ProcessSpec(("engine",), {"A": "1"}, {"KEY": "x"})
    spec = LaunchSpec("endpoint-1", (one,), Resources(threads=1), "cpu")
    other_secret = replace(spec, processes=(replace(one, secrets={"KEY": "y"}),))
    other_env = replace(spec, processes=(replace(one, env={"A": "2"}),))
    assert local_records.digest(spec) == local_records.digest(other_secret) != local_records.digest(other_env)


@given(parts=st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20)), max_size=5))
def test_messages_survive_any_text(parts: list[dict[str, object]]) -> None:
    buffer = bytearray(b"".join(protocol.encode("status", record=part) for part in parts))
    buffer += b'{"cut'
    messages = [protocol.decode(line) for line in protocol.split(buffer)]
    assert [message["record"] for message in messages] == parts
    assert buffer == b'{"cut'


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b"{", b"\xff"])
def test_what_is_not_a_message_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        protocol.decode(line)
