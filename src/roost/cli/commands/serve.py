"""``roost serve``: run a server in this terminal until it is told to stop. The only command that starts processes
of the server; what it does is in ``roost.wiring.parent``."""

from __future__ import annotations

import os
import sys
from json import dumps
from pathlib import Path
from typing import Annotated

import typer


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all.  [default: 127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port; 0 for any free one.  [default: 8080]")] = None,
    home: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where everything is kept.  [env: ROOST_HOME; default ~/.roost]"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings in TOML.  [default: config.toml in the home]")
    ] = None,
    gateway_workers: Annotated[
        int | None, typer.Option(metavar="N", help="Gateway processes.  [default: 1, enough for a thousand streams]")
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Certificate (PEM, with its chain): the port speaks TLS.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="The certificate's private key (PEM).")] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.  [default: info]")
    ] = None,
    sandbox: Annotated[
        bool | None,
        typer.Option(
            "--sandbox/--no-sandbox",
            show_default=False,
            help="Declared GPUs and a small model under the names of large ones, to try scripts on; its home is "
            "~/.roost-sandbox.",
        ),
    ] = None,
    keep_replicas: Annotated[
        bool, typer.Option("--keep-replicas", help="Leave replicas running at the end; the next server adopts them.")
    ] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new admin key and put it into credentials.json.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Write logs to the terminal instead of files (for containers).")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON once it serves, without the key, instead of text.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", hidden=True, help="Only see whether this could take over the running server.")
    ] = False,
) -> None:
    """Run a server: API, gateway and replicas on this machine.

    Every setting can also be given as ROOST_<NAME> or in config.toml. Ctrl-C finishes the requests in flight and
    stops everything; Ctrl-C again stops at once.
    """
    from roost.config import load
    from roost.wiring import parent
    from roost.wiring.check import check as check_program

    settings = load(
        home=home,
        config=config,
        host=host,
        port=port,
        gateway_workers=gateway_workers,
        tls_cert=tls_cert,
        tls_key=tls_key,
        log_level=log_level,
        sandbox=sandbox,
    )
    if check:
        _show(dumps(check_program(settings)))
        return
    options = parent.Options(
        keep_replicas=keep_replicas,
        verbose=verbose,
        new_key=new_key,
        json=json,
        # The interpreter by the path that it was called by: a link on that path may lead to a newer one by then.
        argv=(sys.executable, *sys.orig_argv[1:]),
        say=_say,
        show=_show,
    )
    raise typer.Exit(parent.serve(settings, options))


def _show(text: str) -> None:
    _write(sys.stdout.fileno(), text)


def _say(text: str) -> None:
    _write(sys.stderr.fileno(), text)


def _write(handle: int, text: str) -> None:
    from roost.cli.output import broken

    try:
        if os.isatty(handle):
            # Commands, which are copied, stay whole.
            lines = text.split("\n")
            text = "\n".join(part for line in lines for part in ([line] if " --" in line else broken(line)))
        os.write(handle, f"{text}\n".encode())
    except OSError:
        # The terminal or the pipe is gone: nobody is left to tell, and the server must end in order all the same.
        return
