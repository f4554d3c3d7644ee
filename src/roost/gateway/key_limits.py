"""The limits of keys: requests and tokens per minute, and requests at once, over all workers together.

``gateway.infer`` asks ``admit`` for keys that have limits (``RouteKey.metered``), the end of each request so admitted
calls ``ended`` (or ``take_back``) exactly once, and ``spent`` tells what an answer took. With several workers each
shows on the board how much it has admitted, and counts what the others have. It must never cost a key without limits
more than a look at ``metered``, and never lose count of a request that is over: a key that is never free again is worse
than no limit.

Budgets per minute are token buckets (``policy.bucket``). A worker that starts counts from nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from roost.domain.routing import RouteKey
from roost.gateway.answers import Refusal
from roost.gateway.board import Board
from roost.policy.bucket import Bucket

GUESSED_S = 1.0
"""Until a slot of a key is free again, while none of its requests has ended yet."""
_SHARE_OF_NEW = 0.2
"""Weight of the latest request in the average duration of a key's requests."""


_REQUESTS, _TOKENS = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%.3fs\r\n"
    % (name, name, name)
    for name in (b"requests", b"tokens")
)
"""The conventional header lines of a budget."""
A_LOT = 1000
"""Tokens of an answer that is not counted yet, where it is to be decided whether that could matter."""


TOLD_S = 0.02
"""Answers of one key that come this soon after each other tell the same of what is left."""


class Limited(Refusal):
    """429 for a key that has used up a limit, with what is left in ``lines``. Its ``retry-after`` is not capped: it is
    the moment at which the request would pass."""

    __slots__ = ("lines",)

    def __init__(self, message: str, code: str, wait: float, lines: bytes) -> None:
        super().__init__(429, message, code, retry_after=wait, should_retry=True)
        self.lines = lines

    def headers(self) -> bytes:
        """As the base's, with the lines of the limits."""
        return b"retry-after: %d\r\nx-should-retry: true\r\n%b" % (_whole(self.retry_after or 0.0), self.lines)


class _Tally:
    """A number of this worker that the others see, and what has come to theirs since the last look."""

    __slots__ = ("_board", "_name", "_seen", "total")

    def __init__(self, board: Board, name: str) -> None:
        self._board = board
        self._name = name
        self.total = 0
        self._seen = board.others(name)

    def add(self, amount: int) -> None:
        self.total += amount
        if self._board.shared:
            self._board.put(self._name, self.total)

    def others(self) -> int:
        return self._board.others(self._name)

    def news(self) -> int:
        # It falls when a worker takes a refused request back, or leaves: neither gives back what was used. What one
        # took back is not counted when it comes again; a worker that has left is `looked` away.
        others = self.others()
        if others <= self._seen:
            return 0
        seen, self._seen = self._seen, others
        return others - seen

    def looked(self) -> None:
        self._seen = self.others()

    def show(self) -> None:
        if self.total or self._board.has(self._name):
            self._board.put(self._name, self.total)

    def forget(self) -> None:
        self._board.forget(self._name)


class _Use:
    """What one key uses. ``seconds`` is the average duration of its requests, None before the first has ended; ``told``
    are the header lines that said last what is left."""

    __slots__ = ("in_flight", "key", "requests", "seconds", "sent", "spent", "tokens", "told", "told_at")

    def __init__(self, key: RouteKey, board: Board) -> None:
        self.key = key
        self.requests = Bucket()
        self.tokens = Bucket()
        self.sent = _Tally(board, f"{key.id} requests")
        self.spent = _Tally(board, f"{key.id} tokens")
        self.in_flight = _Tally(board, f"{key.id} in flight")
        self.seconds: float | None = None
        self.told, self.told_at = b"", float("-inf")

    def tallies(self) -> tuple[_Tally, _Tally, _Tally]:
        return self.sent, self.spent, self.in_flight

    def budgets(self) -> list[tuple[str, Bucket, int, str]]:
        """For each limit per minute: what it counts, what is used, how much there is, the code when that is gone."""
        both = (
            ("request", self.requests, self.key.requests_per_minute, "rate_limited"),
            ("token", self.tokens, self.key.tokens_per_minute, "token_rate_limited"),
        )
        return [(name, bucket, budget, code) for name, bucket, budget, code in both if budget is not None]

    def lines(self, now: float) -> bytes:
        """The header lines of both limits per minute; answers of keys with limits have them, too."""
        most, tokens = self.key.requests_per_minute, self.key.tokens_per_minute
        lines = _REQUESTS % _left(self.requests, most, now) if most is not None else b""
        return lines + _TOKENS % _left(self.tokens, tokens, now) if tokens is not None else lines

    def settle(self, now: float) -> None:
        """Count what other workers let through since the last look."""
        most, tokens = self.key.requests_per_minute, self.key.tokens_per_minute
        sent, spent = self.sent.news(), self.spent.news()
        if most is not None and sent:
            self.requests.take(most, sent, now)
        if tokens is not None and spent:
            self.tokens.take(tokens, spent, now)


