"""The proxies of the benchmark, each with one worker in front of the same upstream. Called by ``__main__``.

The peers run with the settings that cost them least: no log where they can do without, one upstream that does not
change. Roost runs as it is shipped: keys with limits, metrics, usage, access log, checks of the upstream's health.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psutil
from benchmarks.gateway.control_plane import control_plane
from benchmarks.gateway.install import debian_program, python_package
from benchmarks.gateway.processes import Cores, Proxy, Upstream, free_port, running, wait_until_serving

from roost.config import Settings
from roost.domain.routing import RouteEndpoint, RouteKey, RouteReplica, RoutingTable

KEY = "rk-benchmark"
ENDPOINT = "endpoint-00000000-0000-4000-8000-000000000000"
NO_LIMIT = 1_000_000_000
"""Limits that are counted and never reached."""


@dataclass(frozen=True)
class Site:
    """Where a proxy is set up: a folder of its own, the upstream, the CPUs; ``unix``: reach it by its unix socket."""

    folder: Path
    upstream: Upstream
    cores: Cores
    unix: bool = False


def request_bytes(prompt: str, tokens: int, *, stream: bool, pause: int = 0) -> bytes:
    """One request of the load; a stream pauses for ``pause`` ticks behind its first event."""
    fields: dict[str, object] = {"model": ENDPOINT, "messages": [{"role": "user", "content": prompt}]}
    fields["max_tokens"] = tokens
    if stream:
        fields |= {"stream": True, "seed": pause}
    body = json.dumps(fields, separators=(",", ":")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nAccept: */*\r\n"
        f"User-Agent: load\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


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
  upstream engine {{ server {engine}; keepalive 2048; keepalive_requests 1000000000; }}
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


@contextmanager
def nginx(site: Site) -> Iterator[Proxy]:
    """nginx: no key check, no rewriting, no log. The floor."""
    port = free_port()
    engine = f"unix:{site.upstream.socket}" if site.unix else f"127.0.0.1:{site.upstream.port}"
    config = site.folder / "nginx.conf"
    config.write_text(NGINX.format(folder=site.folder, engine=engine, port=port))
    command = [debian_program("nginx", "nginx-light"), "-c", str(config), "-p", str(site.folder)]
    with _started("nginx", command, port, site) as proxy:
        yield proxy


HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 10s
  timeout client 10m
  timeout server 10m
  http-reuse always
frontend front
  bind 127.0.0.1:{port} backlog 4096
  default_backend engine
backend engine
  server one {engine} pool-max-conn 4096
"""


@contextmanager
def haproxy(site: Site) -> Iterator[Proxy]:
    """haproxy with one thread: no key check, no rewriting, no log."""
    port = free_port()
    engine = f"unix@{site.upstream.socket}" if site.unix else f"127.0.0.1:{site.upstream.port}"
    config = site.folder / "haproxy.conf"
    config.write_text(HAPROXY.format(engine=engine, port=port))
    command = [debian_program("haproxy", "haproxy"), "-db", "-q", "-f", str(config)]
    with _started("haproxy", command, port, site) as proxy:
        yield proxy


@contextmanager
def vllm_router(site: Site) -> Iterator[Proxy]:
    """vllm-router with its cheapest policy (there is one worker to choose from)."""
    port = free_port()
    command = [
        *(str(python_package("vllm-router", "vllm-router==0.1.17") / "vllm-router"), "--policy", "round_robin"),
        *("--worker-urls", f"http://127.0.0.1:{site.upstream.port}", "--worker-startup-check-interval", "1"),
        *("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port()), "--log-level", "error"),
    ]
    with _started("vllm-router", command, port, site) as proxy:
        yield proxy


@contextmanager
def fastapi(site: Site) -> Iterator[Proxy]:
    """A proxy of FastAPI and httpx, with a key check."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway.httpx_proxy", str(port), str(site.upstream.port), KEY]
    with _started("FastAPI + httpx", command, port, site) as proxy:
        yield proxy


@contextmanager
def litellm(site: Site) -> Iterator[Proxy]:
    """LiteLLM's proxy with one worker, a master key, no database."""
    port = free_port()
    model = {"model": f"openai/{ENDPOINT}", "api_base": f"http://127.0.0.1:{site.upstream.port}/v1", "api_key": "none"}
    config = site.folder / "litellm.json"  # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": ENDPOINT, "litellm_params": model}],
                "litellm_settings": {"telemetry": False},
                "general_settings": {"master_key": KEY},
            }
        )
    )
    program = python_package("litellm", "litellm[proxy]==1.80.5") / "litellm"
    command = [
        *("env", "LITELLM_LOG=ERROR", "LITELLM_MODE=PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP=True", str(program)),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"),
        *("--telemetry", "False"),
    ]
    with _started("LiteLLM 1.80.5", command, port, site) as proxy:
        yield proxy


WORKER = """
import sys
from pathlib import Path
from roost.config import Settings
from roost.gateway.worker import run
sys.exit(run(Settings(home=Path(sys.argv[1])), 0, int(sys.argv[2])))
"""


@contextmanager
def roost(site: Site) -> Iterator[Proxy]:
    """One gateway worker as shipped."""
    settings = Settings(home=site.folder / "home")
    settings.run_dir.mkdir(parents=True, mode=0o700)
    address = f"unix:{site.upstream.socket}" if site.unix else f"http://127.0.0.1:{site.upstream.port}"
    key = RouteKey(
        *(sha256(KEY.encode()).hexdigest(), "key-1", "bench", "member"),
        requests_per_minute=NO_LIMIT,
        tokens_per_minute=NO_LIMIT,
        concurrency=NO_LIMIT,
    )
    endpoint = RouteEndpoint(
        *(ENDPOINT, "bench/m-00000000", "bench", "STARTED", True, "echo"),
        health_path="/health",
        continues=True,
        replicas=(RouteReplica("replica-1", address),),
    )
    with ExitStack() as stack:
        stack.enter_context(
            control_plane(settings.internal_socket, RoutingTable("benchmark", 1, 1, (endpoint,), (key,)))
        )
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        fd = listener.fileno()
        command = [sys.executable, "-c", WORKER, str(settings.home), str(fd)]
        yield stack.enter_context(_started("Roost", command, listener.getsockname()[1], site, pass_fds=(fd,)))


PEERS: dict[str, Callable[[Site], AbstractContextManager[Proxy]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "vllm-router": vllm_router,
    "fastapi": fastapi,
    "litellm": litellm,
    "roost": roost,
}
"""What ``--peers`` names."""


@contextmanager
def _started(name: str, command: list[str], port: int, site: Site, **options: object) -> Iterator[Proxy]:
    path = site.folder / "log"
    with (
        path.open("w") as log,
        running(
            command, site.cores.proxies, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options
        ) as process,
    ):
        proxy = Proxy(name, port, psutil.Process(process.pid))
        wait_until_serving(proxy, request_bytes("hello", 1, stream=False), path)
        yield proxy
