"""Domain objects as wire models. Pure; called by routes.

Texts that come from engines (reasons, log lines) may hold halves of surrogate pairs, which UTF-8 has no place for: they
are replaced here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import cast

from roost import schemas
from roost.domain.endpoint import Endpoint, Progress, StateReason
from roost.domain.event import Event
from roost.domain.hardware import Offer
from roost.domain.key import ApiKey
from roost.domain.log import ReplicaLog
from roost.domain.model import Fetch, Footprint, Model, Source
from roost.domain.replica import Replica
from roost.models.location import without_secrets
from roost.services.access import Principal
from roost.services.models import CatalogItem


def endpoint_view(endpoint: Endpoint, replicas: Sequence[Replica]) -> schemas.Endpoint:
    """An endpoint with its replicas. ``updated_at`` is the last change of what is wanted or of the state."""
    spec, status = endpoint.spec, endpoint.status
    timeout = spec.inactive_timeout
    return schemas.Endpoint(
        id=endpoint.id,
        name=endpoint.name,
        display_name=spec.display_name,
        model=spec.model,
        hardware=spec.hardware,
        owner=endpoint.owner,
        state=status.state.value,
        autoscaling=schemas.Autoscaling(
            min_replicas=spec.autoscaling.min_replicas, max_replicas=spec.autoscaling.max_replicas
        ),
        created_at=endpoint.created_at,
        updated_at=max(endpoint.updated_at, status.changed_at or endpoint.updated_at),
        inactive_timeout=None if timeout is None else timeout // timedelta(minutes=1),
        availability_zone=spec.availability_zone,
        zone_required=spec.zone_required,
        disable_speculative_decoding=spec.disable_speculative_decoding,
        state_reason=None if status.reason is None else _reason(status.reason),
        progress=None if status.progress is None else _progress(status.progress),
        replicas=[_replica(replica) for replica in replicas],
    )


def endpoint_list(endpoints: Sequence[Endpoint], replicas: Mapping[str, Sequence[Replica]]) -> schemas.EndpointList:
    """Endpoints with their replicas, which are given by endpoint."""
    return schemas.EndpointList(data=[endpoint_view(item, replicas.get(item.id, ())) for item in endpoints])


def _reason(reason: StateReason) -> schemas.StateReason:
    return schemas.StateReason(
        code=reason.code,
        message=plain(reason.message),
        hint=None if reason.hint is None else plain(reason.hint),
        phase=reason.phase,
        since=reason.since,
        deadline=reason.deadline,
        log_tail=[plain(line) for line in reason.log_tail],
    )


def _progress(progress: Progress) -> schemas.Progress:
    return schemas.Progress(
        phase=progress.phase,
        percent=progress.percent,
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
    )


def _replica(replica: Replica) -> schemas.Replica:
    return schemas.Replica(
        id=replica.id,
        state=replica.state.value,
        node=replica.node_id,
        zone=replica.zone,
        since=replica.ready_at or replica.created_at,
        reason=plain(replica.reason),
    )


def hardware_view(offer: Offer) -> schemas.Hardware:
    """A configuration with what is free of it."""
    hardware = offer.hardware
    return schemas.Hardware.model_validate(
        {
            "id": hardware.id,
            "pricing": {"cents_per_minute": hardware.cents_per_minute},
            "specs": {
                "gpu_type": hardware.gpu_type,
                "gpu_link": hardware.gpu_link,
                "gpu_memory": hardware.memory_gb,
                "gpu_count": hardware.gpu_count,
            },
            "availability": {"status": offer.availability},
            "updated_at": offer.updated_at,
        }
    )


def model_view(item: CatalogItem) -> schemas.Model:
    """A model and how far its weights are."""
    model = item.model
    organization = model.organization or (model.id.partition("/")[0] if "/" in model.id else "")
    return schemas.Model(
        id=model.id,
        created=int(model.created_at.timestamp()) if model.created_at else 0,
        type=model.type,
        display_name=plain(model.display_name or model.id),
        organization=plain(organization),
        owned_by=plain(organization),
        context_length=model.context_length,
        license=plain(model.license or ""),
        alias=model.alias,
        engine=model.engine,
        built_in=model.built_in,
        download=_download(item.fetch),
        source=None if model.source is None else _source(model.source),
        size_bytes=item.fetch.total_bytes or _known_size(model),
        slots=model.slots,
        options={plain(name): plain(text) for name, text in model.options.items()},
        url=model.url,
        served_model=None if model.served_model is None else plain(model.served_model),
        used_by=list(item.used_by),
    )


def _known_size(model: Model) -> int | None:
    """The size of weights that were not looked at yet, as the entry has it; a file's was found when it was added."""
    source = model.source
    if source is None or source.size_bytes is not None:
        return None if source is None else source.size_bytes
    return model.footprint.weights_bytes if source.kind == "file" and model.footprint is not None else None


