"""What both shells need of httpx: the client's settings, requests and failures in its words. Called by them only."""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.parse import urlsplit

import httpx

from roost._version import __version__
from roost.client.credentials import Credentials, of_sandbox
from roost.client.errors import ConnectionFailed, NotConfigured, Timeout, Untrusted
from roost.client.requests import Request
from roost.config import ca_file

TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0
FOLLOWED_TIMEOUT_S = 35.0
"""A stream in which the server never is silent for more than ten seconds: three such silences mean that it is gone."""
FOLLOWED = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S, read=FOLLOWED_TIMEOUT_S)
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Failures after which the server cannot have seen the request."""

_JSON = {"content-type": "application/json"}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def client_options(credentials: Credentials, timeout: float) -> dict[str, Any]:
    """Arguments of an httpx client for this server; ``timeout`` in seconds without a byte."""
    parts = urlsplit(credentials.base_url)
    return {
        "headers": {
            "authorization": f"Bearer {credentials.api_key}",
            "user-agent": f"roost/{__version__}",
            "accept": "application/json",
            "x-stainless-read-timeout": f"{timeout:g}",
        },
        "timeout": httpx.Timeout(timeout, connect=CONNECT_TIMEOUT_S),
        # A proxy named in the environment never leads to a server on this machine.
        "trust_env": parts.hostname not in _LOOPBACK,
        "verify": _authorities() if parts.scheme == "https" else True,
    }


def _authorities() -> ssl.SSLContext:
    file = ca_file()
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:  # an ssl.SSLError is one
        raise NotConfigured(f"SSL_CERT_FILE ({file}) must be a file of certificates in PEM: {error}.") from error


def request_options(credentials: Credentials, request: Request) -> dict[str, Any]:
    """Arguments of ``build_request``."""
    options: dict[str, Any] = {"method": request.method, "url": credentials.base_url + request.path}
    if request.query:
        options["params"] = dict(request.query)
    if request.json is not None:
        options["content"] = json.dumps(request.json, ensure_ascii=False).encode("utf-8", "surrogatepass")
    options["headers"] = {**({} if request.json is None else _JSON), **request.headers}
    return options


def was_sent(error: httpx.TransportError) -> bool:
    """Whether the server may have seen the request."""
    return not isinstance(error, NEVER_SENT)


def connection_failed(error: httpx.TransportError, credentials: Credentials) -> ConnectionFailed:
    """The failure in the user's words."""
    base_url = credentials.base_url
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, NEVER_SENT):
        return Timeout(f"The server at {base_url} did not answer in time.")
    if isinstance(error, NEVER_SENT):
        cause = str(error) or "no answer to the connection attempt"
        if "CERTIFICATE_VERIFY_FAILED" in cause:
            return Untrusted(
                f"The certificate of {base_url} is not trusted ({cause}). Set SSL_CERT_FILE to the file of its "
                "authority, and use a base URL with the name that the certificate is for."
            )
        start = "roost serve --sandbox" if of_sandbox(credentials) else "roost serve"
        return ConnectionFailed(f"Cannot reach the server at {base_url} ({cause}). Is it running? Try `{start}`.")
    return ConnectionFailed(f"The connection to {base_url} broke: {str(error) or type(error).__name__}.")
