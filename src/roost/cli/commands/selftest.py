"""``roost selftest``: proof on this machine that no answer is lost, cut short or given twice, whatever dies.

It starts a server of its own in a temporary home, puts it under load, kills, stops and replaces parts of it, and checks
every answer. It ends that server whatever happens.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roost.cli.failure import CommandFailed, ExitCode, Interrupted
from roost.cli.output import Aside, Output
from roost.cli.session import JsonResult

if TYPE_CHECKING:
    from roost.selftest.report import Report
    from roost.selftest.run import SelfTest
    from roost.wiring.temporary import TemporaryServer


def selftest(
    minutes: Annotated[float, typer.Option(metavar="N", min=0.2, max=600, help="Minutes of load and faults.")] = 3.0,
    echo_only: Annotated[
        bool, typer.Option("--echo-only", help="Leave the model out: no weights are needed, and answers are exact.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Which faults hit which replicas.")] = 1,
    keep_home: Annotated[
        bool, typer.Option("--keep-home", help="Keep the temporary home with its logs; kept anyway if it fails.")
    ] = False,
    json: JsonResult = False,
) -> None:
    """Prove on this machine that no answer is lost: load, while replicas, control plane and gateways are killed.

    A server of its own, in a temporary home; yours is not touched. Every answer's text, end and usage are checked.
    """
    from roost.selftest.run import Options, SelfTest

    out = Aside() if json else Output()
    options = Options(seconds=minutes * 60, seed=seed)
    if echo_only:
        options = Options(seconds=minutes * 60, seed=seed, model_replicas=0)
    home = Path(tempfile.mkdtemp(prefix="roost-selftest-"))
    began = time.monotonic()
    server = SelfTest.server(home, options)
    test = SelfTest(options, server, lambda text: out.text(f"{time.monotonic() - began:6.1f} s  {text}"))
    passed = False
    try:
        report = _run(test, server, out)
        passed = report.passed
    except Interrupted:
        passed = True
        raise
    finally:
        # What went wrong is told by the logs.
        if keep_home or not passed:
            out.line(f"Kept, with its logs: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    if json:
        out.json(report.to_dict())
    else:
        show(out, report)
    if not report.passed:
        raise typer.Exit(ExitCode.ERROR)


def _run(test: SelfTest, server: TemporaryServer, out: Output) -> Report:
    from roost.client.errors import ClientError
    from roost.wiring.temporary import ServerFailed

    out.text(f"A server in {server.home}; every answer is checked while parts of it are killed.")
    against = server.share_weights(Path.home() / ".cache" / "roost" / "models")
    if against is not None:
        out.note(f"{against}: the weights are downloaded for this run only.")
    try:
        try:
            server.start()
            report = asyncio.run(test.run())
        finally:
            server.stop()
    except ClientError as error:
        raise CommandFailed(error.message, lines=server.log_lines()) from error
    except ServerFailed as error:
        raise CommandFailed(error.message, lines=(*error.lines, *server.log_lines())) from error
    except KeyboardInterrupt:
        raise Interrupted("\nInterrupted; the server is stopped.") from None
    test.look_at_logs()
    return report


def show(out: Output, report: Report) -> None:
    """The counts, the faults, and what went wrong."""
    from roost.selftest.work import Engine

    out.line("")
    heading, *rows = report.rows()
    out.table(heading, rows, empty="No answer came.")
    out.line("")
    faults = ", ".join(f"{count} {kind}" for kind, count in report.fault_counts().items())
    out.text(f"Faults: {faults or 'none'}.")
    for engine, tally in report.tallies.items():
        if tally.repeated:
            out.text(
                f"{engine.value}: clients repeated {tally.repeated} requests, {len(tally.broken)} because their "
                f"connection broke with a killed gateway worker ({tally.cut} in the middle of an answer), the rest as "
                "they were told."
            )
    model = report.tallies.get(Engine.MODEL)
    if model is not None:
        out.text(f"model: {model.agreeing} answers equal to the undisturbed ones.")
    for text in (*report.examples, *report.trouble):
        out.text(f"! {text}")
    if report.served_twice:
        out.text(f"! {report.served_twice} requests were completed twice.")
    for broken in report.unexplained:
        out.text(f"! a connection broke although no gateway worker had been killed: {broken.request_id}: {broken.how}")
    for left in report.left_behind:
        out.text(f"! left behind: {left}.")
    verdict = "Passed" if report.passed else "FAILED"
    out.text(f"{verdict} after {report.seconds:.0f} s: {report.failed} answers lost, truncated, duplicated or wrong.")
