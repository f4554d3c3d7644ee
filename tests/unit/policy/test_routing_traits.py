"""What the routing table tells gateways of an endpoint's engine and model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roost.control.routes import traits_of
from roost.domain.hardware import Hardware, Resources
from roost.domain.model import Fetch, FetchState, Footprint
from roost.domain.routing import LLAMA_CPP, OPENAI, RouteEndpoint, RoutingTable
from roost.policy.routing import EngineTraits, route_endpoints
from roost.testing.builders import make_endpoint, make_model


def route(traits: EngineTraits | None, *, disabled: bool = False) -> RouteEndpoint:
    assert traits is not None
    endpoint = make_endpoint()
    endpoint = replace(endpoint, spec=replace(endpoint.spec, disable_speculative_decoding=disabled))
    (found,) = route_endpoints([endpoint], [], {endpoint.id: traits})
    return found


@pytest.mark.parametrize(
    ("speculation", "disabled", "true"), [("off", False, True), ("on", False, False), ("on", True, True)]
)
def test_log_probabilities_are_shown_unless_speculation_spoils_them(
    speculation: str, disabled: bool, true: bool
) -> None:
    model = make_model(engine="llama_cpp", options={"speculation": speculation})
    assert route(traits_of(model), disabled=disabled).logprobs is true


def test_the_models_type_and_context_and_the_engines_dialect_are_told() -> None:
    found = route(traits_of(make_model(engine="llama_cpp", type="rerank", context_length=512)))
    assert (found.type, found.context_length, found.dialect) == ("rerank", 512, LLAMA_CPP)
    # Whatever an entry says of somebody else's server, its context is that server's business.
    external = make_model(engine="external", source=None, url="http://127.0.0.1:1", context_length=512)
    found = route(traits_of(external))
    assert (found.context_length, found.dialect) == (None, OPENAI)


def test_gateways_ask_for_usage_where_the_engine_tells_it_on_request_only() -> None:
    asked = {
        engine: route(traits_of(make_model(engine=engine, url="http://127.0.0.1:1"))).usage_on_request
        for engine in ("echo", "external", "llama_cpp")
    }
    assert asked == {"echo": True, "external": True, "llama_cpp": False}
    # An older control plane says nothing of it: then nobody is asked.
    old = RoutingTable("i", 1, 1, (route(traits_of(make_model(engine="echo"))),)).to_dict()
    del old["endpoints"][0]["usage_on_request"]
    assert not RoutingTable.from_dict(old).endpoints[0].usage_on_request


def test_a_table_carries_them_and_one_of_an_older_server_is_read_as_openais() -> None:
    told = route(traits_of(make_model(engine="llama_cpp", type="embedding")))
    table = RoutingTable("i", 1, 1, (told,))
    assert RoutingTable.from_dict(table.to_dict()) == table
    old = table.to_dict()
    for name in ("type", "context_length", "dialect", "logprobs", "cache_tokens"):
        del old["endpoints"][0][name]
    (read,) = RoutingTable.from_dict(old).endpoints
    assert (read.type, read.context_length, read.dialect, read.logprobs) == ("chat", None, OPENAI, True)


def test_what_a_replica_keeps_of_prompts_follows_from_its_hardware_and_the_weights() -> None:
    hardware = Hardware("1x_cpu", "cpu", "cpu", 1, "", 4.0, 0.0, Resources(threads=1, memory_bytes=4 * 1024**3))
    model = make_model(engine="llama_cpp", slots=1, context_length=2048, options={"prompt_cache_mib": "100"})
    fetch = Fetch(model.id, FetchState.READY, footprint=Footprint(100_000_000, 20_480))
    assert route(traits_of(model, fetch, hardware)).cache_tokens == 2048 + 100 * 1024**2 // 20_480
    assert route(traits_of(model, fetch)).cache_tokens == 2048, "what the hardware leaves is unknown"
    assert route(traits_of(model)).cache_whole, "llama.cpp keeps each prompt by itself"
    external = make_model(engine="external", source=None, url="http://127.0.0.1:1", slots=4)
    assert route(traits_of(external, None, hardware)).cache_tokens is None
    assert not route(traits_of(external)).cache_whole
    assert route(traits_of(replace(model, engine="echo"), fetch, hardware)).cache_tokens is None
