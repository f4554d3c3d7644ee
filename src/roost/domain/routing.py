"""The routing table: everything a gateway needs to serve without asking anyone.

Built by control from the store, sent to gateways as JSON over the internal socket, kept by them on disk. ``epoch`` and
``version`` order tables: a gateway replaces its table only by a newer one of the same or a later epoch.

Readers ignore fields that they do not know, and gateways of the release before go on while the server is updated. So
what takes something away from a key must not be one more field of it: a gateway that overlooks it would let the key do
everything. Keys that may use some endpoints only are in ``limited_keys``; who does not read that field knows no such
key, and refuses it. The exception are limits per minute and of concurrency: a gateway that overlooks them lets more of
what is allowed through, for as long as the update takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

PROTOCOL = 1
"""Version of the internal watch and report messages."""

OPENAI, LLAMA_CPP = "openai", "llama_cpp"
"""Dialects of engines."""


@dataclass(frozen=True, slots=True)
class RouteReplica:
    """A replica as a gateway sees it: ``address`` is ``unix:<path>`` or ``http://host:port[/prefix]``; ``draining``
    ones finish their requests and get no new ones. ``slots`` None means no limit."""

    id: str
    address: str
    draining: bool = False
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class RouteEndpoint:
    """An endpoint as a gateway sees it.

    ``state`` is the wire state; ``accepting`` is False when requests must be refused (stopping or stopped for good,
    failed); when it is True and no replica is ready, requests are held. ``served_model`` is the name that the engine
    must be given in the body's ``model`` field, None when the body may pass untouched. ``cancels_non_stream`` False
    means: ask the engine for a stream and aggregate. ``api_key_env`` names the variable with the upstream's own key.
    ``retry_after_s`` is how long a start takes, in seconds, as learned (None: unknown); ``ready_at`` when the one under
    way should be done, in seconds since the epoch (None: there is none, or unknown); ``phase`` what it is at (queued,
    fetching, loading, warming; None: nothing is coming up). ``message`` explains a state that does not accept.
    ``type`` is the model's (it decides which paths are served), ``context_length`` its
    tokens of context (None: unknown). ``dialect`` names what the engine wants instead of OpenAI's API (``openai``:
    nothing). ``logprobs`` False means that the engine's log probabilities must not be shown. ``continues``: the engine
    can go on from a prompt and the beginning of its answer, so that streams survive the loss of their replica.
    ``health_path`` is what its replicas answer as long as they live (None: that they can be connected to must do).
    ``usage_on_request``: its streams tell their usage only to who asks for it. ``cache_tokens`` is how many tokens of
    earlier prompts each replica keeps (None: unknown); with ``cache_whole`` it keeps each prompt by itself, so that
    what several begin with takes room in each.
    """

    id: str
    name: str
    owner: str
    state: str
    accepting: bool
    engine: str
    served_model: str | None = None
    cancels_non_stream: bool = True
    api_key_env: str | None = None
    retry_after_s: float | None = None
    message: str | None = None
    type: str = "chat"
    context_length: int | None = None
    dialect: str = OPENAI
    logprobs: bool = True
    continues: bool = False
    phase: str | None = None
    ready_at: float | None = None
    health_path: str | None = None
    usage_on_request: bool = False
    cache_tokens: int | None = None
    cache_whole: bool = False
    replicas: tuple[RouteReplica, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteKey:
    """An API key as a gateway sees it; ``expires_at`` is seconds since the epoch (None: never), ``endpoints`` are the
    ids of those that it may use (None: all of its owner's). The limits are as in ``domain.key.KeyLimits``; ``metered``
    tells whether there is any, for code that runs with each request."""

    digest: str
    id: str
    owner: str
    role: str
    expires_at: float | None = None
    endpoints: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    metered: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look once whether the key has limits."""
        some = (self.requests_per_minute, self.tokens_per_minute, self.concurrency) != (None, None, None)
        object.__setattr__(self, "metered", some)


_KEY_FIELDS = tuple(entry.name for entry in fields(RouteKey) if entry.init)


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """A complete snapshot. ``epoch`` is ``[installation id, term]``: a table of a higher term always wins.

    ``shutting_down``: the server is going away for good, so that requests must be refused and not held; within a term
    it never becomes False again.
    """

    installation: str
    term: int
    version: int
    endpoints: tuple[RouteEndpoint, ...] = ()
    keys: tuple[RouteKey, ...] = ()
    shutting_down: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON-serialisable values. The order of the keys has no meaning."""
        return {
            "installation": self.installation,
            "term": self.term,
            "version": self.version,
            "endpoints": [_endpoint_to_dict(endpoint) for endpoint in self.endpoints],
            "keys": [_key_to_dict(key) for key in self.keys if key.endpoints is None],
            "limited_keys": [_key_to_dict(key) for key in self.keys if key.endpoints is not None],
            "shutting_down": self.shutting_down,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RoutingTable:
        """Read what ``to_dict`` wrote; unknown fields are ignored (a newer peer may send more).

        Raises ``KeyError`` or ``TypeError`` when it is not a routing table.
        """
        return cls(
            installation=data["installation"],
            term=data["term"],
            version=data["version"],
            endpoints=tuple(_endpoint_from_dict(item) for item in data["endpoints"]),
            keys=_keys_from_dict(data),
            shutting_down=data.get("shutting_down") is True,
        )

    def newer_than(self, other: RoutingTable | None) -> bool:
        """Whether this table replaces ``other``."""
        if other is None or self.installation != other.installation:
            return True
        # A gateway starts with the last table on disk, but without its `shutting_down`: the same one may bring it back.
        return (self.term, self.version, self.shutting_down) > (other.term, other.version, other.shutting_down)


def _known(kind: type, item: Mapping[str, Any]) -> dict[str, Any]:
    names: tuple[str, ...] = _KEY_FIELDS if kind is RouteKey else kind.__slots__  # type: ignore[attr-defined]
    return {name: item[name] for name in names if name in item}


def _key_to_dict(key: RouteKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in _KEY_FIELDS}


def _keys_from_dict(data: Mapping[str, Any]) -> tuple[RouteKey, ...]:
    """All keys by id. Raises ``KeyError`` or ``TypeError``, also for a limited one without a list."""
    keys = [RouteKey(**_known(RouteKey, item)) for item in data["keys"]]
    # A table on disk may be of a server that put the limited ones among the others.
    keys = [key if key.endpoints is None else replace(key, endpoints=tuple(key.endpoints)) for key in keys]
    for item in data.get("limited_keys", ()):
        keys.append(RouteKey(**{**_known(RouteKey, item), "endpoints": tuple(item["endpoints"])}))
    return tuple(sorted(keys, key=lambda key: key.id))


def _endpoint_to_dict(endpoint: RouteEndpoint) -> dict[str, Any]:
    values = {name: getattr(endpoint, name) for name in RouteEndpoint.__slots__}
    values["replicas"] = [{name: getattr(r, name) for name in RouteReplica.__slots__} for r in endpoint.replicas]
    return values


def _endpoint_from_dict(item: Mapping[str, Any]) -> RouteEndpoint:
    values = _known(RouteEndpoint, item)
    values["replicas"] = tuple(RouteReplica(**_known(RouteReplica, r)) for r in item.get("replicas", ()))
    return RouteEndpoint(**values)
