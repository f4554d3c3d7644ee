"""Runs the real parent with fake children: ``python run_parent.py <home> <stage socket> <JSON of settings>``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from roost.config import Settings
from roost.domain.errors import RoostError
from roost.wiring.parent import Commands, Options, serve
from roost.wiring.restart import RestartPolicy

CHILD = str(Path(__file__).parent / "fake_child.py")


def main() -> int:
    home, stage, values = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])

    def child(name: str) -> list[str]:
        return [sys.executable, CHILD, stage, name, str(home)]

    def show(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    options = Options(
        commands=Commands(
            control=lambda settings: child("control"),
            gateway=lambda settings, index, fd: [*child(f"gateway-{index}"), "--fd", str(fd)],
        ),
        policy=RestartPolicy(**values.pop("policy", {"first_s": 0.01})),
        say=lambda line: show(f"say: {line}"),
        show=show,
        **values.pop("options", {}),
    )
    try:
        return serve(Settings(home=home, **{"port": 0, **values}), options)
    except RoostError as error:
        show(f"error: {error.message}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
