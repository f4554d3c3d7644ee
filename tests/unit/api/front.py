"""The public API over the services' test world, and what every failure of it must look like."""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import FastAPI
from tests.unit.services.office import Office

from roost.api.app import create_app
from roost.testing.builders import secret_of

CREATE: dict[str, Any] = {
    "model": "test/model",
    "hardware": "1x_cpu",
    "autoscaling": {"min_replicas": 1, "max_replicas": 2},
}
BASE_URL = "http://roost.test/v1"


def app_of(office: Office) -> FastAPI:
    """The public app on the office's services."""
    return create_app(office.services, settings=office.settings, metrics=lambda: b"test_metric 1\n")


def client_of(app: FastAPI, key: int | None = 1, **headers: str) -> httpx.AsyncClient:
    """An HTTP client with the key ``secret_of(key)``."""
    if key is not None:
        headers["authorization"] = f"Bearer {secret_of(key)}"
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL, headers=headers)


def check_failure(response: httpx.Response, status: int) -> dict[str, Any]:
    """Assert that the response is an envelope which clients understand, and return its ``error``.

    The vendor's command line lower-cases the body and looks for words: each may be there only where it is meant.
    """
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert "invalid" not in error["type"]
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    text = response.text.lower()
    assert any(word in text for word in ("permission", "forbidden", "unauthorized")) == (status == 403), text
    assert any(word in text for word in ("authentication", "credentials")) == (status == 401), text
    assert ("endpoint" in text and "not found" in text) == (error["code"] == "endpoint_not_found"), text
    wrong = any(phrase in text for phrase in ("not found", "invalid", "does not exist", "not supported"))
    if error["code"] != "endpoint_not_found":
        # Looked for after a create only, which misses no endpoint.
        assert ("model" in text and wrong) == (error["code"] == "model_not_found"), text
    return dict(error)
