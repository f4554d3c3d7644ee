"""The real part: four SmolLM2 engines behind the shipped gateway, and what they compute. Called by ``__main__``.

Each engine has one slot and one thread. The prompt tokens computed are the engines' own count
(``llamacpp:prompt_tokens_total``), so a prompt that a cache held costs nothing here. Every load starts on new engines.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import httpx

from roost.models.catalog import SMOLLM2
from roost.wiring.temporary import ServerFailed, TemporaryServer

MODEL = "bench/smollm2"
REPLICAS = 4
CONTEXT = 2048
KV_BYTES_PER_TOKEN = 23_040
SYSTEM_TOKENS = 512
CONVERSATIONS, TURNS = 16, 6
CONVERSATION_TOKENS = 1040
"""What a conversation comes to at its end."""
CACHE_SHARES = (1 / 3, 1 / 4, 1.0)
"""Of all conversations' tokens, how many each engine's prompt cache holds; the first is what the targets are of. Below
a fourth, four engines do not hold all of them together; with one, each engine holds all."""
RANDOM_PROMPTS = 64
ANSWER_TOKENS = 32
AT_ONCE = (2, 4)
"""Requests under way at once; the first is what the targets are of. Where all slots are taken, there is no choice."""
SEED = 1
FEWER = 0.4
START_S = 180.0
COMPUTED = re.compile(r"^llamacpp:prompt_tokens_total (\S+)", re.MULTILINE)
WORDS = """
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work government number night point
home water room mother area money story fact month lot right study book eye job word business issue
side kind head house service friend
""".split()  # noqa: SIM905
OURS, LEAST, ROUND_ROBIN = "expected-ttft", "least-in-flight", "round robin"
ROUTERS = (ROUND_ROBIN, LEAST, OURS)
Message = dict[str, str]


@dataclass
class Conversation:
    """What was said so far, and what the user will say."""

    messages: list[Message]
    turns: list[str]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Found:
    """What a load came to: prompt tokens computed and sent, seconds to the first token, what the gateway said of its
    choices."""

    computed: int = 0
    prompt_tokens: int = 0
    ttft_s: list[float] = field(default_factory=list)
    routes: Counter[str] = field(default_factory=Counter)


class Engines:
    """The four engines of one server, as the server's records name them."""

    def __init__(self, home: Path) -> None:
        records = [json.loads(path.read_text()) for path in sorted((home / "run" / "replicas").glob("*.json"))]
        self.clients = [
            httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=record["address"].removeprefix("unix:")),
                base_url="http://engine",
                timeout=600,
            )
            for record in records
        ]

    async def computed(self) -> int:
        """Prompt tokens that all of them have computed since their start."""
        total = 0.0
        for client in self.clients:
            found = COMPUTED.search((await client.get("/metrics")).raise_for_status().text)
            assert found is not None
            total += float(found[1])
        return round(total)

    async def text_of(self, tokens: int, random: Random) -> str:
        """Some text of about ``tokens`` tokens."""
        words = random.choices(WORDS, k=2 * tokens)
        text = " ".join(words)
        answer = await self.clients[0].post("/tokenize", json={"content": text})
        per_word = len(answer.raise_for_status().json()["tokens"]) / len(words)
        return " ".join(words[: round(tokens / per_word)])


