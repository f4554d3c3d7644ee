"""Servers that Roost does not run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roost.domain.errors import LaunchRefused
from roost.domain.replica import ExitInfo
from roost.engines.registry import engine
from roost.testing.builders import make_model
from roost.testing.engine_contract import make_launch_request

EXTERNAL = engine("external")
MODEL = make_model(engine="external", source=None, url="http://127.0.0.1:9/v1", served_model="theirs", slots=3)


def test_the_body_must_name_the_model_as_the_server_does() -> None:
    capabilities = EXTERNAL.capabilities(MODEL)
    assert (capabilities.any_model_name, capabilities.served_model, capabilities.slots) == (False, "theirs", 3)
    assert (capabilities.managed, capabilities.cancels_non_stream) == (False, True)
    assert EXTERNAL.probe(MODEL).body["model"] == "theirs"
    assert EXTERNAL.probe(MODEL).body["max_tokens"] == 1


def test_without_a_name_of_its_own_it_has_the_models_id() -> None:
    model = make_model(engine="external", served_model=None, slots=None)
    assert EXTERNAL.capabilities(model).served_model == model.id
    assert EXTERNAL.capabilities(model).slots is None


def test_it_is_asked_for_the_usage_of_streams_unless_it_would_refuse_that() -> None:
    assert EXTERNAL.capabilities(MODEL).usage_on_request
    off = replace(MODEL, options={"stream_usage": "off"})
    EXTERNAL.check_options(off)
    assert not EXTERNAL.capabilities(off).usage_on_request
    for options in ({"stream_usage": "maybe"}, {"stream_usage": "off", "batch": "1"}):
        with pytest.raises(LaunchRefused, match="stream_usage"):
            EXTERNAL.check_options(replace(MODEL, options=options))


def test_nothing_can_be_launched() -> None:
    with pytest.raises(LaunchRefused, match=r"http://127\.0\.0\.1:9"):
        EXTERNAL.build(make_launch_request(MODEL))


def test_it_is_out_of_reach() -> None:
    failure = EXTERNAL.explain(ExitInfo(cause="connection refused"))
    assert failure.code == "external_unavailable"
    assert "connection refused" in failure.message
    assert (EXTERNAL.version(), EXTERNAL.missing()) == (None, None)
