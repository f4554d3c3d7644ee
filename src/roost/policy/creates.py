"""Which creation a request means: one that was made before and whose answer was lost, or a new one. Pure.

Called by ``services.recent_creates``. Clients repeat a create whose answer they did not get, and say only how often
they have asked. Giving out an endpoint whose answer somebody has would make two wishes share it; making another one for
an answer that nobody has would make two for one wish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from roost.domain.creation import Creation, Delivery, Wish

WINDOW = timedelta(minutes=10)
"""How long a creation can be meant by a later request."""
NEWS = timedelta(seconds=2)
"""How long the news of an answer may take to arrive here."""


@dataclass(frozen=True, slots=True)
class Means:
    """The request means ``creation``."""

    creation: Creation
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide again when there is news, or at ``until`` (None: there will be news)."""

    until: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Make:
    """The request is a wish of its own."""

    reason: str


Decision = Means | Wait | Make


def meant(
    wish: Wish, creations: Sequence[Creation], asked_at: datetime, now: datetime, news: timedelta = NEWS
) -> Decision:
    """What ``wish``, asked at ``asked_at``, means among ``creations``, the oldest first.

    A named wish means the creation of that name. A first attempt without a name is always a wish of its own. A later
    attempt means a creation of the same key and body whose answer was lost, or of whose answer there is no news in
    time, if fewer attempts were made for it: attempts count up, so that one that is not later repeats something else.
    An answer that the client's machine has acknowledged, and no hang-up after it, counts as delivered. A client that
    does not count may be repeating or not: it gets a creation whose answer was lost, which nobody has.

    What was asked for after ``wish`` is not what it repeats, and is not waited for: however many ask for the same, the
    wait ends ``news`` after ``asked_at``, or after the last make that was asked for before.
    """
    mine = [c for c in creations if c.wish.key_id == wish.key_id and now - c.at <= WINDOW]
    if wish.idempotency_key is not None:
        named = next((c for c in mine if c.wish.idempotency_key == wish.idempotency_key), None)
        return Make("nothing has this Idempotency-Key") if named is None else Means(named, "the same Idempotency-Key")
    if wish.attempt == 0:
        return Make("a first attempt")
    mine = [c for c in mine if c.at <= asked_at and c.wish.idempotency_key is None]
    same = [c for c in mine if c.wish.fingerprint == wish.fingerprint]
    for creation in same:
        if creation.delivery is Delivery.LOST:
            return Means(creation, "the answer to it was lost")
    if wish.attempt is None:
        return Make("no answer to such a request was lost")
    open_ = [c for c in same if c.delivery is not Delivery.DELIVERED]
    limits = [_limit(creation, asked_at, news) for creation in open_]
    if any(limit is None or limit > now for limit in limits):
        known = [limit for limit in limits if limit is not None and limit > now]
        return Wait(min(known, default=None), "an answer is on its way")
    for creation in open_:
        if creation.delivery is Delivery.UNDER_WAY and (creation.wish.attempt or 0) < wish.attempt:
            return Means(creation, "nothing was heard of the answer to it")
    return Make("every answer to such a request has arrived")


def _limit(creation: Creation, asked_at: datetime, news: timedelta) -> datetime | None:
    """Until when news of the answer can be expected; None: it is being made, and the answer comes after that."""
    if creation.endpoint_id is None:
        return None
    told = creation.told_at
    # The client hung up before it asked again, so that an answer which it has not read is known as lost by then.
    return (min if creation.delivery is Delivery.ACKNOWLEDGED else max)(told, asked_at) + news
