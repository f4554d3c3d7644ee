"""``roost endpoints …``: create, look at, change, start, stop and delete endpoints. Uses the client only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from roost.cli import describe
from roost.cli.commands.logs import logs
from roost.cli.failure import CommandFailed, ExitCode
from roost.cli.group import EndpointCommand, EndpointsGroup
from roost.cli.options import (
    DisplayName,
    EndpointArgument,
    EndpointType,
    ForModel,
    HardwareId,
    InactiveTimeout,
    MaxReplicas,
    MinReplicas,
    ModelArgument,
    ModelToDeploy,
    NoAutoStart,
    NoPromptCache,
    NoSpeculation,
    Timeout,
    UsageType,
    WaitStarted,
    WaitStopped,
    Zone,
)
from roost.cli.session import Json, Session, with_session

if TYPE_CHECKING:
    from roost.client.requests import Answer, Call
    from roost.client.waiting import Target
    from roost.schemas import Endpoint

app = typer.Typer(name="endpoints", cls=EndpointsGroup, no_args_is_help=True, rich_markup_mode=None)


T = TypeVar("T")

_NO_ENDPOINTS = "No endpoints yet. Create one with `roost endpoints create`."


def create(
    session: Session,
    model: ModelToDeploy = None,
    hardware: HardwareId = None,
    min_replicas: Annotated[int, MinReplicas] = 1,
    max_replicas: Annotated[int | None, MaxReplicas] = None,
    display_name: DisplayName = None,
    no_auto_start: NoAutoStart = False,
    no_speculative_decoding: NoSpeculation = False,
    no_prompt_cache: NoPromptCache = False,
    availability_zone: Zone = None,
    inactive_timeout: InactiveTimeout = None,
    wait: WaitStarted = False,
    timeout: Timeout = None,
    json: Json = False,
    model_argument: ModelArgument = None,
) -> None:
    """Create an endpoint. It deploys a model on hardware of its own.

    Without --max-replicas, the maximum is the minimum, and at least 1.
    """
    from roost.client import requests

    chosen = _model_of(model, model_argument)
    most = max(1, min_replicas) if max_replicas is None else max_replicas
    _check_bounds(min_replicas, most)
    _check_timeout(wait, timeout)
    if wait and no_auto_start:
        raise CommandFailed("--wait cannot be met with --no-auto-start: leave one out.", code=ExitCode.USAGE)
    if no_prompt_cache:
        session.out.note("Warning: --no-prompt-cache is deprecated and has no effect.")
    if not hardware:
        raise CommandFailed("Missing option --hardware.", lines=_hardware_for(session, chosen), code=ExitCode.USAGE)
    call = requests.create_endpoint(
        model=chosen,
        hardware=hardware,
        autoscaling={"min_replicas": min_replicas, "max_replicas": most},
        display_name=display_name,
        state="STOPPED" if no_auto_start else "STARTED",
        inactive_timeout=requests.UNSET if inactive_timeout is None else inactive_timeout,
        availability_zone=availability_zone,
        disable_speculative_decoding=no_speculative_decoding,
    )
    answer = _about_model(session, call, chosen)
    if wait:
        session.out.note(f"Created {answer.value.id}.")
        answer = _wait(session, answer, "STARTED", timeout)
    _show(session, answer, json)


def retrieve(session: Session, endpoint: EndpointArgument, json: Json = False) -> None:
    """Show an endpoint."""
    from roost.client import requests

    _show(session, session.client.send(requests.retrieve_endpoint(endpoint)), json)


def list_(
    session: Session,
    mine: Annotated[bool, typer.Option("--mine", help="Only my own.")] = False,
    type: Annotated[EndpointType | None, typer.Option("--type", help="Only of this type.")] = None,
    usage_type: Annotated[UsageType | None, typer.Option("--usage-type", help="Only of this usage.")] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="ID", help="Only those that follow this one in the list.")
    ] = None,
    json: Json = False,
) -> None:
    """List endpoints, newest first."""
    from roost.client import requests

    answer = session.client.send(
        requests.list_endpoints(
            type=None if type is None else type.value,
            usage_type=None if usage_type is None else usage_type.value,
            mine=True if mine else None,
        )
    )
    skipped = 0 if after is None else _position(answer.value.data, after)
    if json:
        session.out.json({**answer.json, "data": answer.json["data"][skipped:]})
        return
    rows = [describe.endpoint_row(endpoint) for endpoint in answer.value.data[skipped:]]
    filters = [
        *([f"--after {after}"] if after else []),
        *(["--mine"] if mine else []),
        *([f"--type {type.value}"] if type else []),
        *([f"--usage-type {usage_type.value}"] if usage_type else []),
    ]
    none = f"No endpoint matches {' '.join(filters)}." if filters else _NO_ENDPOINTS
    session.out.table(describe.ENDPOINT_COLUMNS, rows, spare=describe.SPARE_ENDPOINT_COLUMNS, empty=none)


def update(
    session: Session,
    endpoint: EndpointArgument,
    min_replicas: Annotated[
        int | None, typer.Option("--min-replicas", metavar="N", min=0, help="New minimum of replicas.")
    ] = None,
    max_replicas: Annotated[
        int | None, typer.Option("--max-replicas", metavar="N", min=1, help="New maximum of replicas.")
    ] = None,
    display_name: DisplayName = None,
    inactive_timeout: InactiveTimeout = None,
    json: Json = False,
) -> None:
    """Change an endpoint; what is not given stays."""
    from roost.client import requests

    if min_replicas is not None and max_replicas is not None:
        _check_bounds(min_replicas, max_replicas)
    bounds = {"min_replicas": min_replicas, "max_replicas": max_replicas}
    autoscaling = {name: bound for name, bound in bounds.items() if bound is not None}
    if not autoscaling and display_name is None and inactive_timeout is None:
        raise CommandFailed(
            "Nothing to change: give --min-replicas, --max-replicas, --display-name or --inactive-timeout.",
            code=ExitCode.USAGE,
        )
    call = requests.update_endpoint(
        endpoint,
        display_name=display_name,
        autoscaling=autoscaling or None,
        inactive_timeout=requests.UNSET if inactive_timeout is None else inactive_timeout,
    )
    _show(session, session.client.send(call), json)


def start(
    session: Session,
    endpoint: EndpointArgument,
    wait: WaitStarted = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Start an endpoint."""
    _set_state(session, endpoint, "STARTED", wait=wait, timeout=timeout, json=json)


