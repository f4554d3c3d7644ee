"""The home directory, pid files, the one-server lock and log files."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from roost.config import Settings
from roost.domain.errors import Conflict, InvalidSettings
from roost.wiring import home, instance, lifeline, logfiles
from roost.wiring.pids import command_line, open_process, read_pid, write_pid


def test_a_home_is_created_private(short_folder: Path) -> None:
    settings = Settings(home=short_folder / "a" / "b")
    home.prepare(settings)
    assert stat.S_IMODE(settings.run_dir.stat().st_mode) == 0o700
    assert settings.logs_dir.is_dir()


def test_a_run_folder_that_others_can_read_is_closed(short_folder: Path) -> None:
    settings = Settings(home=short_folder)
    settings.run_dir.mkdir(mode=0o755)
    home.prepare(settings)
    assert stat.S_IMODE(settings.run_dir.stat().st_mode) == 0o700


def test_a_home_that_is_a_file_is_refused_in_one_sentence(short_folder: Path) -> None:
    (short_folder / "file").write_text("")
    with pytest.raises(InvalidSettings, match=r"cannot be used \(.*\): choose one that you can write to"):
        home.prepare(Settings(home=short_folder / "file"))


def test_a_home_that_cannot_be_created_is_refused_in_one_sentence() -> None:
    with pytest.raises(InvalidSettings, match="cannot be used"):
        home.prepare(Settings(home=Path("/proc/roost")))


def test_a_home_too_deep_for_sockets_says_by_how_much(short_folder: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"is \d+ bytes too long for unix sockets"):
        home.prepare(Settings(home=short_folder / ("d" * 107)))


def test_private_files_are_replaced_whole(short_folder: Path) -> None:
    path = short_folder / "secret"
    path.write_text("old")
    path.chmod(0o644)
    home.write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in short_folder.iterdir()] == ["secret"]


def test_pid_files_hold_a_decimal_and_a_newline(short_folder: Path) -> None:
    write_pid(short_folder / "x.pid", 4711)
    assert (short_folder / "x.pid").read_text() == "4711\n"
    assert read_pid(short_folder / "x.pid") == 4711


def test_missing_and_damaged_pid_files_name_nobody(short_folder: Path) -> None:
    (short_folder / "bad.pid").write_text("not a pid")
    assert read_pid(short_folder / "bad.pid") is None
    assert read_pid(short_folder / "none.pid") is None


def test_a_process_is_opened_only_when_its_command_line_says_it_is_the_one() -> None:
    program = "print(flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", program, "/home/of/roost"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()  # it runs: its command line is its own
        assert "/home/of/roost" in command_line(child.pid)
        assert open_process(child.pid, "/another/home") is None
        process = open_process(child.pid, "/home/of/roost")
        assert process is not None
        with process:
            assert not process.wait(0)
            assert process.send(signal.SIGKILL)
            assert process.wait(10)
            child.wait()
            assert not process.send(signal.SIGKILL)
        assert open_process(child.pid, "/home/of/roost") is None
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("pid", [None, 0, -1])
def test_no_pid_is_no_process(pid: int | None) -> None:
    assert open_process(pid, "") is None


def test_one_server_per_home(short_folder: Path) -> None:
    settings = Settings(home=short_folder)
    home.prepare(settings)
    assert instance.running(settings) is None
    lock = instance.acquire(settings)
    write_pid(settings.run_dir / "serve.pid", os.getpid())
    with pytest.raises(Conflict, match=f"already serving from {short_folder} \\(pid {os.getpid()}\\)"):
        instance.acquire(settings)
    found = instance.running(settings)
    assert found is not None
    with found:
        assert found.pid == os.getpid()
    lock.release()
    assert instance.running(settings) is None
    instance.acquire(settings).release()


def test_a_large_log_is_set_aside_and_its_writer_goes_on(short_folder: Path) -> None:
    path = short_folder / "control.log"
    with logfiles.open_log(path) as log:
        log.write(b"x" * 100 + b"\n")
        log.flush()
        assert not logfiles.rotate(path, max_bytes=101)
        assert logfiles.rotate(path, max_bytes=100)
        log.write(b"next\n")
    assert path.read_bytes() == b"next\n"
    assert path.with_name("control.log.1").read_bytes() == b"x" * 100 + b"\n"
    assert stat.S_IMODE(path.with_name("control.log.1").stat().st_mode) == 0o600


def test_the_tail_is_what_was_written_since(short_folder: Path) -> None:
    path = short_folder / "control.log"
    assert logfiles.tail(path) == []
    path.write_text("before\n")
    start = logfiles.size(path)
    with logfiles.open_log(path) as log:
        log.write(b"".join(b"line %d\n" % number for number in range(20)))
    assert logfiles.tail(path, lines=2, start=start) == ["line 18", "line 19"]
    assert logfiles.tail(path, lines=50, start=start)[0] == "line 0"


def test_the_ready_pipe_is_not_inherited_by_what_its_child_starts() -> None:
    reader, writer = os.pipe()
    try:
        os.set_inheritable(writer, True)
        lifeline.ReadyPipe(writer)
        assert not os.get_inheritable(writer)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_log_without_room_for_its_copy_is_cut(short_folder: Path) -> None:
    path = short_folder / "control.log"
    path.write_bytes(b"x" * 100)
    path.with_name("control.log.1").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"."):
        logfiles.rotate(path, max_bytes=10)
    assert path.read_bytes() == b""
    assert not path.with_name("control.log.1").is_symlink()
