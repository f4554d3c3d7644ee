"""Logs are JSON lines for files and never carry credentials or what users say."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from roost.telemetry.logging import CONTENT_NAMES, HIDDEN, SECRET_NAMES, configure, redact

ISSUED = "roost-" + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_structlog_line_is_one_json_object(stream: io.StringIO) -> None:
    configure("info", process="control", stream=stream)
    structlog.get_logger("roost.test").info("replica ready", replica="replica-1", seconds=0.5)
    [line] = lines(stream)
    assert line["event"] == "replica ready"
    assert line["process"] == "control"
    assert line["level"] == "info"
    assert line["logger"] == "roost.test"
    assert line["seconds"] == 0.5
    assert line["timestamp"].endswith("Z")


def test_the_standard_library_logger_ends_in_the_same_stream(stream: io.StringIO) -> None:
    configure("warning", process="gateway-0", stream=stream)
    log = logging.getLogger("some.library")
    log.info("not shown")
    log.warning("worth %s", "reading", extra={"api_key": ISSUED})
    [line] = lines(stream)
    assert line["event"] == "worth reading"
    assert line["api_key"] == HIDDEN


def test_levels_filter_structlog_too(stream: io.StringIO) -> None:
    configure("error", process="control", stream=stream)
    structlog.get_logger("roost.test").warning("hidden")
    structlog.get_logger("roost.test").error("shown")
    assert [line["event"] for line in lines(stream)] == ["shown"]


def test_tracebacks_are_text_in_the_line_and_redacted(stream: io.StringIO) -> None:
    configure("info", process="control", stream=stream)
    try:
        raise ValueError(f"the key {ISSUED} is refused")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "ValueError" in lines(stream)[0]["exception"]
    assert ISSUED not in stream.getvalue()
    assert HIDDEN in stream.getvalue()


@pytest.mark.parametrize("name", sorted(SECRET_NAMES | CONTENT_NAMES))
def test_fields_are_hidden_by_name_at_any_depth(name: str) -> None:
    event = redact(None, "info", {"event": "x", "request": {name.upper().replace("_", "-"): "s3cr3t"}})
    assert event["request"] == {name.upper().replace("_", "-"): HIDDEN}


def test_passwords_in_urls_are_hidden_and_the_rest_stays() -> None:
    event = redact(None, "info", {"event": "connecting to postgresql+psycopg://roost:hunter2@db:5432/roost"})
    assert event["event"] == f"connecting to postgresql+psycopg://roost:{HIDDEN}@db:5432/roost"


def test_absent_secrets_stay_absent() -> None:
    assert redact(None, "info", {"event": "x", "api_key": None})["api_key"] is None


@given(key=st.from_regex(r"\A[A-Za-z0-9_-]{16,40}\Z"), before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_bearer_token_survives_in_any_text(key: str, before: str, after: str) -> None:
    token = f"Q{key}Q"
    cleaned = redact(None, "info", {"event": f"{before} Bearer {token} {after}"})["event"]
    assert f"Bearer {token}" not in cleaned
    assert f"Bearer {HIDDEN}" in cleaned
