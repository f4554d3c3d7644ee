"""What only the local runtime has: records, supervisors, sockets, other installations. Real processes, real kills."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.contract.local_world import WORLD, LocalWorld, gone

from roost.domain.launch import LISTEN, OutputRule, ProcessSpec
from roost.domain.replica import RuntimeState
from roost.runtimes.base import RuntimeSettings
from roost.runtimes.local import LocalRuntime
from roost.runtimes.supervision import process
from roost.runtimes.supervision import record as record_file
from roost.runtimes.supervision.complaint import MAX_FILE_BYTES
from roost.testing.runtime_contract import GONE, GRACE, NO_GRACE, PATIENCE_S, THREADS, UP, free_threads, reach, spec


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LocalWorld]:
    world = LocalWorld(tmp_path / "home")
    yield world
    await world.close()


def script(code: str, env: dict[str, str] | None = None, secrets: dict[str, str] | None = None) -> ProcessSpec:
    return ProcessSpec((sys.executable, "-I", "-S", "-c", code), env or {}, secrets or {})


async def test_the_record_tells_what_is_needed_and_no_secret(world: LocalWorld) -> None:
    runtime = await world.open()
    one = replace(spec().processes[0], env={"SHOWN": "at {listen}"}, secrets={"TOKEN": "hush-hush"})
    await runtime.launch(replace(spec(), processes=(one,)), "replica-1")
    status = await reach(world, runtime, "replica-1", UP)
    record = world.record("replica-1")
    assert (record["engine_pid"],) == status.pids
    assert record["supervisor_pid"] in {one.pid for one in world.alive()}
    assert status.started_at is not None
    assert record["started"] == pytest.approx(status.started_at.timestamp(), abs=1e-3)
    assert (record["installation"], record["endpoint_id"], record["state"]) == (
        "installation-1",
        "endpoint-1",
        "READY",
    )
    assert record["address"] == status.address
    assert len(record["nonce"]) == 32
    assert (world.home / "run/replicas/replica-1.json").stat().st_mode & 0o777 == 0o600
    for folder in ("run", "run/replicas", "logs"):
        assert (world.home / folder).stat().st_mode & 0o777 == 0o700
    for path in world.home.rglob("*"):
        if path.is_file():
            assert b"hush-hush" not in path.read_bytes()
    environment = Path(f"/proc/{record['engine_pid']}/environ").read_bytes()
    assert b"TOKEN=hush-hush" in environment
    assert f"SHOWN=at {status.address}".encode() in environment
    supervisor = Path(f"/proc/{record['supervisor_pid']}")
    assert b"hush-hush" not in (supervisor / "environ").read_bytes() + (supervisor / "cmdline").read_bytes()
    assert str(world.home).encode() in (supervisor / "cmdline").read_bytes()


async def test_secrets_of_the_server_are_not_inherited_by_engines(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROOST_API_KEY", "HF_TOKEN", "PIP_INDEX_URL", "MYKEY"):
        monkeypatch.setenv(name, "hush-hush")
    monkeypatch.setenv("OTHER", "kept")
    monkeypatch.setenv(WORLD, world.mark)
    settings = replace(world.settings, engine_env=(WORLD, "OTHER"))
    runtime = LocalRuntime(settings, resources=world.resources)
    world.runtimes.append(runtime)
    await runtime.start()

    await runtime.launch(spec(), "replica-1")

    (pid,) = (await reach(world, runtime, "replica-1", UP)).pids
    for each in (pid, world.record("replica-1")["supervisor_pid"]):
        environment = Path(f"/proc/{each}/environ").read_bytes()
        assert b"hush-hush" not in environment
        assert b"OTHER=kept" in environment


async def test_two_runtimes_that_launch_one_id_start_one_process(world: LocalWorld) -> None:
    first, second = await world.open(), await world.open()
    await asyncio.gather(first.launch(spec(), "replica-1"), second.launch(spec(), "replica-1"))
    one, other = await reach(world, first, "replica-1", UP), await reach(world, second, "replica-1", UP)
    assert one == other
    assert await world.processes("replica-1") == 1
    await second.stop("replica-1", GRACE)
    assert (await gone(world, first, "replica-1")).cause == "stopped"


async def test_an_id_that_ended_under_another_runtime_is_not_launched_again(world: LocalWorld) -> None:
    first, second = await world.open(), await world.open()
    await first.launch(spec("--exit", "5"), "replica-1")
    await gone(world, first, "replica-1")
    await second.launch(spec(), "replica-1")
    assert (await gone(world, second, "replica-1")).code == 5


async def test_replicas_of_another_installation_are_left_alone(world: LocalWorld) -> None:
    theirs = LocalWorld(world.home, installation="installation-2")
    other = await theirs.open()
    await other.launch(spec("--name", "theirs"), "replica-1")
    status = await reach(theirs, other, "replica-1", UP)
    assert status.address is not None
    try:
        runtime = await world.open()
        assert await runtime.list() == ()
        await runtime.stop("replica-1", NO_GRACE)
        await runtime.launch(spec("--name", "ours"), "replica-1")
        assert "another installation" in ((await gone(world, runtime, "replica-1")).cause or "")
        await runtime.stop("replica-1", NO_GRACE)
        await runtime.forget("replica-1")
        assert (await theirs.answer(status.address))["name"] == "theirs"
        assert theirs.has_record("replica-1")
        assert await reach(theirs, other, "replica-1", UP) == status
    finally:
        await theirs.close()


async def test_a_supervisor_that_died_while_nobody_looked(world: LocalWorld) -> None:
    await world.launch_and_die(spec("--child", "--deaf", "--say", "last words"), "replica-1")
    record = world.record("replica-1")
    assert await world.processes("replica-1") == 2
    os.kill(record["supervisor_pid"], signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while await world.processes("replica-1") != 1:  # noqa: ASYNC110 (the kernel ends the engine; its child has to wait for us)
            await asyncio.sleep(0.005)
    runtime = await world.open()
    exit_ = await gone(world, runtime, "replica-1")
    assert (exit_.cause, exit_.log_tail) == ("its supervisor died", ("last words",))
    assert await world.processes("replica-1") == 0
    assert await free_threads(runtime) == THREADS
    assert world.record("replica-1")["state"] == "EXITED"
    assert not Path(record["address"].removeprefix("unix:")).exists()


async def test_an_engine_that_ended_while_nobody_looked(world: LocalWorld) -> None:
    await world.launch_and_die(spec("--child", "--say", "last words"), "replica-1")
    os.kill(world.record("replica-1")["engine_pid"], signal.SIGKILL)
    runtime = await world.open()
    exit_ = await gone(world, runtime, "replica-1")
    assert (exit_.signal, exit_.cause, exit_.log_tail) == (signal.SIGKILL, None, ("last words",))
    assert await world.processes("replica-1") == 0


async def test_pids_given_to_somebody_else_are_not_touched(world: LocalWorld) -> None:
    """A record from before a reboot, whose pids belong to an innocent process now."""
    innocent = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", "import signal; print(flush=True); signal.pause()",
        stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert innocent.stdout is not None
    await innocent.stdout.readline()
    first = await world.open()
    await first.launch(spec("--exit", "0"), "replica-1")
    await gone(world, first, "replica-1")
    await first.close()
    record = world.record("replica-1")
    seen = process.stat(innocent.pid)
    assert seen is not None
    record.update(state="READY", exit=None, engine_pid=innocent.pid, supervisor_pid=innocent.pid)
    for boot, started in (("another boot", seen.started), (process.boot_id(), seen.started - 1)):
        record.update(boot_id=boot, engine_started=started, supervisor_started=started)
        record_file.write(str(world.home / "run/replicas/replica-1.json"), record, durable=False)
        runtime = await world.open()
        assert (await gone(world, runtime, "replica-1")).cause == "its supervisor died"
        await runtime.close()
        assert innocent.returncode is None
    innocent.kill()
    assert await innocent.wait() == -signal.SIGKILL


async def test_term_to_the_supervisor_is_a_stop(world: LocalWorld) -> None:
    runtime = await world.open()
    await runtime.launch(spec("--child"), "replica-1")
    await reach(world, runtime, "replica-1", UP)
    os.kill(world.record("replica-1")["supervisor_pid"], signal.SIGTERM)
    assert (await gone(world, runtime, "replica-1")).cause == "stopped"
    assert await world.processes("replica-1") == 0


async def test_a_hung_supervisor_is_killed_and_its_engine_with_it(world: LocalWorld) -> None:
    world.stop_margin = timedelta(milliseconds=200)
    runtime = await world.open()
    await runtime.launch(spec("--child", "--deaf"), "replica-1")
    await reach(world, runtime, "replica-1", UP)
    os.kill(world.record("replica-1")["supervisor_pid"], signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE_S):
        await runtime.stop("replica-1", NO_GRACE)
    assert (await gone(world, runtime, "replica-1")).cause == "its supervisor died"
    assert await world.processes("replica-1") == 0
    assert await free_threads(runtime) == THREADS


async def test_nonsense_on_its_socket_does_not_disturb_a_supervisor(world: LocalWorld) -> None:
    runtime = await world.open()
    await runtime.launch(spec("--say", "words"), "replica-1")
    before = await reach(world, runtime, "replica-1", UP)
    for nonsense in (b"not a message", b"[]", b'{"type":"unknown"}', b'{"type":"stop"}', b'{"type":"logs","tail":"x"}'):
        reader, writer = await asyncio.open_unix_connection(world.record("replica-1")["control_socket"])
        writer.write(nonsense + b"\n")
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            try:
                await reader.read()
            except ConnectionResetError:
                continue
            finally:
                writer.close()
    found = await asyncio.gather(*(runtime.logs("replica-1") for _ in range(20)))
    assert set(map(tuple, found)) == {("words",)}
    assert await runtime.status("replica-1") == before
    await runtime.stop("replica-1", GRACE)


async def test_a_supervisor_that_can_neither_save_nor_complain_stays_alive(world: LocalWorld) -> None:
    """A full disk: its record cannot be written, and its own log is on the same disk."""
    runtime = await world.open()
    (world.home / "logs" / "supervisors.log").symlink_to("/dev/full")
    await runtime.launch(spec(), "replica-1")
    await reach(world, runtime, "replica-1", UP)
    record = world.record("replica-1")
    in_the_way = world.home / "run/replicas/replica-1.json.new"
    in_the_way.mkdir()
    reader, writer = await asyncio.open_unix_connection(record["control_socket"])
    writer.write(b"nonsense, which it complains about\n")
    async with asyncio.timeout(PATIENCE_S):
        await reader.read()
    writer.close()
    os.kill(record["engine_pid"], signal.SIGKILL)
    # It tells the truth by its socket, and goes on living until the record tells it, too.
    assert (await gone(world, runtime, "replica-1")).signal == signal.SIGKILL
    assert record["supervisor_pid"] in {one.pid for one in world.alive()}
    assert world.record("replica-1")["state"] == "READY"
    in_the_way.rmdir()
    async with asyncio.timeout(PATIENCE_S):
        while world.alive():  # noqa: ASYNC110 (it ends as soon as it has written the record)
            await asyncio.sleep(0.01)
    assert world.record("replica-1")["state"] == "EXITED"


async def test_the_log_of_the_supervisors_is_bounded(world: LocalWorld) -> None:
    runtime = await world.open()
    log = world.home / "logs" / "supervisors.log"
    log.write_bytes(b"x" * MAX_FILE_BYTES)
    await runtime.launch(spec(), "replica-1")
    await reach(world, runtime, "replica-1", UP)
    assert log.stat().st_size == 0


async def test_a_supervisor_holds_nothing_that_its_starter_had_open(world: LocalWorld) -> None:
    runtime = await world.open()
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    await runtime.launch(spec(), "replica-1")
    await reach(world, runtime, "replica-1", UP)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        ended, _, _ = await asyncio.to_thread(select.select, [pipe], [], [], PATIENCE_S)
        assert ended, "somebody still holds the other end"
        assert pipe.read() == b""


async def test_a_long_home_puts_its_sockets_elsewhere(tmp_path: Path) -> None:
    world = LocalWorld(tmp_path / ("long" * 20))
    try:
        runtime = await world.open()
        await runtime.launch(spec(), "replica-1")
        status = await reach(world, runtime, "replica-1", UP)
        assert status.address is not None
        socket_path = Path(status.address.removeprefix("unix:"))
        assert len(os.fsencode(socket_path)) <= 100
        assert socket_path.parent.stat().st_mode & 0o777 == 0o700
        await world.answer(status.address)
    finally:
        await world.close()
    assert not socket_path.parent.exists()


async def test_more_lines_than_a_supervisor_holds_come_from_the_file_while_it_runs(world: LocalWorld) -> None:
    runtime = await world.open()
    code = "import time\nfor i in range(1500): print('line', i)\nprint('done', flush=True)\ntime.sleep(1000)"
    await runtime.launch(replace(spec(), processes=(script(code),)), "replica-1")
    async with asyncio.timeout(PATIENCE_S):
        while tuple(await runtime.logs("replica-1", 1)) != ("done",):  # noqa: ASYNC110 (output sends no event)
            await asyncio.sleep(0.01)
    lines = (*(f"line {i}" for i in range(1500)), "done")
    for tail in (2, 500, 501, 1000, 9999):
        assert tuple(await runtime.logs("replica-1", tail)) == lines[-tail:]


async def test_what_an_engine_may_not_say_once_it_serves_reaches_no_file(world: LocalWorld) -> None:
    runtime = await world.open()
    code = "print('free words'); print('serving'); print('hush-' + 'hush'); print('ERROR 5: hush-' + 'hush')"
    one = replace(script(code), output=OutputRule("serving", (r"ERROR \d",)))
    await runtime.launch(replace(spec(), processes=(one,)), "replica-1")
    exit_ = await gone(world, runtime, "replica-1")
    assert exit_.log_tail == ("free words", "serving", "ERROR 5 [...]")
    for path in world.home.rglob("*"):
        if path.is_file():
            assert b"hush-hush" not in path.read_bytes()


async def test_output_is_kept_whole_and_by_its_end(world: LocalWorld) -> None:
    runtime = await world.open()
    code = "import os\nfor i in range(3000): os.write(1 + i % 2, b'line %d\\n' % i)"
    await runtime.launch(replace(spec(), processes=(script(code),)), "replica-1")
    exit_ = await gone(world, runtime, "replica-1")
    assert exit_.log_tail == tuple(f"line {i}" for i in range(2900, 3000))
    assert tuple(await runtime.logs("replica-1", 2500)) == tuple(f"line {i}" for i in range(500, 3000))


async def test_a_gang_is_refused_in_words(world: LocalWorld) -> None:
    runtime = await world.open()
    await runtime.launch(replace(spec(), processes=()), "replica-1")
    await runtime.launch(replace(spec(), processes=spec().processes * 2), "replica-2")
    for replica_id in ("replica-1", "replica-2"):
        assert "one process per replica" in ((await gone(world, runtime, replica_id)).cause or "")


async def test_a_record_that_cannot_be_read_is_left_alone(world: LocalWorld) -> None:
    folder = world.home / "run" / "replicas"
    folder.mkdir(parents=True)
    (folder / "replica-1.json").write_text("{")
    (folder / "replica-2.json").write_text(json.dumps({"installation": "installation-1"}))
    runtime = await world.open()
    assert await runtime.list() == ()
    assert (folder / "replica-1.json").read_text() == "{"
    for path in folder.glob("*.json"):
        path.unlink()


async def test_a_supervisor_that_cannot_write_its_record_says_so(world: LocalWorld) -> None:
    runtime = await world.open()
    (world.home / "run/replicas/replica-1.json.new").mkdir()
    await runtime.launch(spec(), "replica-1")
    exit_ = await gone(world, runtime, "replica-1")
    assert "replica-1.json.new" in (exit_.cause or "")
    assert await world.processes("replica-1") == 0
    (world.home / "run/replicas/replica-1.json.new").rmdir()


async def test_a_locked_id_is_not_launched(world: LocalWorld) -> None:
    """The supervisor of an earlier launch holds the lock but has not written its record yet."""
    runtime = await world.open()
    lock = record_file.lock(str(world.home / "run/replicas/replica-1.lock"))
    assert lock is not None
    await runtime.launch(spec(), "replica-1")
    log = world.home / "logs" / "supervisors.log"
    async with asyncio.timeout(PATIENCE_S):
        while not log.exists() or world.alive():  # noqa: ASYNC110 (our supervisor comes, is refused, and goes)
            await asyncio.sleep(0.01)
    status = await runtime.status("replica-1")
    assert status is not None
    assert status.state is RuntimeState.STARTING
    os.close(lock)
    assert "supervisor died before" in ((await gone(world, runtime, "replica-1")).cause or "")


async def test_other_systems_are_told_what_is_missing(tmp_path: Path) -> None:
    runtime = LocalRuntime(RuntimeSettings(tmp_path, "installation-1"), platform="darwin")
    with pytest.raises(Exception, match="needs Linux"):
        await runtime.start()


async def test_an_id_that_is_a_path_is_refused(world: LocalWorld) -> None:
    runtime = await world.open()
    with pytest.raises(ValueError, match="not a replica id"):
        await runtime.launch(spec(), "../replica-1")


async def test_the_listen_placeholder_is_filled_in_everywhere(world: LocalWorld) -> None:
    runtime = await world.open()
    code = "import os,sys; print(os.environ['WHERE'], sys.argv[1])"
    one = ProcessSpec((sys.executable, "-I", "-S", "-c", code, f"--at={LISTEN}"), {"WHERE": f"<{LISTEN}>"})
    await runtime.launch(replace(spec(), processes=(one,)), "replica-1")
    await reach(world, runtime, "replica-1", GONE)
    address = world.record("replica-1")["address"]
    assert address.startswith("unix:/")
    assert tuple(await runtime.logs("replica-1")) == (f"<{address}> --at={address}",)


LATER_SUPERVISOR = """
import json, os, signal, socket, sys
sys.path.append(sys.argv[1])
from supervision import process, record
path, raw = sys.argv[2], json.loads(sys.argv[3])
lock = record.lock(path.removesuffix(".json") + ".lock")
own = process.stat(os.getpid())
raw.update(state="READY", supervisor_pid=os.getpid(), supervisor_started=own.started, boot_id=process.boot_id())
listener = socket.socket(socket.AF_UNIX)
os.makedirs(os.path.dirname(raw["control_socket"]), exist_ok=True)  # a home with a long path keeps sockets elsewhere
listener.bind(raw["control_socket"])
listener.listen()
record.write(path, raw, durable=False)
def end(*_):
    exit_ = {"code": 0, "signal": None, "cause": "stopped", "log_tail": []}
    record.write(path, {**raw, "state": "EXITED", "exit": exit_}, durable=False)
    os.unlink(raw["control_socket"])
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("UP", flush=True)
while True:
    peer, _ = listener.accept()
    peer.sendall(b'{"protocol":2,"type":"greetings"}\\n')
