"""``roost demo``: a whole server in a temporary home, one endpoint, two questions, and nothing left behind.

It uses what a user would use: ``roost serve`` as a process of its own, then the client. It ends the server whatever
happens, and says so if a process should survive.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roost.cli.commands.chat import Answer, document, summary
from roost.cli.failure import CommandFailed, Interrupted
from roost.cli.output import Aside, Output
from roost.cli.session import JsonResult
from roost.cli.wait import condition, failure_lines

if TYPE_CHECKING:
    from roost.client.sync import Roost
    from roost.schemas import Endpoint, Hardware

MODEL = "smollm2-135m"
QUESTIONS = ("What is the capital of France?", "Write one sentence about birds that roost.")
SYSTEM = "You are a helpful assistant."
LIMIT_S = 300.0
"""Longest time that the endpoint may take to come up, the download included."""
POLL_S = 0.1


def demo(
    keep_home: Annotated[
        bool, typer.Option("--keep-home", help="Keep the temporary home: database, logs, credentials.")
    ] = False,
    port: Annotated[int, typer.Option(metavar="N", help="Port of the server; 0 for any free one.")] = 0,
    json: JsonResult = False,
) -> None:
    """See an endpoint come up and answer: a server in a temporary home, a small model, two questions."""
    out = Aside() if json else Output()
    home = Path(tempfile.mkdtemp(prefix="roost-demo-"))
    story = Demo(out, home, port)
    try:
        story.run()
    finally:
        if keep_home:
            out.line(f"Kept: {home}")
        else:
            story.server.remove()
    if json:
        out.json({"ok": True, "model": MODEL, "seconds": round(time.monotonic() - story.began, 2), **story.told})
        return
    for line in next_steps():
        out.line(line)


def next_steps() -> tuple[str, ...]:
    """What to try after the demo, in commands that work in this shell."""
    from roost.wiring.program import program

    roost = program()
    return (
        "",
        "Try next:",
        f"  {roost} serve              a server of your own; then, in another terminal:",
        f"  {roost} endpoints create --model {MODEL} --hardware 1x_cpu --wait",
        f'  {roost} chat <the endpoint\'s id> "Hello"',
        f"  {roost} endpoints --help   list, update, stop, start, delete",
    )


class Demo:
    """One run of the demo. ``told`` is what ``--json`` prints of it."""

    def __init__(self, out: Output, home: Path, port: int) -> None:
        from roost.wiring.temporary import TemporaryServer

        self.out = out
        self.home = home
        self.began = time.monotonic()
        self.told: dict[str, Any] = {"hardware": None, "start_s": None, "answers": []}
        self.server = TemporaryServer(home, "--port", str(port))

    def run(self) -> None:
        """The whole story. Raises ``CommandFailed`` with the cause and the end of the logs."""
        from roost.client.errors import ClientError
        from roost.client.sync import Roost
        from roost.wiring.temporary import ServerFailed

        self.out.text(f"A server in {self.home}, one endpoint of {MODEL}, two questions.")
        self._share_weights()
        self.out.line("")
        try:
            self.server.start()
            with Roost(home=self.home) as client:
                self.tell(f"the server is up at {client.base_url}")
                endpoint = self._started(client, self._create(client))
                for question in QUESTIONS:
                    self._ask(client, endpoint, question)
                client.endpoints.delete(endpoint.id)
        except ClientError as error:
            raise CommandFailed(error.message, lines=self.server.log_lines()) from error
        except ServerFailed as error:
            raise CommandFailed(error.message, lines=error.lines) from error
        except KeyboardInterrupt:
            self.server.quit()
            raise Interrupted("\nInterrupted; the server is stopped.") from None
        finally:
            self._stop()

    def tell(self, text: str) -> None:
        """A line with the seconds since the beginning."""
        self.out.text(f"{time.monotonic() - self.began:6.1f} s  {text}")

    def _share_weights(self) -> None:
        """Let the temporary home use a cache that outlives it, so that the next demo need not download again."""
        cache = Path.home() / ".cache" / "roost" / "models"
        against = self.server.share_weights(cache)
        if against is None:
            self.out.text(f"The weights are kept in {cache}, for the next demo.")
        else:
            self.out.note(f"{against}: the weights are downloaded for this run only.")

    def _create(self, client: Roost) -> Endpoint:
        hardware = largest(client.endpoints.list_hardware(MODEL).data)
        endpoint = client.endpoints.create(
            model=MODEL, hardware=hardware, autoscaling={"min_replicas": 1, "max_replicas": 1}
        )
        self.told["hardware"] = hardware
        self.tell(f"created {endpoint.name} on {hardware}")
        return endpoint

    def _started(self, client: Roost, endpoint: Endpoint) -> Endpoint:
        from roost.client.errors import WaitFailed

        def tell(seen: Endpoint) -> None:
            self.tell(condition(seen))

        began = time.monotonic()
        try:
            started = client.endpoints.wait(endpoint.id, timeout=LIMIT_S, poll=POLL_S, on_change=tell)
            self.told["start_s"] = round(time.monotonic() - began, 2)
            return started
        except WaitFailed as error:
            last = error.endpoint
            lines = (*failure_lines(last), *self.server.log_lines())
            raise CommandFailed(f"The endpoint did not start: {condition(last)}.", lines=lines) from error

    def _ask(self, client: Roost, endpoint: Endpoint, question: str) -> None:
        self.out.line("")
        self.out.line(f"  > {question}")
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        answer = Answer(asked_at=time.monotonic())
        self.out.raw("  ")
        with closing(client.chat_stream(endpoint.id, messages, temperature=0, max_tokens=128)) as chunks:
            for chunk in chunks:
                answer.add(chunk, time.monotonic())
                self.out.raw(chunk.text.replace("\n", "\n  "))
        self.out.line("")
        self.out.line(f"  [{summary(answer)}]")
        self.told["answers"].append({"question": question, **document(answer)})
        if not answer.text.strip():
            raise CommandFailed("The model answered with no text.", lines=self.server.log_lines())

    def _stop(self) -> None:
        from roost.wiring.temporary import ServerFailed

        try:
            interrupted = self.server.stop()
        except ServerFailed as error:
            raise CommandFailed(error.message, lines=error.lines) from error
        self.out.line("")
        self.tell("stopped; no process is left")
        if interrupted:
            raise Interrupted("Interrupted while stopping; the server is stopped.")


def largest(offers: list[Hardware]) -> str:
    """The largest configuration that is free now; a CPU one where there is one. Raises ``CommandFailed``."""
    free = [offer for offer in offers if offer.availability.status == "available"]
    if not free:
        raise CommandFailed(f"This machine has no hardware free that {MODEL} could run on.")
    return max(free, key=lambda offer: (offer.specs.gpu_type == "cpu", offer.specs.gpu_count)).id
