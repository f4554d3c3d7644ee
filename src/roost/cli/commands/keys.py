"""``roost keys …``: issue, list and revoke API keys. Uses the client only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from roost.cli import describe
from roost.cli.expiry import expiry
from roost.cli.format import at
from roost.cli.session import Json, Session, with_session

app = typer.Typer(name="keys", no_args_is_help=True, rich_markup_mode=None)


class Role(StrEnum):
    """Values of ``--role``."""

    ADMIN = "admin"
    MEMBER = "member"
    INFERENCE = "inference"


def create(
    session: Session,
    owner: Annotated[str | None, typer.Option("--owner", metavar="NAME", help="Whose key.  [default: yours]")] = None,
    role: Annotated[
        Role,
        typer.Option("--role", help="admin: everything; member: the owner's endpoints; inference: requests to them."),
    ] = Role.MEMBER,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="WHEN", help="30d, 12h, or a time such as 2027-01-31T12:00:00Z."),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint", metavar="ENDPOINT", help="Only for this endpoint (id or name); more than once for several."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="What the key is used for.")] = None,
    json: Json = False,
) -> None:
    """Issue an API key. It is shown this once."""
    from roost.client import requests

    call = requests.create_key(
        owner=owner,
        role=role.value,
        expires_at=None if expires is None else expiry(expires, datetime.now(UTC)),
        name=name,
        endpoints=endpoint or None,
    )
    answer = session.client.send(call)
    if json:
        session.out.json(answer.json)
        return
    key = answer.value
    until = "" if key.expires_at is None else f", until {at(key.expires_at)}"
    limits = "" if key.endpoints is None else f", for {', '.join(key.endpoints)} only"
    session.out.note(f"Key {key.id} of {key.owner} ({key.role}{until}{limits}). Keep it: it is not shown again.")
    session.out.line(key.key)


def list_(session: Session, json: Json = False) -> None:
    """List the keys that were issued."""
    from roost.client import requests

    answer = session.client.send(requests.list_keys())
    if json:
        session.out.json(answer.json)
        return
    current = session.client.whoami().api_key_id
    rows = [describe.key_row(key, current) for key in answer.value.data]
    session.out.table(describe.KEY_COLUMNS, rows, spare=describe.SPARE_KEY_COLUMNS, empty="No keys.")


def revoke(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key, as `roost keys list` shows it.")],
    json: Json = False,
) -> None:
    """Revoke an API key."""
    from roost.client import requests

    answer = session.client.send(requests.revoke_key(key))
    if json:
        # The API answers 204 with no body.
        session.out.json({"revoked": True, "id": key} if answer.json is None else answer.json)
        return
    session.out.line(f"Revoked {key}.")


_COMMANDS: dict[str, Callable[..., None]] = {"create": create, "list": list_, "revoke": revoke}

for _name, _function in _COMMANDS.items():
    app.command(_name)(with_session(_function))