class KeyLimits:
    """The use of all keys that have limits. ``clock`` gives the seconds that ``now`` is in."""

    def __init__(self, board: Board, clock: Callable[[], float]) -> None:
        self._board = board
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    def apply(self, keys: Iterable[RouteKey]) -> None:
        """Take over the limits of a routing table; what was used so far counts on."""
        metered = {key.id: key for key in keys if key.metered}
        for key_id, use in list(self._uses.items()):
            key = metered.pop(key_id, None)
            if key is not None:
                use.key = key
            elif not use.in_flight.total:
                del self._uses[key_id]
                for tally in use.tallies():
                    tally.forget()
        for key_id, key in metered.items():
            self._uses[key_id] = _Use(key, self._board)

    def admit(self, key: RouteKey, now: float) -> Refusal | None:
        """Count a request of a metered key; when it is over a limit, why, and nothing is counted."""
        use = self._uses.get(key.id)
        if use is None:
            use = self._uses[key.id] = _Use(key, self._board)
        key, shared = use.key, self._board.shared
        in_flight = use.in_flight.total + 1
        if shared:
            # First count, then look at the others: of two workers that do so at once, at least one sees the other.
            use.in_flight.add(1)
            use.sent.add(1)
            use.settle(now)
            in_flight += use.in_flight.others()
        most, tokens, at_once = key.requests_per_minute, key.tokens_per_minute, key.concurrency
        full = at_once is not None and in_flight > at_once
        if (
            full
            or (tokens is not None and not use.tokens.fits(tokens, now))
            or (most is not None and not use.requests.take_if_fits(most, now))
        ):
            refusal = _refusal(use, now, full=full)
            if shared:
                use.in_flight.add(-1)
                use.sent.add(-1)
            return refusal
        if not shared:
            # As ``add`` does, without the calls.
            use.in_flight.total += 1
            use.sent.total += 1
        return None

    def look(self, key: RouteKey, now: float, arriving: int) -> Refusal | None:
        """Why a request of a metered key would be refused, were it there now and ``arriving`` others before it; nothing
        is counted."""
        use = self._uses.get(key.id)
        if use is None:
            return None
        key, in_flight = use.key, use.in_flight.total + 1 + arriving
        if self._board.shared:
            use.settle(now)
            in_flight += use.in_flight.others()
        most, tokens = key.requests_per_minute, key.tokens_per_minute
        full = key.concurrency is not None and in_flight > key.concurrency
        fits = (tokens is None or use.tokens.fits(tokens, now)) and (most is None or use.requests.fits(most, now))
        return _refusal(use, now, full=full) if full or not fits else None

    def take_back(self, key: RouteKey) -> None:
        """A request that was admitted is none: it is wrong, and costs nothing. Instead of ``ended``."""
        use = self._uses[key.id]
        use.in_flight.add(-1)
        use.sent.add(-1)
        if use.key.requests_per_minute is not None:
            use.requests.take(use.key.requests_per_minute, -1.0, self._clock())

    def lines(self, key: RouteKey, now: float) -> bytes:
        """The header lines of a metered key's answers: what is left of its requests and tokens per minute, or was
        ``TOLD_S`` ago at most."""
        use = self._uses.get(key.id)
        if use is None:
            return b""
        if now - use.told_at >= TOLD_S:
            use.told_at, use.told = now, use.lines(now)
        return use.told

    def tight(self, key: RouteKey, answers: int) -> bool:
        """Whether so many answers that are not counted yet could use up what a metered key may have in tokens."""
        use, budget = self._uses.get(key.id), key.tokens_per_minute
        return use is not None and budget is not None and use.tokens.used + answers * A_LOT > budget

    def spent(self, key_id: str, tokens: int) -> None:
        """Count prompt and completion tokens of an answer, also of one that was broken off; any key will do."""
        use = self._uses.get(key_id)
        if use is None or use.key.tokens_per_minute is None:
            return
        use.spent.add(tokens)
        use.tokens.take(use.key.tokens_per_minute, tokens, self._clock())

    def ended(self, key: RouteKey, seconds: float) -> None:
        """A request that was admitted is over, after so many seconds, however it ended. Once for each."""
        use = self._uses[key.id]
        if self._board.shared:
            use.in_flight.add(-1)
        else:
            use.in_flight.total -= 1
        use.seconds = seconds if use.seconds is None else use.seconds + _SHARE_OF_NEW * (seconds - use.seconds)

    def share(self, now: float, *, changed: bool) -> None:
        """Once a second where there are several workers; ``changed`` tells that they are not the same as before."""
        for use in self._uses.values():
            for tally in use.tallies():
                tally.show()
            if changed:
                # The sums have jumped for no use of the key.
                for tally in use.tallies():
                    tally.looked()
            else:
                use.settle(now)


def _refusal(use: _Use, now: float, *, full: bool) -> Limited:
    """For the limit that takes longest to pass; ``full``: there are as many requests as there may be at once."""
    key = use.key
    waits = []
    if full and key.concurrency:
        text = f"{_counted(key.concurrency, 'request')} at once, and as many are not answered yet"
        waits.append(((use.seconds or GUESSED_S) / key.concurrency, "concurrency_limited", text))
    for name, bucket, budget, code in use.budgets():
        wait = bucket.wait(budget, now)
        if wait:
            waits.append((wait, code, f"{_counted(budget, name)} per minute"))
    wait, code, text = max(waits)
    message = f"This API key may have {text}. Try again in {_whole(wait)} s."
    return Limited(message, code, wait, use.lines(now))


def _left(bucket: Bucket, budget: int, now: float) -> tuple[int, int, float]:
    """A budget, what is left of it, and the seconds until all of it is there again."""
    level = bucket.level(budget, now)
    left = int(budget - level)
    return budget, max(0, left), level * 60.0 / budget


def _counted(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _whole(seconds: float) -> int:
    """Whole seconds after which it is over for certain, at least 1."""
    return max(1, -int(-seconds // 1))
