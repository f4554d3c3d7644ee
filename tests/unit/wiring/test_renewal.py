"""Restarts in place: a wish that comes while the new program checks itself is not lost by its execution."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BEFORE = """
import asyncio, json, signal, sys
from pathlib import Path
from roost.wiring import renewal, takeover

def hold(number):
    return takeover.Handover(0, 1, 2, 2, {}, number, False)

async def main():
    run = Path(sys.argv[1])
    restarts = renewal.Renewal(run, [sys.executable, str(run / "after.py")], print, hold)
    restarts.wish(gateways_only=False)
    running = asyncio.create_task(restarts.run(renewal.Crew(None, (), 1.0), None))
    told = run / renewal.FILE
    while not told.exists() or json.loads(told.read_text())["state"] != renewal.CHECKING:
        await asyncio.sleep(0)
    restarts.wish(gateways_only=json.loads(sys.argv[2]))
    await running

asyncio.run(main())
"""
AFTER = """
import json, signal, sys
from roost.wiring import takeover

if "--check" in sys.argv:
    print(json.dumps({"protocol": takeover.PROTOCOL}))
else:
    for number, name in ((signal.SIGUSR2, "all"), (takeover.RESTART_GATEWAYS, "gateways")):
        signal.signal(number, lambda *_, name=name: print("wished:", name))
    assert takeover.received().number == 1
    takeover.listen()
    print("took over")
"""


@pytest.mark.parametrize(("gateways_only", "wished"), [(False, "all"), (True, "gateways")])
def test_a_wish_while_the_new_program_checks_itself_is_left_to_it(
    tmp_path: Path, *, gateways_only: bool, wished: str
) -> None:
    (tmp_path / "after.py").write_text(AFTER)
    done = subprocess.run(
        [sys.executable, "-c", BEFORE, str(tmp_path), json.dumps(gateways_only)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [f"wished: {wished}", "took over"], done.stderr
