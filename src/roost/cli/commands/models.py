"""``roost models …``: the catalog and the weights. Uses the client only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli import describe
from roost.cli.failure import CommandFailed, ExitCode
from roost.cli.format import in_bytes
from roost.cli.session import Json, Session, with_session
from roost.cli.weights_source import FORMS, id_of, is_source, source_of

if TYPE_CHECKING:
    from roost.client.requests import Answer
    from roost.schemas import Model

app = typer.Typer(name="models", no_args_is_help=True, rich_markup_mode=None)

POLL_S = 0.5
LLAMA_CPP, EXTERNAL = "llama_cpp", "external"

NewModel = Annotated[
    str, typer.Argument(metavar="ID|SOURCE", help="Id of the new entry, or the source of its weights.")
]
WeightsArgument = Annotated[
    str | None, typer.Argument(metavar="SOURCE", help=f"Weights, as {FORMS}.", show_default=False)
]
NewId = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="Id of the new entry.  [default: what the source suggests]")
]
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
    typer.Option("--source", metavar="SOURCE", help="The same as the argument."),
]
Member = Annotated[
    str | None,
    typer.Option("--member", metavar="PATH", help="File of a repository (or a pattern), or inside an archive."),
]
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
ModelArguments = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Ids or aliases of the models.")]
WeightsOnly = Annotated[bool, typer.Option("--weights-only", help="Keep the entry, and free the disk of its weights.")]


def list_(session: Session, json: Json = False) -> None:
    """List the models that endpoints can be deployed from."""
    from roost.client import requests

    answer = session.client.send(requests.list_models())
    if json:
        session.out.json(answer.json)
        return
    rows = [describe.model_row(model) for model in answer.value.data]
    none = "The catalog is empty. Add a model with `roost models add`."
    session.out.table(describe.MODEL_COLUMNS, rows, spare=describe.spare_model_columns(answer.value.data), empty=none)


def retrieve(session: Session, model: ModelArgument, json: Json = False) -> None:
    """Show a model: its source, its weights, and what is deployed from it."""
    from roost.client import requests

    answer = session.client.send(requests.retrieve_model(model))
    if json:
        session.out.json(answer.json)
    else:
        session.out.details(describe.model_details(answer.value))


def pull(session: Session, model: ModelArguments, json: Json = False) -> None:
    """Fetch the weights of models now, and wait for them."""
    answers = _pull(session, list(dict.fromkeys(model)))
    failures = [
        f"The weights of {answer.value.id} could not be fetched: {_pulled_again(answer.value.download.error)}"
        for answer in answers
        if answer.value.download is not None and answer.value.download.state == "failed"
    ]
    if json and not (failures and len(answers) == 1):
        several = {"object": "list", "data": [answer.json for answer in answers]}
        session.out.json(several if len(answers) > 1 else answers[0].json)
    elif not json:
        for answer in answers:
            if answer.value.engine == EXTERNAL:
                session.out.line(f"Nothing to fetch for {answer.value.id}: a server of yours serves it.")
            elif answer.value.download is None or answer.value.download.state == "ready":
                session.out.line(f"The weights of {answer.value.id} are ready.")
    if failures:
        raise CommandFailed(failures[0], lines=tuple(failures[1:]))


def add(
    session: Session,
    model: NewModel,
    weights: WeightsArgument = None,
    id: NewId = None,
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
    """Add a model to the catalog. A source of weights alone suggests an id."""
    from roost.client import requests

    name, text = named(model, weights, id, file, source)
    where = source_of(file, text, member, sha256)
    fields: dict[str, Any] = {
        "id": name if name is not None or where is None else id_of(where),
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


def rm(session: Session, model: ModelArgument, weights_only: WeightsOnly = False, json: Json = False) -> None:
    """Remove a model from the catalog, with its weights."""
    from roost.client import requests

    answer = session.client.send(requests.remove_model(model, weights_only=weights_only))
    freed = in_bytes(answer.value.freed_bytes) if answer.value.freed_bytes else ""
    if json:
        session.out.json(answer.json)
    elif not weights_only:
        session.out.line(f"Removed {answer.value.id}." + (f" {freed} are free again." if freed else ""))
    elif freed:
        session.out.line(f"Removed the weights of {answer.value.id}: {freed} are free again.")
    else:
        session.out.line(f"No weights of {answer.value.id} lie in the server's cache that could be removed.")


def named(
    first: str, second: str | None, wanted_id: str | None, file: Path | None, option: str | None
) -> tuple[str | None, str | None]:
    """The id and the source that are given in one of several ways; None for what is not given.

    Raises ``CommandFailed`` for what is given twice, or in the wrong order.
    """
    given = [text for text in (first if is_source(first) else None, second, option) if text is not None]
    if len(given) > 1 or (given and file is not None):
        raise CommandFailed("Give one source of the weights, not several.", code=ExitCode.USAGE)
    if second is not None and not is_source(second):
        raise CommandFailed(f"{second!r} is no source of weights: {FORMS}.", code=ExitCode.USAGE)
    if is_source(first):
        return wanted_id, first
    if wanted_id is not None:
        raise CommandFailed(f"Give one id, not both {first} and --id {wanted_id}.", code=ExitCode.USAGE)
    return first, given[0] if given else None


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


def _pull(session: Session, models: list[str]) -> list[Answer[Model]]:
    """Order the weights and follow them until each is ready or has failed."""
    from roost.cli.watch import ProgressLine
    from roost.client import requests

    answers = [session.client.send(requests.pull_model(model)) for model in models]
    with ProgressLine(session.out) as progress:
        while True:
            news = [found for answer in answers if (found := _news(answer.value, named=len(answers) > 1)) is not None]
            if news:
                progress.show("; ".join(text for text, _ in news), "/".join(key for _, key in news))
            if all(_is_over(answer.value) for answer in answers):
                return answers
            session.sleep(POLL_S)
            answers = [
                answer if _is_over(answer.value) else session.client.send(requests.retrieve_model(answer.value.id))
                for answer in answers
            ]


def _pulled_again(error: str | None) -> str:
    """The failure of a download for one who pulled: the server speaks to those who started an endpoint."""
    return (error or "the server gives no reason.").replace("start again", "pull again")


def _is_over(model: Model) -> bool:
    download = model.download
    return model.engine == EXTERNAL or download is None or download.state in {"ready", "failed"}


def _news(model: Model, *, named: bool) -> tuple[str, str] | None:
    """What is told of a download, and what says whether that is news; None where there is nothing to tell yet."""
    download = model.download
    if download is None or model.engine == EXTERNAL or download.state == "failed":
        return None
    # Before the first byte of an unknown size there is no news yet.
    if download.state == "fetching" and not download.done_bytes and download.total_bytes is None:
        return None
    text = describe.weights(model)
    return f"{model.id}: {text}" if named else text, f"{download.state}/{int((download.percent or 0) // 10)}"


_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_,
    "retrieve": retrieve,
    "pull": pull,
    "add": add,
    "rm": rm,
}

for _name, _function in _COMMANDS.items():
    app.command(_name)(with_session(_function))
