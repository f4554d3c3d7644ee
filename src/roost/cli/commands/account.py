"""``roost whoami`` and ``roost events``: who one is, and what has happened. Uses the client only."""

from __future__ import annotations

import json as json_lines
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli import complete, describe
from roost.cli.failure import CommandFailed, ExitCode
from roost.cli.format import at
from roost.cli.session import Json, Session

if TYPE_CHECKING:
    from roost.client.requests import Answer
    from roost.schemas import Event, EventList

POLL_S = 1.0
PAGE = 1000


def whoami(session: Session, json: Json = False) -> None:
    """Show whose key is in use, and at which server."""
    from roost.client import requests

    answer = session.client.send(requests.whoami())
    if json:
        session.out.json(answer.json)
        return
    me = answer.value
    pairs = [("Server", session.client.base_url), ("Key", me.api_key_id), ("Owner", me.owner), ("Role", me.role)]
    if me.expires_at is not None:
        pairs.append(("Expires", at(me.expires_at)))
    if me.endpoints is not None:
        pairs += [("Endpoints" if number == 0 else "", endpoint) for number, endpoint in enumerate(me.endpoints)]
    session.out.details(pairs)


def events(
    session: Session,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            metavar="ENDPOINT",
            help="Only of this endpoint: its id or name.",
            autocompletion=complete.endpoints,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Show what happened and why, oldest first. With --follow, --json prints one event a line."""
    last, found = None, []
    while True:
        answer = _page(session, endpoint, last)
        page, raw = answer.value.data, answer.json["data"]
        last = page[-1].sequence if page else last
        if json and not follow:
            found += raw
        else:
            _print(session, page, raw, json, of_one=endpoint is not None)
        if len(page) == PAGE:
            continue
        if not follow:
            break
        session.sleep(POLL_S)
    if json:
        session.out.json({**answer.json, "data": found})
    elif last is None:
        session.out.note("No events.")


def _page(session: Session, endpoint: str | None, after: int | None) -> Answer[EventList]:
    from roost.client import requests
    from roost.client.errors import ApiError

    try:
        return session.client.send(requests.list_events(endpoint=endpoint, after=after, limit=PAGE))
    except ApiError as error:
        if endpoint is not None or error.param != "endpoint":
            raise
        raise CommandFailed(
            "This key may read the events of its owner's endpoints only: name one with --endpoint.", code=ExitCode.USAGE
        ) from error


def _print(session: Session, page: list[Event], raw: list[Any], json: bool, *, of_one: bool) -> None:
    for event, as_it_came in zip(page, raw, strict=True):
        if json:
            session.out.line(json_lines.dumps(as_it_came, ensure_ascii=False))
        else:
            session.out.text(describe.event_line(event, of_one=of_one))
