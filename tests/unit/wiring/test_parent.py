"""``roost serve``'s parent, a real process, with fake children: start, deaths, the ways to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat

from tests.unit.wiring.conftest import Stage

from roost.runtimes.supervision import record
from roost.wiring.logfiles import MAX_BYTES


async def test_children_get_what_they_need_and_the_banner_comes_when_all_are_ready(stage: Stage) -> None:
    server = await stage.serve(gateway_workers=2)
    control, first, second = [await stage.child(name) for name in ("control", "gateway-0", "gateway-1")]
    for child in (control, first, second):
        assert child.born["session"] == child.pid, "a terminal's Ctrl-C must not reach it"
    assert first.born["fd"] is not None
    control.ready(api_key="roost-first", hardware="7x_cpu")
    first.ready()
    second.ready()
    line = await server.line("is serving at")
    assert line.endswith(f"http://127.0.0.1:{stage.port()}\n")
    assert "roost-first" in await server.line("key")
    assert "--hardware 7x_cpu" in await server.line("endpoints create")


async def test_private_files_are_private_and_pid_files_plain(stage: Stage) -> None:
    server, control, gateway = await stage.serving(database_url="postgresql+psycopg://roost:hunter2@db/roost")
    assert stat.S_IMODE(stage.run_file("").stat().st_mode) == 0o700
    assert stat.S_IMODE(stage.run_file("settings.json").stat().st_mode) == 0o600
    assert stage.run_file("serve.pid").read_text() == f"{server.process.pid}\n"
    assert stage.run_file("control.pid").read_text() == f"{control.pid}\n"
    assert stage.run_file("gateway-0.pid").read_text() == f"{gateway.pid}\n"
    assert "hunter2" in json.loads(stage.run_file("settings.json").read_text())["database_url"]


async def test_the_parent_accepts_connections_before_its_children_do(stage: Stage) -> None:
    await stage.serving()
    with socket.create_connection(("127.0.0.1", stage.port()), timeout=5):
        pass


async def test_term_ends_the_gateways_only_after_the_control_plane_has_drained(stage: Stage) -> None:
    server, control, gateway = await stage.serving()
    server.signal(signal.SIGTERM)
    assert await control.event() == "SIGTERM"
    control.order(exit=0)
    assert await control.event() == "gone"
    # The gateway's first news is its own TERM, and it came when the control plane was gone.
    assert await gateway.event() == "SIGTERM"
    gateway.order(exit=0)
    assert await server.ended() == 0
    assert sorted(path.name for path in stage.home.glob("run/*.pid")) == []


async def test_new_connections_are_refused_while_gateways_drain(stage: Stage) -> None:
    server, control, gateway = await stage.serving()
    server.signal(signal.SIGTERM)
    assert await control.event() == "SIGTERM"
    control.order(exit=0)
    assert await gateway.event() == "SIGTERM"
    gateway.order(close=gateway.born["fd"], print="closed")
    port = stage.port()
    gateway.order(exit=0)
    await server.ended()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_second_ctrl_c_hurries_the_control_plane(stage: Stage) -> None:
    server, control, gateway = await stage.serving()
    server.signal(signal.SIGINT)
    assert await control.event() == "SIGTERM"
    server.signal(signal.SIGINT)
    assert await control.event() == "SIGQUIT"
    control.order(exit=0)
    assert await gateway.event() == "SIGTERM"
    gateway.order(exit=0)
    assert await server.ended() == 0


async def test_a_second_term_does_not_hurry(stage: Stage) -> None:
    server, control, gateway = await stage.serving()
    server.signal(signal.SIGTERM)
    assert await control.event() == "SIGTERM"
    server.signal(signal.SIGTERM)
    control.order(exit=0)
    assert await control.event() == "gone"
    assert await gateway.event() == "SIGTERM"
    gateway.order(exit=0)
    assert await server.ended() == 0


async def test_a_stop_at_once_says_so_to_control_plane_and_gateways(stage: Stage) -> None:
    server, control, gateway = await stage.serving()
    server.signal(signal.SIGQUIT)
    assert {await control.event(), await control.event()} == {"SIGTERM", "SIGQUIT"}
    control.order(exit=0)
    assert [await gateway.event(), await gateway.event()] == ["SIGTERM", "SIGTERM"]
    gateway.order(exit=0)
    assert await server.ended() == 0


async def test_a_stop_at_once_kills_what_hangs(stage: Stage) -> None:
    server, control, gateway = await stage.serving(options={"slack_s": 0.2})
    for child in (control, gateway):
        os.kill(child.pid, signal.SIGSTOP)
    server.signal(signal.SIGQUIT)
    assert await control.event() == "gone"
    assert await gateway.event() == "gone"
    assert await server.ended() == 0
    assert "The control process does not end; it is killed." in await server.rest()


async def test_replicas_that_a_killed_control_plane_left_are_told_of(stage: Stage) -> None:
    replicas = stage.home / "run" / "replicas"
    replicas.mkdir(parents=True)
    (replicas / "replica-1.json").write_text('{"state": "READY"}')
    (replicas / "replica-2.json").write_text('{"state": "READY"}')
    supervisor = record.lock(str(replicas / "replica-1.lock"))
    assert supervisor is not None
    server, control, gateway = await stage.serving(options={"slack_s": 0.2}, drain_deadline_s=0.1, stop_grace_s=0.1)
    os.kill(control.pid, signal.SIGSTOP)
    server.signal(signal.SIGTERM)
    assert await gateway.event() == "SIGTERM"
    gateway.order(exit=0)
    assert await server.ended() == 1
    said = await server.rest()
    assert "The control process does not end; it is killed." in said
    assert "say: The server has stopped, but 1 replica could not be ended" in said
    assert f"`roost stop --home {stage.home}`" in said
    assert "Stopped." not in said
    os.close(supervisor)


async def test_usr1_leaves_the_replicas(stage: Stage) -> None:
    server, control, gateway = await stage.serving()
    server.signal(signal.SIGUSR1)
    assert await control.event() == "SIGUSR1"
    assert await gateway.event() == "SIGTERM", "gateways drain at the same time"
    control.order(exit=0)
    gateway.order(exit=0)
    assert await server.ended() == 0


async def test_keep_replicas_makes_every_polite_stop_leave_them(stage: Stage) -> None:
    server, control, gateway = await stage.serving(options={"keep_replicas": True})
    server.signal(signal.SIGTERM)
    assert await control.event() == "SIGUSR1"
    for child in (control, gateway):
        child.order(exit=0)
    assert await server.ended() == 0


async def test_a_dead_control_plane_is_started_again_and_gateways_are_not_touched(stage: Stage) -> None:
    server, control, gateway = await stage.serving()
    os.kill(control.pid, signal.SIGKILL)
    assert "was ended by signal SIGKILL" in await server.line("starting it again")
    again = await stage.child("control")
    assert again.pid != control.pid
    again.ready()
    server.signal(signal.SIGTERM)
    assert await again.event() == "SIGTERM"
    again.order(exit=0)
    assert await gateway.event() == "SIGTERM", "the first thing that the gateway hears is the stop"
    gateway.order(exit=0)
    assert await server.ended() == 0


async def test_a_control_plane_whose_pipe_lives_on_in_another_process_is_started_again(stage: Stage) -> None:
    server, control, _ = await stage.serving()
    control.order(exit=1)
    again = await stage.child("control")
    again.order(heir="heir")
    await stage.child("heir")
    again.order(exit=1)
    await server.line("ended with exit code 1; starting it again")
    await server.line("ended with exit code 1; starting it again")
    third = await stage.child("control")
    third.ready()


async def test_a_dead_gateway_gets_the_same_listening_socket_again(stage: Stage) -> None:
    server, _, gateway = await stage.serving()
    gateway.order(exit=3)
    assert "ended with exit code 3" in await server.line("starting it again")
    again = await stage.child("gateway-0")
    assert again.born["fd"] == gateway.born["fd"]
    with socket.create_connection(("127.0.0.1", stage.port()), timeout=5):
        pass


async def test_a_control_plane_in_backoff_is_started_to_end_its_replicas(stage: Stage) -> None:
    server, control, gateway = await stage.serving(policy={"first_s": 3600.0, "longest_s": 3600.0})
    control.order(exit=1)
    await server.line("starting it again in 3600 s")
    server.signal(signal.SIGTERM)
    again = await stage.child("control")
    again.ready()
    assert await again.event() == "SIGTERM"
    again.order(exit=0)
    assert await gateway.event() == "SIGTERM"
    gateway.order(exit=0)
    assert await server.ended() == 0


async def test_a_refused_start_ends_everything_with_the_child_s_sentence(stage: Stage) -> None:
    server = await stage.serve()
    control, gateway = await stage.child("control"), await stage.child("gateway-0")
    control.order(tell={"error": "The database URL starts with 'mysql'."}, exit=78)
    assert await gateway.event() == "SIGTERM"
    gateway.order(exit=0)
    assert "error: The database URL starts with 'mysql'.\n" in await server.rest()
    assert await server.ended() == 1


async def test_a_crash_at_the_start_shows_the_end_of_the_log(stage: Stage) -> None:
    server = await stage.serve()
    control, gateway = await stage.child("control"), await stage.child("gateway-0")
    control.order(print="ImportError: no such thing", exit=1)
    assert await gateway.event() == "SIGTERM"
    gateway.order(exit=0)
    said = await server.rest()
    assert "The control process ended with exit code 1 before it was ready." in said
    assert "ImportError: no such thing" in said
    assert await server.ended() == 1


async def test_ctrl_c_during_the_start_ends_everything(stage: Stage) -> None:
    server = await stage.serve(options={"slack_s": 0.2})
    control, gateway = await stage.child("control"), await stage.child("gateway-0")
    server.signal(signal.SIGINT)
    control.ready()
    assert await control.event() == "SIGTERM"
    control.order(exit=0)
    assert await gateway.event() == "SIGTERM"
    gateway.order(exit=0)
    assert await server.ended() == 0


async def test_a_log_that_cannot_be_set_aside_is_cut_and_the_server_serves_on(stage: Stage) -> None:
    logs = stage.home / "logs"
    logs.mkdir(parents=True)
    (logs / "control.log.1").symlink_to("/dev/full")
    (logs / "control.log").touch()
    os.truncate(logs / "control.log", MAX_BYTES + 1)
    server = await stage.serve(options={"rotate_every_s": 0.01})
    control, gateway = await stage.child("control"), await stage.child("gateway-0")
    assert f"{logs}/control.log aside" in await server.line("say: Cannot set the log")
    assert (logs / "control.log").stat().st_size == 0
    control.ready()
    gateway.ready()
    await server.line("is serving at")
    server.signal(signal.SIGTERM)
    assert await control.event() == "SIGTERM", "the first thing that it hears"
    control.order(exit=0)
    gateway.order(exit=0)
    assert await server.ended() == 0


async def test_a_new_key_is_asked_for_on_the_first_start_only(stage: Stage) -> None:
    _, control, _ = await stage.serving(options={"new_key": True})
    assert control.born["new_key"] is True
    control.order(exit=1)
    assert (await stage.child("control")).born["new_key"] is False


async def test_a_second_server_on_the_same_home_is_refused_with_the_pid(stage: Stage) -> None:
    server, _, _ = await stage.serving()
    second = await stage.serve()
    assert f"pid {server.process.pid}" in await second.line("is already serving from")
    assert await second.ended() == 1


async def test_a_port_of_another_program_is_refused_in_one_sentence(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = await stage.serve(port=port)
        assert f"Port {port} on 127.0.0.1 is in use by another program" in await server.line("error:")
        assert await server.ended() == 1


async def test_children_notice_that_the_parent_was_killed(stage: Stage) -> None:
    server, control, gateway = await stage.serving()
    server.signal(signal.SIGKILL)
    assert await control.event() == "orphaned"
    assert await gateway.event() == "orphaned"


async def test_a_new_parent_waits_for_the_old_control_plane_and_takes_the_port_from_old_gateways(stage: Stage) -> None:
    first, old_control, old_gateway = await stage.serving()
    port = stage.port()
    first.signal(signal.SIGKILL)
    await first.ended()
    second = await stage.serve(port=port)
    assert f"pid {old_control.pid}" in await second.line("Waiting for the control plane")
    assert [await old_control.event(), await old_gateway.event()] == ["orphaned", "orphaned"]
    old_control.order(exit=0)
    old_gateway.order(close=old_gateway.born["fd"])
    control = await stage.child("control")
    gateway = await stage.child("gateway-0")
    control.ready()
    gateway.ready()
    assert str(port) in await second.line("is serving at")
    # The old gateway is still there, finishing its requests: nobody signalled it.
    old_gateway.order(exit=0)
    assert await old_gateway.event() == "gone"
