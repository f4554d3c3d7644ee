"""Other spellings of the endpoint commands, which other clients of this API know. Pure; called by ``cli.group``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COMMANDS: Mapping[str, str] = {"ls": "list", "get": "retrieve", "-c": "create", "-d": "delete"}
"""Short forms of the commands of ``roost endpoints``."""

OF_COMMANDS = frozenset({"--base-url", "--api-key", "--home", "--json", "--no-json", "--debug", "--project"})
"""Options of every command and not of ``roost`` itself."""


def as_argument(arguments: Sequence[str], option: str) -> list[str]:
    """``arguments`` with the value of ``option`` as a positional argument: ``--endpoint-id X`` becomes ``X``.

    What follows ``--`` is left as it is, and so is an option without a value.
    """
    found = list(arguments)
    end = found.index("--") if "--" in found else len(found)
    for index, text in enumerate(found[:end]):
        if text.startswith(f"{option}="):
            return [*found[:index], text.removeprefix(f"{option}="), *found[index + 1 :]]
        if text == option and index + 1 < end:
            return [*found[:index], *found[index + 1 :]]
    return found
