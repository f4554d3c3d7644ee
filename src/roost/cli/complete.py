"""What the shell offers for the value of an argument: endpoints, models, hardware and zones, asked of the server.

Called by Typer while the user presses Tab, so it must never print, fail or take long: without an answer in
``LIMIT_S`` it offers nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from roost.client.sync import Roost

LIMIT_S = 1.5
"""How long the server may take, in seconds, its being reached included."""

Offer = tuple[str, str]
"""A value, and what a shell that can shows beside it."""


def endpoints(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Ids and names of endpoints."""

    def look(client: Roost) -> Iterable[Offer]:
        for endpoint in client.endpoints.list().data:
            yield endpoint.id, f"{endpoint.state} {endpoint.model}"
            yield endpoint.name, endpoint.state

    return _offers(ctx, incomplete, look)


def models(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Ids and aliases of models."""

    def look(client: Roost) -> Iterable[Offer]:
        for model in client.models.list().data:
            yield model.id, model.display_name
            if model.alias:
                yield model.alias, model.display_name

    return _offers(ctx, incomplete, look)


def hardware(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Ids of hardware configurations, of those that fit the model where one is given."""
    from roost.client import requests

    def look(client: Roost) -> Iterable[Offer]:
        for offer in client.send(requests.list_hardware(ctx.params.get("model"))).value.data:
            yield offer.id, offer.availability.status

    return _offers(ctx, incomplete, look)


def zones(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Names of availability zones."""
    from roost.client import requests

    return _offers(ctx, incomplete, lambda client: ((z, "") for z in client.send(requests.list_zones()).value.avzones))


def _offers(ctx: typer.Context, incomplete: str, look: Callable[[Roost], Iterable[Offer]]) -> list[Offer]:
    found: list[Offer] = []

    def ask() -> None:
        from roost.cli.session import Session, World
        from roost.client.errors import ClientError

        given = {name: ctx.params.get(name) for name in ("base_url", "api_key", "home")}
        session = Session(ctx.obj if isinstance(ctx.obj, World) else World(), **given)
        try:
            with session.connect(LIMIT_S) as client:
                found.extend(look(client))
        except ClientError:
            # There is nobody to tell: the shell shows what the command line itself offers, which is nothing.
            return

    # A daemon: what has not answered when the time is over ends with the process.
    asking = threading.Thread(target=ask, name="completion", daemon=True)
    asking.start()
    asking.join(LIMIT_S)
    return [] if asking.is_alive() else [offer for offer in _unique(found) if offer[0].startswith(incomplete)]


def _unique(offers: Iterable[Offer]) -> Iterable[Any]:
    return dict(offers).items()
