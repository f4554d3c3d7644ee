"""Endpoints, hardware, models, keys and events as rows and labelled values for people. Pure; called by the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.cli.format import at, dollars_a_minute, in_bytes, in_minutes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roost.schemas import ApiKey, Endpoint, Event, Hardware, Model

"""Columns of the lists. ``SPARE_…``: what a narrow terminal leaves out, the first one first."""
ENDPOINT_COLUMNS = ("ID", "NAME", "MODEL", "STATE", "READY", "REPLICAS", "HARDWARE", "CREATED")
SPARE_ENDPOINT_COLUMNS = ("CREATED", "NAME", "HARDWARE", "REPLICAS", "READY", "MODEL")
MODEL_ROOM = 19
"""How much of a model's name stands beside an id and a state in 80 columns."""
HARDWARE_COLUMNS = ("ID", "TYPE", "COUNT", "MEMORY (GB)", "PER MINUTE", "AVAILABILITY")
SPARE_HARDWARE_COLUMNS = ("TYPE", "COUNT", "PER MINUTE", "MEMORY (GB)")
MODEL_COLUMNS = ("ID", "ALIAS", "TYPE", "ENGINE", "CONTEXT", "SIZE", "WEIGHTS", "SOURCE", "USED BY")
SPARE_MODEL_COLUMNS = ("SOURCE", "CONTEXT", "TYPE", "ENGINE", "USED BY", "SIZE", "WEIGHTS")
KEY_COLUMNS = (
    "ID",
    "NAME",
    "OWNER",
    "ROLE",
    "STATE",
    "CREATED",
    "EXPIRES",
    "REVOKED",
    "ENDPOINTS",
    "LIMITS",
    "CURRENT",
)
SPARE_KEY_COLUMNS = ("CREATED", "REVOKED", "NAME", "EXPIRES", "LIMITS", "ENDPOINTS", "ROLE")


def endpoint_row(endpoint: Endpoint) -> tuple[str, ...]:
    """A line of the list of endpoints."""
    return (
        endpoint.id,
        endpoint.name,
        _short(endpoint.model),
        endpoint.state,
        str(ready_replicas(endpoint)),
        bounds(endpoint),
        endpoint.hardware,
        at(endpoint.created_at),
    )


def _short(model: str) -> str:
    """The last part of a model's id, cut to ``MODEL_ROOM``; the whole id is in the details."""
    name = model.rpartition("/")[2]
    return name if len(name) <= MODEL_ROOM else name[: MODEL_ROOM - 1] + "…"


def endpoint_details(endpoint: Endpoint) -> list[tuple[str, str]]:
    """Everything about one endpoint."""
    pairs = [
        ("ID", endpoint.id),
        ("Name", endpoint.name),
        ("Display name", endpoint.display_name),
        ("Model", endpoint.model),
        ("Hardware", endpoint.hardware),
        ("State", endpoint.state),
    ]
    reason = endpoint.state_reason
    if reason is not None:
        pairs.append(("Reason", reason.message))
        if reason.hint:
            pairs.append(("Hint", reason.hint))
    pairs.append(("Replicas", f"{ready_replicas(endpoint)} ready, {bounds(endpoint)} allowed"))
    pairs += [
        ("", f"{replica.id} {replica.state} on {replica.node} since {at(replica.since)}")
        for replica in endpoint.replicas
    ]
    if endpoint.availability_zone is not None:
        pairs.append(
            ("Zone", f"{endpoint.availability_zone} ({'required' if endpoint.zone_required else 'preferred'})")
        )
    pairs += [("Auto-stop", auto_stop(endpoint.inactive_timeout)), ("Created", at(endpoint.created_at))]
    if reason is not None and reason.log_tail:
        pairs += [("Engine log", reason.log_tail[0]), *(("", line) for line in reason.log_tail[1:])]
    return pairs


def auto_stop(minutes: int | None) -> str:
    """The timeout that was asked for; no server acts on it yet."""
    return f"{in_minutes(minutes)} (recorded; not in force yet)" if minutes else in_minutes(minutes)


def ready_replicas(endpoint: Endpoint) -> int:
    """How many replicas serve."""
    return sum(replica.state == "READY" for replica in endpoint.replicas)


def bounds(endpoint: Endpoint) -> str:
    """``1-3``, or ``1`` where both bounds are equal."""
    low, high = endpoint.autoscaling.min_replicas, endpoint.autoscaling.max_replicas
    return str(low) if low == high else f"{low}-{high}"


def hardware_row(hardware: Hardware) -> tuple[str, ...]:
    """A line of the list of hardware."""
    specs = hardware.specs
    return (
        hardware.id,
        specs.gpu_type,
        str(specs.gpu_count),
        f"{specs.gpu_memory:g}",
        dollars_a_minute(hardware.pricing.cents_per_minute),
        hardware.availability.status,
    )


