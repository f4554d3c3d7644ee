"""An engine without a model: it says the user's words back. For tests, benchmarks and trying things out.

Called by control through the registry. The process is ``roost.engines.echo_server``, whose dials are set by the
options of the model's entry.
"""

from __future__ import annotations

import sys

from roost._version import __version__
from roost.domain.errors import LaunchRefused
from roost.domain.launch import LISTEN, LaunchSpec, ProcessSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, Failure
from roost.engines.base import Capabilities, LaunchRequest, Probe
from roost.engines.exits import crash, match, rule

SERVER = "roost.engines.echo_server"

NUMBERS = ("load_time", "tokens_per_second")
COUNTS = ("die_after_chunks", "slots")
SWITCHES = ("hang", "ignore_term", "spawn_child", "cancels_non_stream")
TEXTS = ("fail_at_start",)
OPTIONS = tuple(sorted((*NUMBERS, *COUNTS, *SWITCHES, *TEXTS)))
"""Engine options of a model's entry: the dials of ``echo_server``, with underscores."""

LONGEST_COUNT = 9
MOST = 1_000_000

RULES = (
    rule("echo_server: told to fail", "told_to_fail", "The echo engine failed as it was told to"),
    rule("echo_server: told to die", "told_to_die", "The echo engine died as it was told to", retryable=True),
    rule("echo_server: cannot listen", "port_in_use", "The replica's address cannot be used", retryable=True),
    rule("echo_server: error:", "unknown_option", "The echo engine does not take one of its options"),
)


class EchoEngine:
    """Needs no weights and next to no resources; starts in a few hundredths of a second."""

    name = "echo"

    def version(self) -> str | None:
        """Roost's own version: the engine is a part of it."""
        return __version__

    def missing(self) -> str | None:
        """None: nothing is needed."""
        return None

    def capabilities(self, model: Model) -> Capabilities:
        """No limit of requests unless the entry sets one."""
        return Capabilities(
            slots=model.slots,
            cancels_non_stream=model.options.get("cancels_non_stream") != "false",
            any_model_name=True,
            can_continue=True,
            metrics=True,
            health_path="/health",
            memory=None,
        )

    def check_options(self, model: Model) -> None:
        """Raise ``LaunchRefused`` for a dial that it does not have, or a value that it does not take."""
        for name, value in model.options.items():
            _dial(model, name, value)

    def build(self, request: LaunchRequest) -> LaunchSpec:
        """The server's command line. Raises ``LaunchRefused`` for an option it does not have."""
        argv = [sys.executable, "-P", "-m", SERVER, "--listen", LISTEN, "--model", request.endpoint_name]
        if request.model.slots is not None and "slots" not in request.model.options:
            argv += ["--slots", str(request.model.slots)]
        for name, value in sorted(request.model.options.items()):
            argv += _dial(request.model, name, value)
        return LaunchSpec(
            endpoint_id=request.endpoint_id,
            processes=(ProcessSpec(tuple(argv)),),
            resources=request.hardware.resources,
            accelerator=request.hardware.accelerator,
            zone=request.placement.zone,
            node_id=request.placement.node_id,
        )

    def probe(self, model: Model) -> Probe:
        """One token of chat, or what a model of another type does."""
        if model.type == "embedding":
            return Probe("POST", "/v1/embeddings", {"input": "Hi"})
        if model.type == "rerank":
            return Probe("POST", "/v1/rerank", {"query": "Hi", "documents": ["Hi"]})
        return Probe("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})

    def explain(self, exit: ExitInfo) -> Failure:
        """What it was told to do, else the plain facts."""
        if exit.cause is None and exit.signal is None:
            return match(exit.log_tail, RULES) or crash(exit)
        return crash(exit)


def _dial(model: Model, name: str, value: str) -> list[str]:
    if name not in OPTIONS:
        raise LaunchRefused(
            f"{model.id}: the echo engine has no option {name!r}; it has {', '.join(OPTIONS)}.", code="unknown_option"
        )
    flag = f"--{name.replace('_', '-')}"
    if name in SWITCHES:
        if value not in ("true", "false"):
            raise _refused(model, name, "true or false", value)
        return [flag] if value == "true" else [f"--no-{flag[2:]}"]
    if name in COUNTS and not (value.isascii() and value.isdecimal() and len(value) <= LONGEST_COUNT):
        raise _refused(model, name, f"a whole number of at most {LONGEST_COUNT} digits", value)
    if name in NUMBERS and not _is_number(value):
        raise _refused(model, name, f"a number from 0 to {MOST}", value)
    if name in TEXTS and not value.isprintable():
        raise _refused(model, name, "printable text on one line", value)
    return [f"{flag}={value}"]


def _refused(model: Model, name: str, takes: str, value: str) -> LaunchRefused:
    return LaunchRefused(f"{model.id}: {name} takes {takes}, not {value[:100]!r}.", code="unknown_option")


def _is_number(text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return 0 <= number <= MOST
