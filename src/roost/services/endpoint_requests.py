"""What a user may ask of an endpoint, checked: requests become specs. Pure; called by ``services.endpoints``.

Messages name the field and say what it accepts. They keep clear of words that a client would take for another failure
("model" together with "invalid" or "not found", "endpoint" together with "not found").
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from roost.domain.endpoint import Autoscaling, EndpointSpec
from roost.domain.errors import BadRequest
from roost.domain.lifecycle import DesiredState, State

MAX_REPLICAS = 1000
MAX_NAME_LENGTH = 256
MAX_TIMEOUT_MINUTES = 10_000_000


class Unset(Enum):
    """The type of ``UNSET``."""

    UNSET = "unset"


UNSET = Unset.UNSET
"""The value of a field that the request does not have, where None means something."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Autoscaling as asked for; None leaves a bound as it is."""

    min_replicas: int | None = None
    max_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class EndpointDraft:
    """A new endpoint as asked for. None means absent, except for ``inactive_timeout`` (minutes), where None and 0 mean
    never."""

    model: str | None = None
    hardware: str | None = None
    autoscaling: Bounds | None = None
    display_name: str | None = None
    state: str | None = None
    inactive_timeout: int | Unset | None = UNSET
    availability_zone: str | None = None
    zone_required: bool = False
    disable_speculative_decoding: bool = False


@dataclass(frozen=True, slots=True)
class EndpointChange:
    """What is to change of an endpoint; None (or ``UNSET``) leaves a field as it is."""

    display_name: str | None = None
    state: str | None = None
    autoscaling: Bounds | None = None
    inactive_timeout: int | Unset | None = UNSET


def required(value: str | None, field: str) -> str:
    """``value``, which must be there and not empty. Raises ``BadRequest``."""
    if not value:
        raise BadRequest(f"{field} is required.", param=field, code="missing_field")
    return value


def new_autoscaling(bounds: Bounds | None) -> Autoscaling:
    """The autoscaling of a new endpoint; both bounds are required. Raises ``BadRequest``."""
    if bounds is None:
        raise BadRequest(
            "autoscaling is required: {min_replicas, max_replicas}.", param="autoscaling", code="missing_field"
        )
    for field in ("min_replicas", "max_replicas"):
        if getattr(bounds, field) is None:
            raise BadRequest(f"autoscaling.{field} is required.", param=f"autoscaling.{field}", code="missing_field")
    assert bounds.min_replicas is not None
    assert bounds.max_replicas is not None
    return _checked(Autoscaling(bounds.min_replicas, bounds.max_replicas))


def merged_autoscaling(old: Autoscaling, bounds: Bounds) -> Autoscaling:
    """``old`` with the bounds that are asked for. Raises ``BadRequest`` when the result makes no sense."""
    low = old.min_replicas if bounds.min_replicas is None else bounds.min_replicas
    high = old.max_replicas if bounds.max_replicas is None else bounds.max_replicas
    return _checked(Autoscaling(low, high))


def _checked(autoscaling: Autoscaling) -> Autoscaling:
    low, high = autoscaling.min_replicas, autoscaling.max_replicas
    if low < 0:
        raise BadRequest(f"autoscaling.min_replicas must be 0 or more, not {low}.", param="autoscaling.min_replicas")
    if not 1 <= high <= MAX_REPLICAS:
        raise BadRequest(
            f"autoscaling.max_replicas must be 1 to {MAX_REPLICAS}, not {high}.", param="autoscaling.max_replicas"
        )
    if low > high:
        raise BadRequest(
            f"autoscaling.min_replicas ({low}) must not exceed autoscaling.max_replicas ({high}).",
            param="autoscaling.min_replicas",
        )
    return autoscaling


def timeout_of(minutes: int | None) -> timedelta | None:
    """``inactive_timeout`` as a duration; None and 0 mean never. Raises ``BadRequest``."""
    if minutes is not None and not 0 <= minutes <= MAX_TIMEOUT_MINUTES:
        raise BadRequest(
            f"inactive_timeout must be 0 to {MAX_TIMEOUT_MINUTES} minutes (0 or null: never), not {minutes}.",
            param="inactive_timeout",
        )
    return timedelta(minutes=minutes) if minutes else None


def desired_of(state: str) -> DesiredState:
    """The state that is asked for. Raises ``BadRequest``."""
    try:
        return DesiredState(state)
    except ValueError:
        raise BadRequest("state must be STARTED or STOPPED.", param="state") from None


def display_name_of(name: str | None, model_id: str) -> str:
    """The display name, which falls back to the model's id. Raises ``BadRequest``."""
    if not name:
        return model_id
    if len(name) > MAX_NAME_LENGTH:
        raise BadRequest(
            f"display_name must have at most {MAX_NAME_LENGTH} characters, not {len(name)}.", param="display_name"
        )
    if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name):
        raise BadRequest("display_name must not hold control characters.", param="display_name")
    return name


def changed_spec(spec: EndpointSpec, state: State, change: EndpointChange) -> EndpointSpec:
    """``spec`` with all of ``change``; equal to it when nothing changes. Raises ``BadRequest``.

    STARTED asked of a stopped or failed endpoint counts as a new wish to start.
    """
    new = spec
    if change.display_name is not None:
        new = replace(new, display_name=display_name_of(change.display_name, spec.model))
    if change.autoscaling is not None:
        new = replace(new, autoscaling=merged_autoscaling(spec.autoscaling, change.autoscaling))
    if not isinstance(change.inactive_timeout, Unset):
        new = replace(new, inactive_timeout=timeout_of(change.inactive_timeout))
    if change.state is not None:
        desired = desired_of(change.state)
        starts = desired is DesiredState.STARTED and (spec.desired_state is not desired or state is State.ERROR)
        new = replace(new, desired_state=desired, start_requests=spec.start_requests + int(starts))
    return new


def differences(old: EndpointSpec, new: EndpointSpec) -> dict[str, str]:
    """What a change changes, by wire field, as ``"<old> -> <new>"``."""
    before, after = _shown(old), _shown(new)
    return {field: f"{before[field]} -> {after[field]}" for field in before if before[field] != after[field]}


def _shown(spec: EndpointSpec) -> dict[str, str]:
    minutes = "never" if spec.inactive_timeout is None else f"{spec.inactive_timeout // timedelta(minutes=1)} min"
    return {
        "state": spec.desired_state.value,
        "min_replicas": str(spec.autoscaling.min_replicas),
        "max_replicas": str(spec.autoscaling.max_replicas),
        "inactive_timeout": minutes,
        "display_name": spec.display_name,
    }