def spare_model_columns(models: Sequence[Model]) -> tuple[str, ...]:
    """What a narrow terminal leaves out of a list of these: first the aliases, where there are none."""
    return SPARE_MODEL_COLUMNS if any(model.alias for model in models) else ("ALIAS", *SPARE_MODEL_COLUMNS)


def model_row(model: Model) -> tuple[str, ...]:
    """A line of the catalog."""
    return (
        model.id,
        model.alias or "-",
        model.type,
        model.engine,
        str(model.context_length),
        "-" if model.size_bytes is None else in_bytes(model.size_bytes),
        _state(model),
        _place(model),
        _users(model),
    )


def _state(model: Model) -> str:
    """How far the weights are, without their size."""
    download = model.download
    if download is None or model.engine == "external":
        return "-"
    if download.state == "absent" and _in_place(model):
        return "in place"
    percent = f" {download.percent:.0f} %" if download.state == "fetching" and download.percent is not None else ""
    return download.state + percent


def _in_place(model: Model) -> bool:
    """Whether the weights are a file of the server's machine that is used where it lies."""
    return model.source is not None and model.source.kind == "file"


def _place(model: Model) -> str:
    """Where the weights come from, as ``models add`` takes it, without the file; or where the model runs."""
    source = model.source
    if source is None:
        return model.url or "-"
    if source.location is None:
        return f"{source.kind} (shown to admins)"
    return source.location if source.kind == "http" else f"{source.kind}:{source.location.removeprefix('file:')}"


def _users(model: Model) -> str:
    more = len(model.used_by) - 1
    return "-" if not model.used_by else model.used_by[0] + (f" and {more} more" if more else "")


def model_details(model: Model) -> list[tuple[str, str]]:
    """Everything about one model."""
    pairs = [
        ("ID", model.id),
        ("Alias", model.alias or "-"),
        ("Display name", model.display_name),
        ("Type", model.type),
        ("Engine", model.engine),
        ("Context", f"{model.context_length} tokens"),
        ("Slots", "the engine's default" if model.slots is None else str(model.slots)),
        *(("Option", f"{name}={value}") for name, value in model.options.items()),
        ("Source", _place(model)),
    ]
    if model.source is not None and model.source.member is not None:
        pairs.append(("", model.source.member))
    pairs.append(("Weights", weights(model)))
    if model.download is not None and model.download.path is not None:
        pairs.append(("", model.download.path))
    if model.download is not None and model.download.error is not None:
        pairs.append(("", model.download.error))
    if model.license:
        pairs.append(("Licence", model.license))
    pairs.extend(("Used by" if number == 0 else "", name) for number, name in enumerate(model.used_by))
    return pairs


def weights(model: Model) -> str:
    """How far the weights are: ``ready``, ``absent (98.4 MB)``, ``fetching 43 % of 98.4 MB``, ``failed``."""
    download = model.download
    if model.engine == "external":
        return "none (runs elsewhere)"
    if download is None:
        return "-"
    if download.state == "absent" and _in_place(model):
        return "in place" + (f" ({in_bytes(model.size_bytes)})" if model.size_bytes is not None else "")
    size = "" if download.total_bytes is None else in_bytes(download.total_bytes)
    if download.state == "fetching":
        done = f"{in_bytes(download.done_bytes)}" if download.percent is None else f"{download.percent:.0f} %"
        return f"fetching {done}" + (f" of {size}" if size else "")
    return f"absent ({size})" if download.state == "absent" and size else download.state


def key_row(key: ApiKey, current: str) -> tuple[str, ...]:
    """A line of the list of keys; ``current`` is the id of the key in use."""
    expires = "never" if key.expires_at is None else at(key.expires_at)
    revoked = "-" if key.revoked_at is None else at(key.revoked_at)
    listed = "all" if key.endpoints is None else ",".join(key.endpoints)
    return (
        key.id,
        key.name or "-",
        key.owner,
        key.role,
        key.state,
        at(key.created_at),
        expires,
        revoked,
        listed,
        key_limits(key) or "-",
        "this key" if key.id == current else "-",
    )


def key_limits(key: ApiKey) -> str:
    """A key's limits in words; empty when it has none."""
    limits = ((key.requests_per_minute, "requests/min"), (key.tokens_per_minute, "tokens/min"))
    told = [f"{limit} {what}" for limit, what in limits if limit is not None]
    return ", ".join(told if key.concurrency is None else [*told, f"{key.concurrency} at once"])


def event_line(event: Event, *, of_one: bool) -> str:
    """One event as a line; with ``of_one`` all events are of one endpoint, which then goes without saying."""
    about = " ".join(part for part in (None if of_one else event.endpoint_id, event.replica_id) if part)
    what = event.reason
    if event.kind == "endpoint.state" and {"from", "to"} <= event.data.keys():
        what = f"{event.data['from']} -> {event.data['to']}: {event.reason}"
    return "  ".join(part for part in (at(event.at), event.kind, event.actor, about, what) if part)
