"""``roost doctor``: what this machine lacks to run Roost, and what to do about it. Looks, and changes nothing."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli.failure import ExitCode
from roost.cli.output import Output
from roost.cli.session import JsonResult

if TYPE_CHECKING:
    from roost.policy.diagnosis import Finding

MARKS = {"ok": "ok  ", "warning": "WARN", "failure": "FAIL"}
STYLES = {"ok": "green", "warning": "yellow", "failure": "red"}


def doctor(
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The home to look at.  [env: ROOST_HOME; default ~/.roost]")
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="Try the package index, too.")] = False,
    json: JsonResult = False,
) -> None:
    """Check this machine. What Roost needs, line by line, with what to do; exit code 1 when something fails."""
    from roost.cli.examination import examine
    from roost.policy.diagnosis import Outcome, diagnose, worst

    out = Output()
    with contextlib.redirect_stdout(sys.stderr):
        # What the parts that are looked at log has no place in the report.
        findings = diagnose(examine(home, online=online))
    if json:
        out.json({"outcome": worst(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            _print(out, finding, width)
    if worst(findings) is Outcome.FAILURE:
        raise typer.Exit(ExitCode.ERROR)


def _print(out: Output, finding: Finding, width: int) -> None:
    from roost.cli.output import printable

    fix = "" if finding.fix is None else f" -> {finding.fix}"
    text = printable(f"{MARKS[finding.outcome]}  {finding.check:<{width}}  {finding.message}{fix}")
    if not out.interactive:
        typer.echo(text)
        return
    from rich.console import Console
    from rich.text import Text

    shown = Text(text)
    shown.stylize(STYLES[finding.outcome], 0, 4)
    Console(file=sys.stdout).print(shown, soft_wrap=True)
