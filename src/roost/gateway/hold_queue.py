"""The requests of one endpoint that wait for a replica: bounded, fair between keys, in order within a key.

Made by ``books``, one per endpoint, used by ``dispatch``. No I/O; time is an argument. It must never lose a request,
nor hand one out twice, nor let one key's requests keep another's out.

Keys take turns (deficit round robin): a turn is worth one unit, and a request is handed out once its key has saved up
its cost. The gateway lets a request cost the time on a replica that it is likely to take, since slots are what keys
compete for: one unit for the answer, whose length nobody knows, and one more for each 1,000 tokens of prompt or so. If
each cost the same, a key with long prompts would get many times the share of one with short ones.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

MOST_COST = 16
"""No request costs more turns, so that handing one out looks at each key this often at most."""
WINDOW_S = 30.0
"""How fast requests leave is measured over this long, give or take a half; time in which none waited does not count."""
LEAST_SPAN_S = 1.0
"""A rate is never taken over less."""


class Waiting(Protocol):
    """What can wait: ``lane`` names the key it is fair for, ``cost`` counts its turns (1 to ``MOST_COST``),
    ``deadline`` is the loop time until which it may wait. None of them changes meanwhile."""

    deadline: float

    @property
    def lane(self) -> str:
        """Whom the queue is fair for."""
        ...

    @property
    def cost(self) -> int:
        """Its turns."""
        ...


T = TypeVar("T", bound=Waiting)


class _Lane(Generic[T]):
    __slots__ = ("credit", "items")

    def __init__(self) -> None:
        self.items: OrderedDict[T, None] = OrderedDict()
        self.credit = 0


class HoldQueue(Generic[T]):
    """The queue. ``size`` is how many wait (to be read only). All times are the loop's, in seconds."""

    __slots__ = ("_earliest", "_empty_at", "_lanes", "_left", "_since", "size")

    def __init__(self) -> None:
        self.size = 0
        self._lanes: OrderedDict[str, _Lane[T]] = OrderedDict()  # in the order of their turns
        self._earliest = math.inf  # no deadline is before this
        self._left = 0.0
        self._since = self._empty_at = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return self.size

    def __iter__(self) -> Iterator[T]:
        """Those that wait, key by key."""
        return (item for lane in self._lanes.values() for item in lane.items)

    def push(self, item: T, limit: int, now: float) -> T | None:
        """Put ``item`` at the end, if fewer than ``limit`` wait. Returns who has to go instead: None, the newest of
        the key that has the most (when ``item``'s has less than its share), else ``item`` itself."""
        loser = None
        if self.size >= limit:
            loser = self._loser(item.lane, limit)
            if loser is None:
                return item
            self.remove(loser, now)
        self._lane_for(item, now).items[item] = None
        return loser

    def put_back(self, item: T, now: float) -> None:
        """Put one that had left in front of its key's, and its key in front of the others: it has had its turn. There
        is always room for it."""
        lane = self._lane_for(item, now)
        lane.items[item] = None
        lane.items.move_to_end(item, last=False)
        lane.credit = MOST_COST
        self._lanes.move_to_end(item.lane, last=False)

    def pop(self, now: float) -> T:
        """Hand out the next one. Raises ``LookupError`` when none waits."""
        lanes = self._lanes
        if not lanes:
            raise LookupError("nobody waits")
        while True:
            name, lane = next(iter(lanes.items()))
            lanes.move_to_end(name)
            item = next(iter(lane.items))
            lane.credit += 1
            if lane.credit >= item.cost or len(lanes) == 1:
                break
        lane.credit = 0
        self._take(name, lane, item, now)
        self._left += 1.0
        return item

    def remove(self, item: T, now: float) -> bool:
        """Take ``item`` out wherever it is; False when it does not wait."""
        name = item.lane
        lane = self._lanes.get(name)
        if lane is None or item not in lane.items:
            return False
        self._take(name, lane, item, now)
        return True

    def expired(self, now: float) -> list[T]:
        """Take out those whose deadline has come."""
        if now < self._earliest:
            return []
        late = [item for item in self if item.deadline <= now]
        for item in late:
            self.remove(item, now)
        self._earliest = min((item.deadline for item in self), default=math.inf)
        return late

    def measure_anew(self, now: float) -> None:
        """Forget how fast requests have left: what held them up is over."""
        self._left = 0.0
        self._since = self._empty_at = now

    def drained_in(self, now: float) -> float | None:
        """Seconds until all that wait now have left, at the rate of late; None when nobody has left yet."""
        if self._left <= 0.0:
            return None
        if not self.size:
            return 0.0
        span = now - self._since
        if span > WINDOW_S:
            self._left *= WINDOW_S / 2 / span
            span = WINDOW_S / 2
            self._since = now - span
        return self.size * max(span, LEAST_SPAN_S) / self._left

    def _lane_for(self, item: T, now: float) -> _Lane[T]:
        # Its lane, with the books kept as if it were in there already.
        if not self.size:
            self._since += now - self._empty_at
        self.size += 1
        if item.deadline < self._earliest:
            self._earliest = item.deadline
        lane = self._lanes.get(item.lane)
        if lane is None:
            lane = self._lanes[item.lane] = _Lane()
        return lane

    def _take(self, name: str, lane: _Lane[T], item: T, now: float) -> None:
        del lane.items[item]
        if not lane.items:
            del self._lanes[name]
        self.size -= 1
        if not self.size:
            self._empty_at = now

    def _loser(self, newcomer: str, limit: int) -> T | None:
        lanes = self._lanes
        own = lanes.get(newcomer)
        count = len(own.items) if own is not None else 0
        if count * (len(lanes) + (own is None)) >= limit:
            return None
        longest = max(lanes.values(), key=lambda lane: len(lane.items))
        # One more than the newcomer's will have is no reason: the two would push each other out in turn.
        return next(reversed(longest.items)) if len(longest.items) >= count + 2 else None
