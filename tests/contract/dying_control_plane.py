"""A control plane that launches one replica, says READY and waits to be killed. Run by ``local_world``."""

from __future__ import annotations

import asyncio
import pickle
import sys

from roost.domain.replica import RuntimeState


async def main() -> None:
    factory, settings, resources, environment, spec, replica_id = pickle.loads(sys.stdin.buffer.read())
    runtime = factory(settings, resources=resources, environment=environment)
    await runtime.start()
    await runtime.launch(spec, replica_id)
    while True:
        status = await runtime.status(replica_id)
        if status is not None and status.state is RuntimeState.READY:
            print("READY", flush=True)
        await runtime.changed()


if __name__ == "__main__":
    asyncio.run(main())
