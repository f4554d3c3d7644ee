"""``roost chat``: talk to an endpoint, one question or a conversation. Uses the client only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli.failure import CommandFailed, ExitCode, explain
from roost.cli.options import EndpointArgument
from roost.cli.patience import Patience
from roost.cli.session import Session

if TYPE_CHECKING:
    from roost.client.streaming import ChatChunk

PROMPT = ">>> "
NO_ENDPOINT = (
    "Hint: `roost chat` takes an endpoint's id or name; see `roost endpoints list`, or deploy a model with "
    "`roost endpoints create --model MODEL`."
)


@dataclass(slots=True)
class Answer:
    """What has come of one answer, and when (seconds of a monotonic clock)."""

    asked_at: float
    text: str = ""
    chunks: int = 0
    first_at: float | None = None
    last_at: float | None = None
    finish_reason: str | None = None
    completion_tokens: int | None = None
    prompt_tokens: int | None = None

    def add(self, chunk: ChatChunk, now: float) -> None:
        """Take in the next chunk."""
        if chunk.text:
            self.first_at = now if self.first_at is None else self.first_at
            self.last_at = now
            self.chunks += 1
            self.text += chunk.text
        self.finish_reason = chunk.finish_reason or self.finish_reason
        if chunk.completion_tokens is not None:
            self.completion_tokens = chunk.completion_tokens
            self.prompt_tokens = chunk.prompt_tokens

    @property
    def tokens(self) -> int:
        """Tokens of the answer; an engine that reports no usage sends about one per chunk."""
        return self.chunks if self.completion_tokens is None else self.completion_tokens

    @property
    def ttft_s(self) -> float | None:
        """Seconds to the first text; None without text."""
        return None if self.first_at is None else self.first_at - self.asked_at

    @property
    def tokens_per_s(self) -> float | None:
        """The rate of the tokens after the first; None where there are none."""
        if self.first_at is None or self.last_at is None or self.tokens <= 1 or self.last_at <= self.first_at:
            return None
        return (self.tokens - 1) / (self.last_at - self.first_at)


def document(answer: Answer) -> dict[str, Any]:
    """An answer as the one object of ``--json``; ``usage`` is null where the engine reports none."""
    usage = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens}
    return {
        "content": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": None if answer.completion_tokens is None else usage,
        "ttft_s": answer.ttft_s,
        "tokens_per_s": answer.tokens_per_s,
    }


def summary(answer: Answer) -> str:
    """``42 tokens, 0.21 s to the first, 31.5 tokens/s``; the rate is of the tokens after the first."""
    if answer.ttft_s is None:
        return "no text"
    tokens = answer.tokens
    about = "" if answer.completion_tokens is not None else "about "
    parts = [
        f"{about}{tokens} token{'s' if tokens != 1 else ''}",
        f"{answer.ttft_s:.2f} s to the first",
    ]
    if answer.tokens_per_s is not None:
        parts.append(f"{answer.tokens_per_s:.1f} tokens/s")
    if answer.finish_reason == "length":
        parts.append("cut at the token limit")
    return ", ".join(parts)


def chat(
    session: Session,
    endpoint: EndpointArgument,
    message: Annotated[
        str | None,
        typer.Argument(metavar="MESSAGE", help="What to say; without it, stdin is read, or a conversation begins."),
    ] = None,
    system: Annotated[str, typer.Option("--system", help="The system prompt; empty for none.")] = (
        "You are a helpful assistant."
    ),
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="Sampling temperature.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole answer as one JSON object at its end.")] = False,
) -> None:
    """Chat with an endpoint; the answer is streamed to stdout."""
    options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    talk = Conversation(
        session, endpoint, system, {name: value for name, value in options.items() if value is not None}
    )
    if message is None and sys.stdin.isatty():
        if json:
            raise CommandFailed("--json is for one answer: give a message, or text on stdin.", code=ExitCode.USAGE)
        session.out.note("Ctrl-C ends an answer, Ctrl-D the conversation.")
        talk.run(read_lines())
        return
    text = sys.stdin.read().strip() if message is None else message
    if not text:
        raise CommandFailed("There is nothing to say: give a message, or text on stdin.", code=ExitCode.USAGE)
    if json:
        session.out.json(document(talk.answer(text, show=lambda part: None)))
    else:
        talk.ask(text)


class Conversation:
    """Messages to and from one endpoint."""

    def __init__(self, session: Session, endpoint: str, system: str, options: dict[str, Any]) -> None:
        self._session = session
        self._endpoint = endpoint
        self._options = options
        self.messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []

    def run(self, lines: Iterable[str]) -> None:
        """Answer line after line. A failed request ends that answer, not the conversation."""
        from roost.client.errors import ClientError

        for line in lines:
            if not line.strip():
                continue
            try:
                self.ask(line)
            except KeyboardInterrupt:
                self._session.out.note("(interrupted)")
            except (ClientError, CommandFailed) as error:
                for part in explain(error).text.splitlines():
                    self._session.out.note(part)

    def ask(self, text: str) -> None:
        """Say ``text`` and print the answer as it comes."""
        out = self._session.out
        shown: list[str] = []

        def show(part: str) -> None:
            shown.append(part)
            out.raw(part)

        try:
            answer = self.answer(text, show)
        finally:
            if any(shown):
                out.raw("\n")
        out.note(f"[{summary(answer)}]")

    def answer(self, text: str, show: Callable[[str], None]) -> Answer:
        """The answer to ``text``, its parts given to ``show`` as they come; what came of it, and only that, is
        remembered. Raises ``CommandFailed`` when there is no such endpoint, and the client's errors."""
        from roost.client.errors import ApiError

        now = self._session.monotonic
        answer = Answer(asked_at=now())
        messages = [*self.messages, {"role": "user", "content": text}]
        chunks = self._session.client.chat_stream(self._endpoint, messages, **self._options)
        try:
            with Patience(self._session, self._endpoint) as patience, closing(chunks):
                for chunk in chunks:
                    patience.end()
                    answer.add(chunk, now())
                    show(chunk.text)
        except ApiError as error:
            if error.status != 404:
                raise
            raise CommandFailed(error.message, lines=(NO_ENDPOINT,), code=ExitCode.NOT_FOUND) from error
        finally:
            if answer.text:
                self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        return answer


def read_lines(ask: Callable[[str], str] = input) -> Iterable[str]:
    """Lines typed at the terminal until Ctrl-D; Ctrl-C at the prompt drops the line."""
    _edit_lines()
    while True:
        try:
            yield ask(PROMPT)
        except KeyboardInterrupt:
            typer.echo(err=True)
        except EOFError:
            typer.echo(err=True)
            return


def _edit_lines() -> None:
    """Give ``input`` editing and history where Python has them."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return