@dataclass
class Stage:
    """A running server, its engines, and who asks them: through the gateway, or each engine in turn."""

    engines: Engines
    gateway: httpx.AsyncClient
    endpoint: str
    router: str
    turn: Iterator[int] = field(default_factory=itertools.count)

    async def ask(self, messages: Sequence[Message], found: Found) -> str:
        """One streamed answer."""
        client = self.gateway
        if self.router == ROUND_ROBIN:
            client = self.engines.clients[next(self.turn) % REPLICAS]
        body = {
            "model": self.endpoint,
            "messages": messages,
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        began, said = time.perf_counter(), ""
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != httpx.codes.OK:
                raise SystemExit(f"{answer.status_code}: {(await answer.aread()).decode()}")
            found.routes[answer.headers.get("x-roost-route", "direct").split()[0]] += 1
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                for choice in chunk["choices"]:
                    if not said and choice["delta"].get("content"):
                        found.ttft_s.append(time.perf_counter() - began)
                    said += choice["delta"].get("content") or ""
                if chunk.get("usage"):
                    found.prompt_tokens += chunk["usage"]["prompt_tokens"]
        return said


async def conversations(stage: Stage, at_once: int, random: Random) -> Found:
    """Sixteen conversations of six turns with one system prompt, their turns shuffled among each other."""
    system = {"role": "system", "content": await stage.engines.text_of(SYSTEM_TOKENS, random)}
    everyone = [
        Conversation([system], [" ".join(random.choices(WORDS, k=random.randint(20, 60))) for _ in range(TURNS)])
        for _ in range(CONVERSATIONS)
    ]
    order = [number for number in range(CONVERSATIONS) for _ in range(TURNS)]
    random.shuffle(order)
    found = Found()

    async def one(number: int) -> None:
        talk = everyone[number]
        async with talk.lock:
            talk.messages.append({"role": "user", "content": talk.turns.pop(0)})
            said = await stage.ask(talk.messages, found)
            talk.messages.append({"role": "assistant", "content": said})

    await _all(stage, [partial(one, number) for number in order], at_once, found)
    return found


async def random_prompts(stage: Stage, at_once: int, random: Random) -> Found:
    """Prompts that have nothing in common."""
    texts = [await stage.engines.text_of(random.randint(64, SYSTEM_TOKENS), random) for _ in range(RANDOM_PROMPTS)]
    found = Found()
    jobs = [partial(stage.ask, [{"role": "user", "content": text}], found) for text in texts]
    await _all(stage, jobs, at_once, found)
    return found


async def _all(stage: Stage, jobs: Sequence[Callable[[], Awaitable[object]]], at_once: int, found: Found) -> None:
    left = iter(jobs)

    async def worker() -> None:
        for job in left:
            await job()

    before = await stage.engines.computed()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    found.computed = await stage.engines.computed() - before


LOADS = {"conversations": conversations, "random prompts": random_prompts}


@contextmanager
def _server(policy: str) -> Iterator[tuple[Path, httpx.Client]]:
    """A server that balances by ``policy``, in a home of its own with the project's weights, and a client of it."""
    home = Path(tempfile.mkdtemp(prefix="roost-balancer-"))
    # As many threads as replicas, whatever the machine has.
    over = max(1.0, REPLICAS / len(os.sched_getaffinity(0)))
    (home / "config.toml").write_text(f'balancer = "{policy}"\ncpu_overcommit = {over}\n')
    server = TemporaryServer(home, "--port", "0")
    server.share_weights(Path(os.environ.get("ROOST_TEST_CACHE") or Path(__file__).parents[2] / ".cache").absolute())
    try:
        server.start()
        held = json.loads((home / "credentials.json").read_text())
        headers = {"authorization": f"Bearer {held['api_key']}"}
        with httpx.Client(base_url=held["base_url"], headers=headers, timeout=120) as client:
            yield home, client
    except ServerFailed as error:
        raise SystemExit("\n".join((error.message, *error.lines, *server.log_lines()))) from error
    finally:
        server.stop()
        server.remove()


def _deploy(client: httpx.Client, mib: int) -> str:
    """Deploy four replicas; the endpoint's name once all are ready."""
    source = SMOLLM2.source
    assert source is not None
    entry = {
        "id": MODEL,
        "engine": "llama_cpp",
        "context_length": CONTEXT,
        "slots": 1,
        "source": {"kind": source.kind, "location": source.location, "member": source.member, "sha256": source.sha256},
        "options": {"prompt_cache_mib": str(mib)},
        "footprint": {"weights_bytes": source.size_bytes, "kv_bytes_per_token": KV_BYTES_PER_TOKEN},
    }
    _ok(client.post("/models", json=entry))
    scale = {"min_replicas": REPLICAS, "max_replicas": REPLICAS}
    body = {"model": MODEL, "hardware": "1x_cpu", "autoscaling": scale, "inactive_timeout": None}
    endpoint = _ok(client.post("/endpoints", json=body)).json()
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        replicas = _ok(client.get(f"/endpoints/{endpoint['id']}")).json()["replicas"]
        if sum(each["state"] == "READY" for each in replicas) == REPLICAS:
            return str(endpoint["name"])
        time.sleep(0.1)
    raise SystemExit(f"The replicas were not ready within {START_S:g} s.")


def _ok(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise SystemExit(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")
    return answer


@asynccontextmanager
async def _stage(home: Path, client: httpx.Client, endpoint: str, router: str) -> AsyncIterator[Stage]:
    engines = Engines(home)
    base = str(client.base_url).removesuffix("/").removesuffix("/v1")
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=base, headers=client.headers, timeout=600, limits=limits) as gateway:
        try:
            yield Stage(engines, gateway, endpoint, router)
        finally:
            for each in engines.clients:
                await each.aclose()


def run(load: str, router: str, at_once: int, mib: int, seed: int) -> Found:
    """One load on new engines."""

    async def inside(home: Path, client: httpx.Client, endpoint: str) -> Found:
        async with _stage(home, client, endpoint, router) as stage:
            return await LOADS[load](stage, at_once, Random(seed))

    with _server(LEAST if router == ROUND_ROBIN else router) as (home, client):
        return asyncio.run(inside(home, client, _deploy(client, mib)))


def describe(found: Found, ratio: float) -> str:
    """A line's worth of it."""
    routes = ", ".join(f"{name} {count}" for name, count in found.routes.most_common())
    return (
        f"{found.computed:,} of {found.prompt_tokens:,} | {ratio:.3f} | {statistics.mean(found.ttft_s):.2f} "
        f"| {statistics.median(found.ttft_s):.2f} | {routes}"
    )


def cache_mib(share: float) -> int:
    """MiB that hold ``share`` of all conversations, whole as llama.cpp keeps them: each with its system prompt."""
    return round(share * CONVERSATIONS * CONVERSATION_TOKENS * KV_BYTES_PER_TOKEN / 1024**2)


def tables(quick: bool) -> bool:
    """Run the loads with each router and print what they computed; whether the targets are met."""
    print(
        f"\n{REPLICAS} engines (SmolLM2 135M, 1 slot, 1 thread each); prompt caches for a share of all conversations:\n"
    )
    print("| load | at once | cache | router | computed, of | ÷ round robin | mean TTFT s | median s | how chosen |")
    print("|---|---|---|---|---|---|---|---|---|")
    usual, some = CACHE_SHARES[0], AT_ONCE[0]
    runs = [("conversations", some, usual)]
    if not quick:
        runs += [("random prompts", some, usual)]
        runs += [("conversations", some, share) for share in CACHE_SHARES[1:]]
        runs += [("conversations", at_once, usual) for at_once in AT_ONCE[1:]]
    computed: dict[tuple[str, int, float, str], int] = {}
    for load, at_once, share in runs:
        for router in ROUTERS:
            mib = cache_mib(share)
            found = run(load, router, at_once, mib, SEED)
            computed[load, at_once, share, router] = found.computed
            ratio = found.computed / computed[load, at_once, share, ROUND_ROBIN]
            what = f"| {load} | {at_once} | {share:.0%}, {mib} MiB | {router}"
            print(f"{what} | {describe(found, ratio)} |", flush=True)
    fewer = 1 - computed["conversations", some, usual, OURS] / computed["conversations", some, usual, ROUND_ROBIN]
    met = fewer >= FEWER
    print(f"\n| fewer prompt tokens computed than round robin | ≥ {FEWER:.0%} | {fewer:.0%} | {_met(met)} |")
    if not quick:
        ours, least = (computed["random prompts", some, usual, router] for router in (OURS, LEAST))
        # To two digits: which request comes first on a new engine makes a difference of a token.
        equal = round(ours / least, 2) <= 1.0
        print(f"| random prompts, computed ÷ least in flight | ≤ 1.00 | {ours / least:.4f} | {_met(equal)} |")
        met &= equal
    return met


def _met(met: bool) -> str:
    return "met" if met else "not met"
