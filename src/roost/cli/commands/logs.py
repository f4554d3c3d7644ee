"""``roost endpoints logs``: what the engines of an endpoint say. Uses the client only.

Standard output holds the engines' lines and nothing else; whose they are goes to standard error.
"""

from __future__ import annotations

import json as json_lines
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli.failure import ExitCode
from roost.cli.options import EndpointArgument
from roost.cli.session import Json, Session

if TYPE_CHECKING:
    from roost.schemas import LogLine

MAX_TAIL = 10_000


def logs(
    session: Session,
    endpoint: EndpointArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C, or until it is deleted.")
    ] = False,
    tail: Annotated[
        int, typer.Option("--tail", "-n", metavar="N", min=0, max=MAX_TAIL, help="Last lines of each replica.")
    ] = 200,
    replica: Annotated[
        str | None, typer.Option("--replica", metavar="ID", help="Only of this replica, also when it has ended.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what the engines say. Of the replicas that run, else of the one that ended last.

    With --follow, --json prints one line of output a line.
    """
    from roost.client import requests

    if follow:
        _follow(session, endpoint, replica, tail, json)
        return
    answer = session.client.send(requests.list_logs(endpoint, replica=replica, tail=tail))
    if json:
        session.out.json(answer.json)
    elif answer.value.data:
        several = len({line.replica_id for line in answer.value.data}) > 1
        _print(session, answer.value.data, headed=several)
    elif tail:
        _explain_silence(session, endpoint)


def _follow(session: Session, endpoint: str, replica: str | None, tail: int, json: bool) -> None:
    lines = session.client.endpoints.follow_logs(endpoint, replica=replica, tail=tail)
    try:
        if json:
            for line in lines:
                session.out.line(json_lines.dumps(line.model_dump(mode="json"), ensure_ascii=False))
        else:
            _print(session, lines, headed=replica is None)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    session.out.note(f"{endpoint} was deleted.")


def _print(session: Session, lines: Iterable[LogLine], *, headed: bool) -> None:
    last = None
    for line in lines:
        if headed and line.replica_id != last:
            session.out.note(f"==> {line.replica_id} <==")
        last = line.replica_id
        session.out.line(line.line)


def _explain_silence(session: Session, endpoint: str) -> None:
    from roost.client import requests

    state = session.client.send(requests.retrieve_endpoint(endpoint)).value.state
    session.out.note(
        f"No output of {endpoint} is kept; it is {state}. There is output while a replica runs, and of the last ones "
        "that ended; engines may be silent, and servers that Roost did not start have none here."
    )
