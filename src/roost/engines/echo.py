"""Engine ``echo``: a tiny OpenAI-compatible server with dials, for tests and benchmarks. It needs no weights; what it
says is made from the prompt. Found through ``engines.registry``; the process is ``engines.echo_server``."""

from __future__ import annotations

import sys

from roost.domain.errors import LaunchRefused
from roost.domain.launch import LISTEN, LaunchSpec, ProcessSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, Failure
from roost.engines.base import Capabilities, LaunchRequest, Probe

FLAGS = frozenset({"hang", "ignore_term", "spawn_child", "no_cancel"})
VALUES = frozenset({"load_time", "tokens_per_second", "fail_at_start", "die_after_chunks"})
FAILED = "echo: failed at start: "


class EchoEngine:
    """Dials come from the model's options: ``load_time`` (s), ``tokens_per_second`` (0: no limit), ``fail_at_start``
    (a text), ``die_after_chunks``, and the switches ``hang``, ``ignore_term``, ``spawn_child``, ``no_cancel``."""

    name = "echo"

    def version(self) -> str | None:
        """It is a part of Roost."""
        from roost._version import __version__

        return __version__

    def missing(self) -> str | None:
        """Nothing."""
        return None

    def capabilities(self, model: Model) -> Capabilities:
        """Any number of requests at once, any model name; non-streams are cancelled unless ``no_cancel``."""
        return Capabilities(slots=model.slots, cancels_non_stream="no_cancel" not in model.options, metrics=True)

    def build(self, request: LaunchRequest) -> LaunchSpec:
        """One process. Raises ``LaunchRefused`` for an unknown dial."""
        argv = [sys.executable, "-m", "roost.engines.echo_server", "--listen", LISTEN]
        for name, value in sorted(request.model.options.items()):
            if name not in FLAGS | VALUES:
                known = ", ".join(sorted(FLAGS | VALUES))
                raise LaunchRefused(f"The echo engine has no option {name!r}; it has {known}.", code="unknown_option")
            argv += [f"--{name.replace('_', '-')}"] if name in FLAGS else [f"--{name.replace('_', '-')}={value}"]
        return LaunchSpec(
            endpoint_id=request.endpoint_id,
            processes=(ProcessSpec(tuple(argv)),),
            resources=request.hardware.resources,
            accelerator=request.hardware.accelerator,
            zone=request.placement.zone,
            node_id=request.placement.node_id,
        )

    def probe(self, model: Model) -> Probe:
        """A one-token chat."""
        body = {"model": model.id, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        return Probe("POST", "/v1/chat/completions", body)

    def explain(self, exit: ExitInfo) -> Failure:
        """The dial's own text, the signal, or the exit code."""
        for line in exit.log_tail:
            if line.startswith(FAILED):
                return Failure("start_failed", line.removeprefix(FAILED), log_tail=exit.log_tail)
            if "error: argument" in line or "unrecognized arguments" in line:
                return Failure("unknown_option", line, "Mend the model's options.", False, exit.log_tail)
        how = f"signal {exit.signal}" if exit.signal else f"exit code {exit.code}"
        return Failure("engine_crashed", f"The echo engine ended: {exit.cause or how}.", log_tail=exit.log_tail)
