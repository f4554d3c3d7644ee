"""The closed loop: clients that ask one request after the other, as published clients do it, and note what they saw.

Called by ``run``. A client repeats what no answer came to, twice at most and as told by ``x-should-retry`` and
``retry-after``; it must never repeat silently: every repetition is counted.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping

import httpx

from roost.selftest.work import Ask, Break, Engine, Seen

MAX_REPEATS = 2
LONGEST_PAUSE_S = 60.0
FIRST_PAUSE_S = 0.5
TIMEOUT_S = 120.0
REPEATED = frozenset((408, 409, 429, 500, 502, 503, 504))


class Clients:
    """The clients of one run. ``endpoints`` are ids by engine; ``saw`` is told of each answer."""

    def __init__(
        self, base_url: str, api_key: str, endpoints: Mapping[Engine, str], saw: Callable[[Seen], None]
    ) -> None:
        self._endpoints = endpoints
        self._saw = saw
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {api_key}"},
            timeout=TIMEOUT_S,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def loop(self, next_ask: Callable[[], Ask], stopped: Callable[[], bool]) -> None:
        """One client: ask after ask until ``stopped``."""
        while not stopped():
            self._saw(await self.ask(next_ask()))

    async def ask(self, ask: Ask) -> Seen:
        """One request with its repetitions."""
        seen = Seen(ask)
        while True:
            pause = await self._try(seen)
            if pause is None or seen.repeats >= MAX_REPEATS:
                return seen
            seen = Seen(ask, repeats=seen.repeats + 1, broken=seen.broken, cut=seen.cut + bool(seen.pieces))
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _try(self, seen: Seen) -> float | None:
        """One try; the pause before the next one, None when there must be none."""
        ask = seen.ask
        headers = {
            "x-stainless-retry-count": str(seen.repeats),
            "x-stainless-read-timeout": f"{TIMEOUT_S:g}",
            "x-request-id": f"selftest-{ask.engine.value}-{ask.number}-{seen.repeats}",
        }
        seen.request_id = headers["x-request-id"]
        body = ask.body(self._endpoints[ask.engine])
        try:
            async with self._http.stream("POST", "/chat/completions", json=body, headers=headers) as answer:
                seen.status = answer.status_code
                seen.replica = answer.headers.get("x-roost-replica")
                if answer.status_code != 200:
                    return await _refused(seen, answer)
                if ask.stream:
                    await _read_stream(seen, answer)
                else:
                    _read_whole(seen, await answer.aread())
        except httpx.TransportError as error:
            # A connection that breaks is what a client can notice, and asks anew after.
            seen.failure = f"{type(error).__name__}: {error}".rstrip(": ")
            seen.broken.append(Break(time.monotonic(), seen.request_id or "", seen.failure))
            return FIRST_PAUSE_S
        return None


async def _refused(seen: Seen, answer: httpx.Response) -> float | None:
    text = (await answer.aread()).decode("utf-8", "replace")
    seen.failure = f"status {answer.status_code}: {text[:200]}"
    told = answer.headers.get("x-should-retry")
    if told == "false" or (told != "true" and answer.status_code not in REPEATED):
        return None
    after = answer.headers.get("retry-after", "")
    return min(float(after), LONGEST_PAUSE_S) if after.replace(".", "", 1).isdigit() else FIRST_PAUSE_S


def _read_whole(seen: Seen, raw: bytes) -> None:
    value = json.loads(raw)
    choice = value["choices"][0]
    seen.pieces.append(choice["message"]["content"] or "")
    seen.finish = choice["finish_reason"]
    seen.usage = value.get("usage")


async def _read_stream(seen: Seen, answer: httpx.Response) -> None:
    events = 0
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            seen.done = True
            continue
        if seen.done:
            seen.failure = "an event after [DONE]"
        event = json.loads(data)
        if "error" in event:
            seen.failure = f"error frame: {event['error'].get('message')}"
            continue
        seen.usage = event.get("usage") or seen.usage
        for choice in event["choices"]:
            if choice["delta"].get("content"):
                seen.pieces.append(choice["delta"]["content"])
            seen.finish = choice.get("finish_reason") or seen.finish
        events += 1
        if seen.ask.hang_up_after is not None and events >= seen.ask.hang_up_after:
            seen.left = True
            return
