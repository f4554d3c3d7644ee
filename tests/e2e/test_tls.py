"""A server that speaks TLS, and every client of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from tests.e2e.server import Server

from roost import Roost, Untrusted

pytestmark = pytest.mark.e2e


def issue(folder: Path, *names: str) -> tuple[str, ...]:
    """Files of a certificate for ``names``, its key and its authority."""
    authority = trustme.CA()
    pair = authority.issue_cert(*names)
    cert, key, ca = (folder / name for name in ("cert.pem", "key.pem", "ca.pem"))
    cert.write_bytes(b"".join(part.bytes() for part in pair.cert_chain_pems))
    key.write_bytes(pair.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(ca))
    return str(cert), str(key), str(ca)


@pytest.fixture
def server(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    cert, key, ca = issue(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", ca)
    with Server(home, "--tls-cert", cert, "--tls-key", key, env={"SSL_CERT_FILE": ca}) as it:
        it.cli("models", "add", "test/echo", "--engine", "echo", "--option", "tokens_per_second=500")
        yield it


def findings(server: Server) -> dict[str, tuple[str, str]]:
    told = json.loads(server.cli("doctor", "--json").stdout)["findings"]
    return {item["check"]: (item["outcome"], item["message"]) for item in told}


def test_every_command_and_the_python_client(server: Server) -> None:
    assert server.origin.startswith("https://127.0.0.1:")
    found = findings(server)
    assert found["server"][0] == "ok", found["server"]
    assert found["credentials"][1].endswith("key accepted")
    assert server.origin in server.cli("whoami").stdout
    made = server.create("test/echo")
    said = server.cli("chat", made["id"], "hello over TLS").stdout
    assert "hello over TLS" in said
    with Roost(home=server.home) as client:
        assert [one.id for one in client.endpoints.list()] == [made["id"]]
    before = server.pid("gateway-0")
    server.cli("restart")
    assert server.pid("gateway-0") != before
    assert server.cli("chat", made["id"], "hello again").stdout.strip()
    assert findings(server)["server"][0] == "ok"
    server.cli("stop")
    assert server.process is not None
    assert server.process.wait(60) == 0


def test_a_certificate_that_nobody_trusts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    del server.env["SSL_CERT_FILE"]
    monkeypatch.delenv("SSL_CERT_FILE")
    found = findings(server)
    assert found["server"][0] == "ok", found["server"]
    assert found["credentials"][0] == "warning"
    refused = server.cli("whoami", check=False)
    assert refused.returncode == 6
    assert "Set SSL_CERT_FILE" in refused.stderr
    with Roost(home=server.home) as client, pytest.raises(Untrusted):
        client.whoami()
    server.cli("restart")
    server.cli("stop")


def test_the_servers_that_commands_make_for_themselves_speak_plainly(
    server: Server, tmp_path: Path, weights: Path
) -> None:
    cert, key, _ = issue(tmp_path, "llm.example")
    cache = tmp_path / "user" / ".cache" / "roost"
    cache.mkdir(parents=True)
    (cache / "models").symlink_to(weights)
    server.env |= {"ROOST_TLS_CERT": cert, "ROOST_TLS_KEY": key, "HOME": str(tmp_path / "user")}
    assert "Paris" in server.cli("demo").stdout
