"""The routing table from the rows of the store: pure. Called by ``control.routes``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roost.domain.endpoint import Endpoint
from roost.domain.key import ApiKey
from roost.domain.lifecycle import DesiredState, State
from roost.domain.replica import Replica, ReplicaState
from roost.domain.routing import OPENAI, RouteEndpoint, RouteKey, RouteReplica
from roost.policy.waking import Kind, learned, outlook


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """What the gateway must know of an endpoint's engine and model."""

    engine: str
    served_model: str | None
    cancels_non_stream: bool
    api_key_env: str | None
    slots: int | None
    type: str = "chat"
    context_length: int | None = None
    dialect: str = OPENAI
    speculation_spoils_logprobs: bool = False
    can_continue: bool = False
    health_path: str | None = None
    usage_on_request: bool = False
    cache_tokens: int | None = None
    cache_whole: bool = False


def route_endpoints(
    endpoints: Sequence[Endpoint], replicas: Sequence[Replica], traits: Mapping[str, EngineTraits]
) -> tuple[RouteEndpoint, ...]:
    """One route per endpoint whose model is known (``traits`` by endpoint id), with its serving replicas."""
    by_endpoint: dict[str, list[Replica]] = {}
    for replica in replicas:
        by_endpoint.setdefault(replica.endpoint_id, []).append(replica)
    alike = learned(endpoints)
    return tuple(
        _route(endpoint, by_endpoint.get(endpoint.id, []), traits[endpoint.id], alike)
        for endpoint in sorted(endpoints, key=lambda e: e.id)
        if endpoint.id in traits and endpoint.deleted_at is None
    )


def _route(
    endpoint: Endpoint, replicas: Sequence[Replica], traits: EngineTraits, alike: Mapping[Kind, tuple[float, ...]]
) -> RouteEndpoint:
    stopped = endpoint.spec.desired_state is DesiredState.STOPPED
    failed = endpoint.status.state is State.ERROR and endpoint.status.failures_of >= endpoint.spec.start_requests
    state = endpoint.status.state
    if stopped and state not in (State.STOPPING, State.STOPPED):
        state = State.STOPPING
    serving = (ReplicaState.READY, ReplicaState.DRAINING)
    coming = outlook(endpoint, replicas, alike)
    return RouteEndpoint(
        id=endpoint.id,
        name=endpoint.name,
        owner=endpoint.owner,
        state=state.value,
        accepting=not stopped and not failed,
        engine=traits.engine,
        served_model=traits.served_model,
        cancels_non_stream=traits.cancels_non_stream,
        api_key_env=traits.api_key_env,
        message=endpoint.status.reason.message if endpoint.status.reason is not None else None,
        type=traits.type,
        context_length=traits.context_length,
        dialect=traits.dialect,
        logprobs=not traits.speculation_spoils_logprobs or endpoint.spec.disable_speculative_decoding,
        continues=traits.can_continue,
        health_path=traits.health_path,
        usage_on_request=traits.usage_on_request,
        cache_tokens=traits.cache_tokens,
        cache_whole=traits.cache_whole,
        retry_after_s=coming.start_s,
        phase=coming.phase,
        ready_at=coming.ready_at,
        replicas=tuple(
            RouteReplica(r.id, r.address, r.state is ReplicaState.DRAINING, traits.slots)
            for r in sorted(replicas, key=lambda r: r.id)
            if r.address is not None and r.state in serving
        ),
    )


def route_keys(keys: Sequence[ApiKey]) -> tuple[RouteKey, ...]:
    """The keys that are not revoked; gateways check the expiry themselves."""
    return tuple(
        RouteKey(
            digest=key.digest,
            id=key.id,
            owner=key.owner,
            role=key.role.value,
            expires_at=key.expires_at.timestamp() if key.expires_at is not None else None,
            endpoints=key.endpoints,
            requests_per_minute=key.limits.requests_per_minute,
            tokens_per_minute=key.limits.tokens_per_minute,
            concurrency=key.limits.concurrency,
        )
        for key in sorted(keys, key=lambda k: k.id)
        if key.revoked_at is None
    )
