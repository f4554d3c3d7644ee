"""Arguments and options that several commands have, or that are long to declare. Read by the command modules."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from roost.cli import complete


class EndpointType(StrEnum):
    """Values of ``--type``."""

    DEDICATED = "dedicated"
    SERVERLESS = "serverless"


class UsageType(StrEnum):
    """Values of ``--usage-type``."""

    ON_DEMAND = "on-demand"
    RESERVED = "reserved"


EndpointArgument = Annotated[
    str,
    typer.Argument(metavar="ENDPOINT", help="Id or name of the endpoint.", autocompletion=complete.endpoints),
]
DisplayName = Annotated[str | None, typer.Option("--display-name", metavar="NAME", help="A human-readable name.")]
MinReplicas = typer.Option("--min-replicas", metavar="N", min=0, help="Minimum number of replicas.")
MaxReplicas = typer.Option("--max-replicas", metavar="N", min=1, help="Maximum number of replicas.")
AutoStop = typer.Option(
    "--inactive-timeout",
    metavar="MINUTES",
    min=0,
    help="Minutes without a request until it stops; 0: never (recorded; not in force yet).",
)
InactiveTimeout = Annotated[int | None, AutoStop]
NoAutoStart = Annotated[bool, typer.Option("--no-auto-start", help="Create it STOPPED.")]
NoSpeculation = Annotated[bool, typer.Option("--no-speculative-decoding", help="Disable speculative decoding.")]
NoPromptCache = Annotated[bool, typer.Option("--no-prompt-cache", hidden=True, help="Deprecated: has no effect.")]
Zone = Annotated[
    str | None,
    typer.Option(
        "--availability-zone", metavar="ZONE", help="Preferred availability zone.", autocompletion=complete.zones
    ),
]
ModelToDeploy = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Model to deploy: its id or alias (required).",
        autocompletion=complete.models,
    ),
]
ModelArgument = Annotated[
    str | None, typer.Argument(metavar="MODEL", hidden=True, help="The same as --model.", show_default=False)
]
HardwareId = Annotated[
    str | None,
    typer.Option(
        "--hardware",
        metavar="ID",
        help="Hardware configuration id (required).",
        autocompletion=complete.hardware,
    ),
]
ForModel = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Only what this model runs on.", autocompletion=complete.models),
]
WaitStarted = Annotated[bool, typer.Option("--wait", help="Wait until it is STARTED (exit code 5: it failed).")]
WaitStopped = Annotated[bool, typer.Option("--wait", help="Wait until it is STOPPED.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0, help="With --wait: wait no longer than this (exit code 7)."),
]
