"""Endpoints, hardware, models, keys and events as rows and labelled values for people. Pure; called by the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.cli.format import at, dollars_a_minute, in_bytes, in_minutes

if TYPE_CHECKING:
    from roost.schemas import ApiKey, Endpoint, Event, Hardware, Model

ENDPOINT_COLUMNS = ("ID", "NAME", "STATE", "READY", "REPLICAS", "HARDWARE", "CREATED")
HARDWARE_COLUMNS = ("ID", "TYPE", "COUNT", "MEMORY", "PER MINUTE", "AVAILABILITY")
MODEL_COLUMNS = ("ID", "ALIAS", "TYPE", "ENGINE", "CONTEXT", "WEIGHTS")
KEY_COLUMNS = ("ID", "OWNER", "ROLE", "CREATED", "EXPIRES", "REVOKED")


def endpoint_row(endpoint: Endpoint) -> tuple[str, ...]:
    """A line of the list of endpoints."""
    return (
        endpoint.id,
        endpoint.name,
        endpoint.state,
        str(ready_replicas(endpoint)),
        bounds(endpoint),
        endpoint.hardware,
        at(endpoint.created_at),
    )


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
    pairs += [("Auto-stop", in_minutes(endpoint.inactive_timeout)), ("Created", at(endpoint.created_at))]
    if reason is not None and reason.log_tail:
        pairs += [("Engine log", reason.log_tail[0]), *(("", line) for line in reason.log_tail[1:])]
    return pairs


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
        f"{specs.gpu_memory:g} GB",
        dollars_a_minute(hardware.pricing.cents_per_minute),
        hardware.availability.status,
    )


def model_row(model: Model) -> tuple[str, ...]:
    """A line of the catalog."""
    return (model.id, model.alias or "-", model.type, model.engine, str(model.context_length), weights(model))


def model_details(model: Model) -> list[tuple[str, str]]:
    """Everything about one model."""
    pairs = [
        ("ID", model.id),
        ("Alias", model.alias or "-"),
        ("Display name", model.display_name),
        ("Type", model.type),
        ("Engine", model.engine),
        ("Context", f"{model.context_length} tokens"),
        ("Weights", weights(model)),
    ]
    if model.license:
        pairs.append(("Licence", model.license))
    return pairs


def weights(model: Model) -> str:
    """How far the weights are: ``ready``, ``absent (98.4 MB)``, ``fetching 43 % of 98.4 MB``, ``failed``."""
    download = model.download
    if download is None:
        return "-"
    size = "" if download.total_bytes is None else in_bytes(download.total_bytes)
    if download.state == "fetching":
        done = f"{in_bytes(download.done_bytes)}" if download.percent is None else f"{download.percent:.0f} %"
        return f"fetching {done}" + (f" of {size}" if size else "")
    return f"absent ({size})" if download.state == "absent" and size else download.state


def key_row(key: ApiKey) -> tuple[str, ...]:
    """A line of the list of keys."""
    expires = "never" if key.expires_at is None else at(key.expires_at)
    revoked = "-" if key.revoked_at is None else at(key.revoked_at)
    return (key.id, key.owner, key.role, at(key.created_at), expires, revoked)


def event_line(event: Event) -> str:
    """One event as a line."""
    about = " ".join(part for part in (event.endpoint_id, event.replica_id) if part)
    return "  ".join(part for part in (at(event.at), event.kind, event.actor, about, event.reason) if part)
