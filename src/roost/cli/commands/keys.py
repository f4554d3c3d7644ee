"""``roost keys …``: issue, list and revoke API keys. Uses the client only."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from roost.cli import describe
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
    json: Json = False,
) -> None:
    """Issue an API key. It is shown this once."""
    from roost.client import requests

    answer = session.client.send(requests.create_key(owner=owner, role=role.value))
    if json:
        session.out.json(answer.json)
        return
    key = answer.value
    session.out.note(f"Key {key.id} of {key.owner} ({key.role}). Keep it: it is not shown again.")
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
