"""``roost keys …``: issue, list and revoke API keys. Uses the client only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from roost.cli import describe
from roost.cli.expiry import expiry
from roost.cli.failure import CommandFailed, ExitCode
from roost.cli.format import at
from roost.cli.session import Json, Session, with_session
from roost.domain.key import MAX_LIMIT

app = typer.Typer(name="keys", no_args_is_help=True, rich_markup_mode=None)


class Role(StrEnum):
    """Values of ``--role``."""

    ADMIN = "admin"
    MEMBER = "member"
    INFERENCE = "inference"


_ZERO = "0: no limit."
RequestsPerMinute = Annotated[
    int | None,
    typer.Option("--requests-per-minute", metavar="N", min=0, max=MAX_LIMIT, help=f"Inference requests. {_ZERO}"),
]
TokensPerMinute = Annotated[
    int | None,
    typer.Option("--tokens-per-minute", metavar="N", min=0, max=MAX_LIMIT, help=f"Of prompts and answers. {_ZERO}"),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", metavar="N", min=0, max=MAX_LIMIT, help=f"Inference requests at once. {_ZERO}"),
]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key, as `roost keys list` shows it.")]


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
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    concurrency: Concurrency = None,
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
        requests_per_minute=requests_per_minute or None,
        tokens_per_minute=tokens_per_minute or None,
        concurrency=concurrency or None,
    )
    answer = session.client.send(call)
    if json:
        session.out.json(answer.json)
        return
    key = answer.value
    until = "" if key.expires_at is None else f", until {at(key.expires_at)}"
    only = "" if key.endpoints is None else f", for {', '.join(key.endpoints)} only"
    limits = f", {told}" if (told := describe.key_limits(key)) else ""
    session.out.note(f"Key {key.id} of {key.owner} ({key.role}{until}{only}{limits}). Keep it: it is not shown again.")
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


def update(
    session: Session,
    key: KeyId,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    concurrency: Concurrency = None,
    json: Json = False,
) -> None:
    """Change a key's limits; what is not given stays."""
    from roost.client import requests

    given = (requests_per_minute, tokens_per_minute, concurrency)
    if given == (None, None, None):
        raise CommandFailed(
            "Nothing to change: give --requests-per-minute, --tokens-per-minute or --concurrency.",
            code=ExitCode.USAGE,
        )
    limits = [requests.UNSET if limit is None else limit or None for limit in given]
    call = requests.update_key(key, requests_per_minute=limits[0], tokens_per_minute=limits[1], concurrency=limits[2])
    answer = session.client.send(call)
    if json:
        session.out.json(answer.json)
        return
    session.out.line(f"{key}: {describe.key_limits(answer.value) or 'no limits'}.")


def revoke(
    session: Session,
    key: KeyId,
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


_COMMANDS: dict[str, Callable[..., None]] = {"create": create, "list": list_, "update": update, "revoke": revoke}

for _name, _function in _COMMANDS.items():
    app.command(_name)(with_session(_function))