def _source(source: Source) -> schemas.WeightsSource:
    return schemas.WeightsSource(
        kind=source.kind,
        location=plain(without_secrets(source.location)) or None,
        member=None if source.member is None else plain(source.member),
        sha256=source.sha256,
        size_bytes=source.size_bytes,
    )


def _download(fetch: Fetch) -> schemas.Download:
    return schemas.Download(
        state=fetch.state.value,
        percent=fetch.percent,
        done_bytes=fetch.done_bytes,
        total_bytes=fetch.total_bytes,
        error=None if fetch.error is None else plain(fetch.error),
        error_code=fetch.error_code,
        path=None if fetch.path is None else plain(fetch.path),
    )


def model_of(body: schemas.ModelCreate) -> Model:
    """A catalog entry as asked for."""
    source = body.source
    return Model(
        id=body.id,
        engine=body.engine,
        source=None
        if source is None
        else Source(source.kind, source.location, source.member, source.sha256, source.size_bytes),
        alias=body.alias,
        type=body.type,
        display_name=body.display_name or body.id,
        organization=body.organization or "",
        license=body.license,
        context_length=body.context_length,
        slots=body.slots,
        url=body.url,
        served_model=body.served_model,
        api_key_env=body.api_key_env,
        options=body.options,
        footprint=None
        if body.footprint is None
        else Footprint(body.footprint.weights_bytes, body.footprint.kv_bytes_per_token),
    )


def key_view(key: ApiKey, now: datetime) -> schemas.ApiKey:
    """A key as it is at ``now``, without its secret."""
    return schemas.ApiKey(
        id=key.id,
        owner=key.owner,
        role=key.role.value,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        state=key.state(now).value,
        name=key.name,
        endpoints=_listed(key.endpoints),
        **asdict(key.limits),
    )


def event_view(event: Event) -> schemas.Event:
    """A stored event."""
    return schemas.Event(
        id=event.id,
        # Given by the store to everything that it returns.
        sequence=cast(int, event.sequence),
        at=event.at,
        kind=event.kind,
        actor=event.actor,
        reason=plain(event.reason),
        endpoint_id=event.endpoint_id,
        replica_id=event.replica_id,
        data={plain(name): plain(text) for name, text in event.data.items()},
    )


def log_lines(logs: Sequence[ReplicaLog]) -> list[schemas.LogLine]:
    """The lines of several replicas, those of one after those of the other."""
    return [schemas.LogLine(replica_id=log.replica_id, line=plain(line)) for log in logs for line in log.lines]


def whoami_view(principal: Principal) -> schemas.Whoami:
    """The flat shape; an owner is organization and project in one."""
    owner = principal.owner
    return schemas.Whoami(
        api_key_id=principal.key_id,
        organization_id=owner,
        organization_name=owner,
        project_id=owner,
        project_name=owner,
        project_slug=_slug(owner),
        owner=owner,
        role=principal.role.value,
        endpoints=_listed(principal.endpoints),
        expires_at=principal.expires_at,
        **asdict(principal.limits),
    )


def whoami_nested(principal: Principal) -> schemas.WhoamiNested:
    """The nested shape."""
    owner = principal.owner
    return schemas.WhoamiNested(
        api_key=schemas.WhoamiKey(id=principal.key_id),
        organization=schemas.WhoamiOrganization(id=owner, name=owner),
        project=schemas.WhoamiProject(id=owner, name=owner, slug=_slug(owner)),
    )


def plain(text: str) -> str:
    """``text`` as UTF-8 can carry it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _listed(endpoints: Sequence[str] | None) -> list[str] | None:
    return None if endpoints is None else list(endpoints)


def _slug(owner: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in owner.lower())
