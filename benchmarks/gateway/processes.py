"""The processes of the benchmark: upstream, load generator, nginx, the gateway worker. Everything is on loopback.

Each is ended by its pid when its context ends.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psutil

from roost.config import Settings
from roost.domain.routing import RouteEndpoint, RouteKey, RouteReplica, RoutingTable
from roost.gateway.control_link import RoutesFile

HERE = Path(__file__).parent
KEY = "rk-benchmark"
ENDPOINT = "endpoint-00000000-0000-4000-8000-000000000000"
START_S = 20.0

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 1000000000;
  client_body_buffer_size 256k;
  upstream engine {{ server unix:{upstream}; keepalive 2048; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

WORKER = """
import sys
from pathlib import Path
from roost.config import Settings
from roost.gateway.worker import run
sys.exit(run(Settings(home=Path(sys.argv[1])), 0, int(sys.argv[2])))
"""


class Missing(Exception):
    """A program that the benchmark needs is not there; the message says how to get it."""


@dataclass(frozen=True)
class Proxy:
    """A proxy under test."""

    name: str
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """CPU time used so far by its process tree."""
        return sum(_cpu(p.pid) for p in [self.process, *self.process.children(recursive=True)])

    def memory_bytes(self) -> int:
        """Resident memory of its process tree."""
        return sum(p.memory_info().rss for p in [self.process, *self.process.children(recursive=True)])


def _cpu(pid: int) -> float:
    # Nanoseconds on a CPU, per thread; /proc/<pid>/stat counts in ticks of 10 ms.
    return sum(int(t.read_text().split()[0]) for t in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def need_nginx() -> str:
    """The path of nginx, installed from the distribution if it is not there. Raises ``Missing``."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(
            "nginx is the yardstick of this benchmark: install it (Debian: sudo apt-get install nginx-light)."
        )
    # Without this file the package's scripts would start a server of their own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "nginx-light"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}")
    return need_nginx()


def compile_c(name: str, folder: Path) -> Path:
    """Compile ``<name>.c`` from this folder. Raises ``Missing`` without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing(
            "The benchmark's upstream is written in C: install a compiler (Debian: apt-get install gcc libc6-dev)."
        )
    target = folder / name
    subprocess.run([compiler, "-O2", "-o", str(target), str(HERE / f"{name}.c")], check=True)
    return target


@contextmanager
def running(command: list[str], **options: object) -> Iterator[psutil.Process]:
    """A process that ends with the context."""
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def nginx(folder: Path, upstream: Path) -> Iterator[Proxy]:
    """nginx with one worker: no key check, no rewriting, no log."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
    with running([need_nginx(), "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL) as process:
        _wait_for(port)
        yield Proxy("nginx", port, process)


@contextmanager
def gateway(folder: Path, upstream: Path) -> Iterator[Proxy]:
    """One gateway worker as shipped: key check, routing, metrics, access log."""
    settings = Settings(home=folder / "home")
    settings.run_dir.mkdir(parents=True, mode=0o700)
    table = RoutingTable(
        "benchmark",
        1,
        1,
        (
            RouteEndpoint(
                ENDPOINT, "bench/m-00000000", "bench", "STARTED", True, "echo",
                replicas=(RouteReplica("replica-1", f"unix:{upstream}"),),
            ),
        ),
        (RouteKey(sha256(KEY.encode()).hexdigest(), "key-1", "bench", "member"),),
    )  # fmt: skip
    RoutesFile(settings.run_dir / "routes-0.json").save(table)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        port = listener.getsockname()[1]
        fd = listener.fileno()
        command = [sys.executable, "-c", WORKER, str(settings.home), str(fd)]
        with running(command, pass_fds=(fd,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            _wait_for(port)
            yield Proxy("gateway", port, process)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), START_S) as client:
                client.settimeout(START_S)
                client.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                if client.recv(100).startswith(b"HTTP/1.1 200"):
                    return
        except ConnectionRefusedError:
            pass
        if time.monotonic() > deadline:
            raise Missing(f"the proxy on port {port} did not come up within {START_S:.0f} s")
        time.sleep(0.05)