"""


async def test_a_supervisor_of_another_protocol_is_believed_by_its_record_and_stopped_by_term(
    world: LocalWorld,
) -> None:
    first = await world.open()
    await first.launch(spec("--exit", "0"), "replica-1")
    await gone(world, first, "replica-1")
    await first.close()
    path = world.home / "run/replicas/replica-1.json"
    raw = {**world.record("replica-1"), "exit": None, "engine_pid": None, "engine_started": None}
    code = (sys.executable, "-I", "-S", "-c", LATER_SUPERVISOR)
    folder = str(Path(process.__file__).parent.parent)
    later = await asyncio.create_subprocess_exec(
        *code, folder, str(path), json.dumps(raw), stdout=asyncio.subprocess.PIPE, env=world.environment
    )
    assert later.stdout is not None
    assert await later.stdout.readline() == b"UP\n"
    runtime = await world.open()
    status = await reach(world, runtime, "replica-1", UP)
    assert status.address == raw["address"]
    assert await free_threads(runtime) == THREADS - 1
    async with asyncio.timeout(PATIENCE_S):
        await runtime.stop("replica-1", GRACE)
        assert await later.wait() == 0
    assert (await gone(world, runtime, "replica-1")).cause == "stopped"


async def test_an_engine_gets_the_soft_limit_of_files_that_was_before_the_control_plane_raised_its_own(
    world: LocalWorld,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    world.settings = replace(world.settings, engine_files=soft - 1)
    runtime = await world.open()
    await runtime.launch(spec(), "replica-1")
    (pid,) = (await reach(world, runtime, "replica-1", UP)).pids
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (soft - 1, hard)


async def test_a_look_that_lacks_files_says_so_and_the_next_one_finds_all(world: LocalWorld) -> None:
    first = await world.open()
    await first.launch(spec(), "replica-1")
    await reach(world, first, "replica-1", UP)
    second = await world.open()
    await first.launch(spec(), "replica-2")
    await reach(world, first, "replica-2", UP)
    await first.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            await second.list()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {status.replica_id for status in await second.list()} == {"replica-1", "replica-2"}