def stop(
    session: Session,
    endpoint: EndpointArgument,
    wait: WaitStopped = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Stop an endpoint. Requests in flight are finished first."""
    _set_state(session, endpoint, "STOPPED", wait=wait, timeout=timeout, json=json)


def delete(session: Session, endpoint: EndpointArgument, json: Json = False) -> None:
    """Delete an endpoint, in whatever state it is."""
    from roost.client import requests

    session.client.send(requests.delete_endpoint(endpoint))
    if json:
        # The API answers 204 with no body.
        session.out.json({"deleted": True, "endpoint": endpoint})
        return
    session.out.line(f"Deleted {endpoint}.")


def hardware(
    session: Session,
    model: ForModel = None,
    available: Annotated[bool, typer.Option("--available", help="Only what is free now (requires --model).")] = False,
    json: Json = False,
) -> None:
    """List hardware configurations."""
    from roost.client import requests

    if available and model is None:
        raise CommandFailed("--available requires --model.", code=ExitCode.USAGE)
    answer = _about_model(session, requests.list_hardware(model), model)
    if json:
        session.out.json(_only_available(answer.json) if available else answer.json)
        return
    chosen = [item for item in answer.value.data if not available or item.availability.status == "available"]
    none = "No hardware." if model is None else f"No hardware of this server can hold {model}."
    if answer.value.data:
        none = "No hardware is free for this model now: other endpoints hold it (`roost endpoints list`)."
        if answer.sandbox:
            none += " A sandbox runs at most 6 engines at once, whatever its fleet has free."
    rows = [describe.hardware_row(item) for item in chosen]
    session.out.table(describe.HARDWARE_COLUMNS, rows, spare=describe.SPARE_HARDWARE_COLUMNS, empty=none)


def availability_zones(session: Session, json: Json = False) -> None:
    """List availability zones."""
    from roost.client import requests

    answer = session.client.send(requests.list_zones())
    if json:
        session.out.json(answer.json)
        return
    for zone in sorted(answer.value.avzones):
        session.out.line(zone)


def _set_state(
    session: Session, endpoint: str, target: Target, *, wait: bool, timeout: float | None, json: bool
) -> None:
    from roost.client import requests

    _check_timeout(wait, timeout)
    answer = session.client.send(requests.update_endpoint(endpoint, state=target))
    if wait:
        answer = _wait(session, answer, target, timeout)
    elif not json:
        # The answer still has the state of before, with its reason and hint: they would contradict the request.
        found, verb = answer.value, "start" if target == "STARTED" else "stop"
        if found.state == target:
            session.out.line(f"{found.id} is {target} already.")
            return
        session.out.line(f"Asked {found.id} to {verb} (it was {found.state}).")
        session.out.note(
            f"Look: `roost endpoints retrieve {found.id}`; wait: `roost endpoints {verb} {found.id} --wait`."
        )
        return
    _show(session, answer, json)


def _wait(session: Session, answer: Answer[Endpoint], target: Target, timeout: float | None) -> Answer[Endpoint]:
    from roost.cli.watch import wait_for

    return wait_for(session, answer, target, timeout)


def _show(session: Session, answer: Answer[Endpoint], json: bool) -> None:
    if json:
        session.out.json(answer.json)
    else:
        session.out.details(describe.endpoint_details(answer.value))


def _about_model(session: Session, call: Call[T], model: str | None) -> Answer[T]:
    """Send a request; the refusal of its model or hardware is told with what there is to choose from."""
    from roost.client.errors import ApiError

    try:
        return session.client.send(call)
    except ApiError as error:
        from roost.cli.refusals import explained

        raise explained(session, error, model or "") from error


def _hardware_for(session: Session, model: str) -> tuple[str, ...]:
    from roost.cli.refusals import hardware_for

    return hardware_for(session, model)


def _model_of(option: str | None, argument: str | None) -> str:
    if option is not None and argument is not None and option != argument:
        raise CommandFailed(
            f"--model is {option} and the argument is {argument}: give one of the two.", code=ExitCode.USAGE
        )
    chosen = option or argument
    if not chosen:
        raise CommandFailed("Missing option '--model'. `roost models list` shows the catalog.", code=ExitCode.USAGE)
    return chosen


def _position(listed: list[Endpoint], after: str) -> int:
    """How many endpoints of a list come up to the one called ``after``, itself included."""
    for index, endpoint in enumerate(listed, start=1):
        if after in (endpoint.id, endpoint.name):
            return index
    raise CommandFailed(f"--after {after}: the list has no such endpoint.", code=ExitCode.NOT_FOUND)


def _check_bounds(low: int, high: int) -> None:
    if low > high:
        raise CommandFailed(
            f"--min-replicas ({low}) cannot be greater than --max-replicas ({high}).", code=ExitCode.USAGE
        )


def _check_timeout(wait: bool, timeout: float | None) -> None:
    if timeout is not None and not wait:
        raise CommandFailed("--timeout requires --wait.", code=ExitCode.USAGE)


def _only_available(answer: Any) -> Any:
    return {**answer, "data": [item for item in answer["data"] if item["availability"]["status"] == "available"]}


_COMMANDS: dict[str, Callable[..., None]] = {
    "create": create,
    "retrieve": retrieve,
    "list": list_,
    "update": update,
    "start": start,
    "stop": stop,
    "delete": delete,
    "logs": logs,
    "hardware": hardware,
    "availability-zones": availability_zones,
}

_ABOUT_ONE = ("retrieve", "update", "start", "stop", "delete", "logs")

for _name, _function in _COMMANDS.items():
    app.command(_name, cls=EndpointCommand if _name in _ABOUT_ONE else None)(with_session(_function))
