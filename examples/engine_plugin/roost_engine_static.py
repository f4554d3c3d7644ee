"""An engine that gives one fixed answer, as a pattern for engines of your own.

The class builds a launch spec, names a probe and explains failures: it runs in Roost's control plane and must start
nothing. The lower half is the process that the spec starts; it could as well be any other program.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import sys
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from roost.domain.errors import LaunchRefused
from roost.domain.launch import LISTEN, LaunchSpec, ProcessSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, Failure
from roost.engines.base import Capabilities, LaunchRequest, Probe
from roost.engines.exits import crash, match, rule

RULES = (rule("static: cannot", "port_in_use", "The replica's address cannot be used", retryable=True),)


class StaticEngine:
    """Answers every chat with the text of the entry's option ``answer``."""

    name = "static"

    def version(self) -> str | None:
        """The version of what runs; a real engine asks ``importlib.metadata`` for its package's."""
        return "0.1.0"

    def missing(self) -> str | None:
        """None: nothing is needed."""
        return None

    def capabilities(self, model: Model) -> Capabilities:
        """An answer takes no time, so there is nothing to cancel and no need for a limit."""
        return Capabilities(slots=model.slots)

    def check_options(self, model: Model) -> None:
        """Raise ``LaunchRefused`` unless ``answer`` is the one option."""
        if set(model.options) != {"answer"} or not model.options["answer"]:
            raise LaunchRefused(
                f"{model.id} needs the option answer (what to say), and the static engine has no other.",
                code="unknown_option",
            )

    def build(self, request: LaunchRequest) -> LaunchSpec:
        """This very file as a program. Raises ``LaunchRefused`` for an entry without an answer."""
        self.check_options(request.model)
        answer = request.model.options["answer"]
        argv = (sys.executable, "-P", str(Path(__file__).resolve()), LISTEN, request.endpoint_name, answer)
        return LaunchSpec(
            endpoint_id=request.endpoint_id,
            processes=(ProcessSpec(argv),),
            resources=request.hardware.resources,
            accelerator=request.hardware.accelerator,
            zone=request.placement.zone,
            node_id=request.placement.node_id,
            start_timeout=timedelta(seconds=30),
        )

    def probe(self, model: Model) -> Probe:
        """One token of chat."""
        return Probe("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})

    def explain(self, exit: ExitInfo) -> Failure:
        """The line that says why, else the plain facts."""
        return match(exit.log_tail, RULES) or crash(exit)


# -- the process


class Handler(BaseHTTPRequestHandler):
    """Chat completions, whole and streamed."""

    protocol_version = "HTTP/1.1"
    model = ""
    words: tuple[str, ...] = ()

    def do_POST(self) -> None:
        """Answer one request."""
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        limit = asked.get("max_tokens")
        said = self.words if limit is None else self.words[:limit]
        finish = "stop" if len(said) == len(self.words) else "length"
        usage = {"prompt_tokens": 1, "completion_tokens": len(said), "total_tokens": 1 + len(said)}
        text = " ".join(said)
        if not asked.get("stream"):
            message = {"role": "assistant", "content": text}
            self._send("chat.completion", {"message": message, "finish_reason": finish}, usage)
            return
        events = [
            self._body("chat.completion.chunk", {"delta": {"role": "assistant", "content": text}}),
            self._body("chat.completion.chunk", {"delta": {}, "finish_reason": finish}, usage),
            "[DONE]",
        ]
        self._reply("text/event-stream", "".join(f"data: {event}\n\n" for event in events))

    def _send(self, kind: str, choice: dict[str, Any], usage: dict[str, int]) -> None:
        self._reply("application/json", self._body(kind, choice, usage))

    def _body(self, kind: str, choice: dict[str, Any], usage: dict[str, int] | None = None) -> str:
        choices = [{"index": 0, "finish_reason": None, **choice}]
        body = {"id": "static", "object": kind, "created": 0, "model": self.model, "choices": choices}
        return json.dumps(body if usage is None else {**body, "usage": usage})

    def _reply(self, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        """For the log: a unix socket's peer has no address."""
        return "-"


def main(listen: str, model: str, answer: str) -> int:
    """Serve on a unix socket until SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Handler.model, Handler.words = model, tuple(answer.split())
    os.umask(0o177)
    try:
        server = socketserver.ThreadingUnixStreamServer(listen.removeprefix("unix:"), Handler)
    except OSError as error:
        sys.stderr.write(f"static: cannot listen on {listen}: {error.strerror}\n")
        return 1
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
