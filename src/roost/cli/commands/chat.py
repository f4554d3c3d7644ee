"""``roost chat``: talk to an endpoint, one question or a conversation. Uses the client only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli.failure import CommandFailed, ExitCode
from roost.cli.session import Session

if TYPE_CHECKING:
    from roost.client.streaming import ChatChunk

PROMPT = ">>> "


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


def summary(answer: Answer) -> str:
    """``42 tokens, 0.21 s to the first, 31.5 tokens/s``; the rate is of the tokens after the first."""
    if answer.first_at is None or answer.last_at is None:
        return "no text"
    # An engine that reports no usage sends about one token per chunk.
    tokens = answer.completion_tokens if answer.completion_tokens is not None else answer.chunks
    about = "" if answer.completion_tokens is not None else "about "
    parts = [
        f"{about}{tokens} token{'s' if tokens != 1 else ''}",
        f"{answer.first_at - answer.asked_at:.2f} s to the first",
    ]
    span = answer.last_at - answer.first_at
    if tokens > 1 and span > 0:
        parts.append(f"{(tokens - 1) / span:.1f} tokens/s")
    if answer.finish_reason == "length":
        parts.append("cut at the token limit")
    return ", ".join(parts)


def chat(
    session: Session,
    endpoint: Annotated[str, typer.Argument(help="Id or name of the endpoint.")],
    message: Annotated[
        str | None, typer.Argument(help="What to say; without it, stdin is read, or a conversation begins.")
    ] = None,
    system: Annotated[str, typer.Option("--system", help="The system prompt; empty for none.")] = (
        "You are a helpful assistant."
    ),
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="Sampling temperature.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")] = None,
) -> None:
    """Chat with an endpoint; the answer is streamed to stdout."""
    options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    talk = Conversation(
        session, endpoint, system, {name: value for name, value in options.items() if value is not None}
    )
    if message is None and sys.stdin.isatty():
        session.out.note("Ctrl-C ends an answer, Ctrl-D the conversation.")
        talk.run(read_lines())
        return
    text = sys.stdin.read().strip() if message is None else message
    if not text:
        raise CommandFailed("There is nothing to say: give a message, or text on stdin.", code=ExitCode.USAGE)
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
            except ClientError as error:
                self._session.out.note(f"Error: {error.message}")

    def ask(self, text: str) -> None:
        """Say ``text`` and print the answer as it comes; what came of it, and only that, is remembered."""
        out, now = self._session.out, self._session.monotonic
        answer = Answer(asked_at=now())
        messages = [*self.messages, {"role": "user", "content": text}]
        try:
            with closing(self._session.client.chat_stream(self._endpoint, messages, **self._options)) as chunks:
                for chunk in chunks:
                    answer.add(chunk, now())
                    out.raw(chunk.text)
        finally:
            if answer.text:
                out.raw("\n")
                self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        out.note(f"[{summary(answer)}]")


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
