"""One inference request on its way: pick a replica or hold, try, try again elsewhere, account.

Created by ``gateway`` for each admitted request; each try is an ``Attempt``. It must never say anything twice: once
model output has reached the client, a replica goes on from there (``survive``) or none does. And it must never leave an
upstream connection working for a client that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from roost.gateway import counters, dispatch, survive
from roost.gateway.answers import Refusal, error_frame, response
from roost.gateway.attempt import Attempt
from roost.gateway.body import encode
from roost.gateway.books import EndpointBook, ReplicaBook
from roost.gateway.classic import Adapted
from roost.gateway.continuation import Joined, Repeated
from roost.gateway.emitted import Emitted
from roost.gateway.hold_queue import MOST_COST
from roost.gateway.http1 import LAST_CHUNK, chunk
from roost.gateway.request import Request
from roost.gateway.upstream import lacks_files
from roost.gateway.usage_chunk import LONG_PROMPT, asking, asking_for_progress
from roost.policy.ejection import erred, failed
from roost.policy.prefix import Prompt

if TYPE_CHECKING:
    from roost.gateway.front import Front
    from roost.gateway.gateway import Gateway

STALE_S = 0.1
"""A reused connection that breaks this soon had been closed by the other side before the request came."""

_FAILED = Refusal(502, "The engine failed before the end of the answer.", "engine_failed")
_HUNG = Refusal(
    503,
    f"{survive.MAX_HANGS} replicas in turn stopped answering while they worked on this request. Try again later.",
    "engine_unresponsive",
    retry_after=5,
    should_retry=True,
)
_NO_STREAM = Refusal(502, "The engine did not answer with a stream.", "bad_upstream_answer")


class Exchange:
    """A request, its place in the queue or on a replica, and its answer so far.

    ``payload`` is the body as replicas get it, ``sent`` the bytes that the client got, ``first`` the loop time of its
    first one, ``deadline`` the loop time until which it may be held, ``where`` the replica that was tried last and
    ``mark`` the header lines that tell so, ``refusals`` how often replicas were full, ``unreached`` how often one could
    not be connected to, ``lost_at`` the loop time at which the last one was lost that was at work on it (before that,
    the request's start). ``prompt`` is set once there was a choice to make, ``owed`` are the tokens of it that count as
    not computed yet. ``tried`` is the last of its ``tries``; of those before it, the client has ``carried`` tokens, and
    never got ``wasted`` ones.

    ``begun``: the client has the head of an event stream, so that only whole events may follow. ``emitted`` records
    what it has where another replica could go on (None: none could); ``joined`` is what the answer of one that does
    goes through, ``continued`` how many did, ``diverged`` that one which was to repeat the answer gave another,
    ``reached`` the tokens that were there when the last one was lost. ``crashes`` counts the losses that the request
    may have caused, ``hangs`` the replicas it left before any output since they hung; ``watched``: whether a timer runs
    that is to tell if its stream is silent.
    """

    __slots__ = (
        "adapted",
        "attempt",
        "begun",
        "book",
        "carried",
        "continued",
        "crashes",
        "deadline",
        "diverged",
        "done",
        "emitted",
        "first",
        "front",
        "gateway",
        "hangs",
        "joined",
        "lost_at",
        "mark",
        "owed",
        "payload",
        "prompt",
        "reached",
        "refusals",
        "request",
        "sent",
        "tried",
        "tries",
        "unreached",
        "wasted",
        "watched",
        "where",
    )

    def __init__(self, gateway: Gateway, front: Front, request: Request, book: EndpointBook, adapted: Adapted) -> None:
        self.gateway = gateway
        self.front = front
        self.request = request
        self.book = book
        self.adapted = adapted
        self.payload = b""
        self.deadline = 0.0
        self.lost_at = request.started
        self.sent = self.crashes = self.hangs = self.refusals = self.unreached = self.owed = 0
        self.tries = self.carried = self.wasted = 0
        self.tried: Attempt | None = None
        self.mark = b""
        self.prompt: Prompt | None = None
        self.done = self.begun = self.diverged = self.watched = False
        self.continued = self.reached = 0
        self.emitted: Emitted | None = None
        self.joined: Joined | Repeated | None = None
        self.where: str | None = None
        self.attempt: Attempt | None = None
        self.first: float | None = None

    # ---- the way to a replica

    def begin(self, raw: bytes) -> None:
        """Send the request (``raw`` is the body as the client sent it), or hold it."""
        book, gateway = self.book, self.gateway
        book.last_at = gateway.wall()
        payload = raw if not self.adapted.changed else encode(self.adapted.body)
        if isinstance(payload, Refusal):
            self.refuse(payload)
            return
        if self.adapted.asks_usage:
            payload = asking(payload, self.adapted.body)
        elif self.adapted.asks_progress:
            self.adapted.asks_progress = len(payload) >= LONG_PROMPT
            if self.adapted.asks_progress:
                payload = asking_for_progress(payload)
        self.payload = payload
        replica = None if book.held.size else dispatch.pick(self)
        if replica is not None:
            self.send_to(replica)
        else:
            dispatch.hold(self)

    @property
    def lane(self) -> str:
        """Whom the queue is fair for."""
        key = self.request.key
        return key.id if key is not None else ""

    @property
    def cost(self) -> int:
        """Its turns in the queue: one for the answer, and one for each 1,000 tokens of prompt or so."""
        return min(1 + (len(self.payload) >> 12), MOST_COST)

    def send_to(self, replica: ReplicaBook) -> None:
        """Try it on the replica that was picked."""
        key = self.request.key
        if key is not None and key.metered:
            self.mark += self.gateway.key_limits.lines(key, self.gateway.now())
        self._attempt_on(replica).begin()

    def _attempt_on(self, replica: ReplicaBook) -> Attempt:
        replica.in_flight += 1
        if replica.in_flight == 1:
            replica.busy_since = self.gateway.now()
        self.gateway.cells[counters.IN_FLIGHT] += 1
        if replica.shown:
            self.gateway.board.put(replica.shown, replica.in_flight)
        self.where = replica.id
        self.tries += 1
        self.carried = self.reached if isinstance(self.joined, Joined) else 0
        self.attempt = self.tried = attempt = Attempt(self, replica)
        return attempt

    def _leave(self) -> None:
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            dispatch.left(self, attempt.replica)

    def _serve_next(self) -> None:
        # Its slot is free, unless it goes on there.
        if self.book.held.size:
            dispatch.serve_next(self.gateway, self.book)

    # ---- tries that failed

    def not_reached(self, attempt: Attempt, error: OSError) -> None:
        """The replica could not be connected to. Nothing was sent, so this counts as no crash."""
        self.gateway.cells[counters.FAILURES] += 1
        replica, here = attempt.replica, lacks_files(error)
        if not here:
            replica.standing = failed(replica.standing, self.gateway.now())
        self._leave()
        with self._dealing(attempt):
            dispatch.go_round(self, here=here)

    def lost(self, attempt: Attempt, reason: str, *, stale: bool) -> None:
        """The connection to the replica broke, or what came over it made no sense."""
        gateway, replica = self.gateway, attempt.replica
        self._leave()
        if stale and gateway.now() - attempt.sent_at < STALE_S and not replica.draining:
            gateway.cells[counters.RETRIES] += 1
            self._attempt_on(replica).connect()
            return
        gateway.cells[counters.FAILURES] += 1
        self.lost_at = gateway.now()
        replica.standing = failed(replica.standing, self.lost_at)
        with self._dealing(attempt):
            if self._said_something:
                survive.go_on(self, attempt)
                self._serve_next()
            else:
                self.wasted += attempt.generated()
                self.emitted = None
                self._crashed(reason)

    @property
    def _said_something(self) -> bool:
        # Beyond comments.
        return self.first is not None or (self.sent > 0 and not self.begun)

    @contextmanager
    def _dealing(self, attempt: Attempt) -> Iterator[None]:
        """With a loss. Whatever fails in that: no client must be left without an end, nor what it held be held for
        ever. The failure itself is the event loop's to tell."""
        dealt_with = False
        try:
            yield
            dealt_with = True
        finally:
            if not dealt_with:
                self._end_anyhow(attempt)

    def _end_anyhow(self, attempt: Attempt) -> None:
        if self.attempt is not None:
            self.attempt.abort()
            self._leave()
        else:
            dispatch.give_up(self)
        if self._said_something:
            self.break_off(attempt)
        elif not self.done:
            self.refuse(_FAILED)

    def _crashed(self, reason: str) -> None:
        self.crashes += 1
        if self.crashes < survive.MAX_CRASHES:
            self.again()
            return
        message = f"The engine failed while it worked on this request ({reason}); it was tried {self.crashes} times."
        self.refuse(Refusal(502, message, "engine_failed", should_retry=False))
        self._serve_next()

    def parted(self, attempt: Attempt) -> None:
        """The replica that was to repeat the answer gave another one: it is asked for the rest instead."""
        self.diverged = True
        self._leave()
        with self._dealing(attempt):
            survive.go_on(self, attempt, lost=False)
            self._serve_next()

    def leave_unresponsive(self) -> None:
        """The replica hangs: go elsewhere, where there is another one and the answer can go on there. What cannot waits
        for its replica, which may only be slow."""
        attempt = self.attempt
        if attempt is None or not dispatch.has_other(self.book, attempt.replica):
            return
        if not self._said_something:
            self.leave(attempt)
        elif self.emitted is not None and self.emitted.fit:
            survive.leave_if_quiet(self, attempt)

    def leave(self, attempt: Attempt) -> None:
        """Go elsewhere, away from a replica that hangs. That is no crash: whatever else it works on may be why."""
        attempt.abort()
        self._leave()
        self.gateway.cells[counters.FAILURES] += 1
        self.lost_at = self.gateway.now()
        with self._dealing(attempt):
            if self._said_something:
                survive.go_on(self, attempt, crash=False)
                self._serve_next()
                return
            self.wasted += attempt.generated()
            self.emitted = None
            self.hangs += 1
            if self.hangs < survive.MAX_HANGS:
                self.again()
            else:
                self.refuse(_HUNG)
                self._serve_next()

    def again(self) -> None:
        """Try again, elsewhere or later."""
        refusal = self.gateway.refusal(self.book)
        if refusal is not None:
            # The endpoint has gone or stopped meanwhile, or the server stops: it would wait in the queue in vain.
            self.refuse(refusal)
        else:
            dispatch.again(self)
        self._serve_next()

    def break_off(self, attempt: Attempt) -> None:
        """End an answer that cannot go on: with an error frame where it is a stream."""
        if self.done:
            return
        if self.begun and not attempt.stream:
            # Nothing of this one has gone out: what has ends with a whole event.
            self.refuse(_FAILED)
            return
        words = attempt.last_words(_FAILED)
        if words is not None:
            self.front.transport.write(words)
        else:
            self.front.transport.abort()
        self.finish(attempt.status, "broken_off")

    # ---- the answer: what the attempt calls

    def write(self, data: bytes) -> None:
        """Pass on a part of the answer."""
        self.sent += len(data)
        self.front.transport.write(data)

    def answered(self, answer: tuple[int, bytes] | Refusal) -> None:
        """The replica's answer, collected and put in shape, goes to the client as a whole."""
        attempt = self.attempt
        self._leave()
        if isinstance(answer, Refusal) and attempt is not None:
            replica = attempt.replica
            if answer.status in (429, 503):
                if dispatch.turned_away(self, replica, answer):
                    self.again()
                    return
            elif answer.status >= 500:
                replica.standing = erred(replica.standing, self.gateway.now())
        self._answer(answer, self.mark)
        self._serve_next()

    def completed(self, status: int) -> None:
        """All of the answer has been passed on."""
        self._leave()
        if self.book.held.size:
            dispatch.serve_next(self.gateway, self.book)
        self.finish(status, "continued" if self.continued else "completed")

    # ---- the client's side: what the front calls

    def on_client_full(self) -> None:
        """The client reads slowly."""
        if self.attempt is not None:
            self.attempt.on_client_full()

    def on_client_drained(self) -> None:
        """The client has caught up."""
        if self.attempt is not None:
            self.attempt.on_client_drained()

    def on_request_body(self) -> None:
        """The request was complete from the start."""

    def abort(self) -> None:
        """The client is gone: stop everything at once."""
        if self.done:
            return
        self.done = True
        self.gateway.cells[counters.ABORTS] += 1
        try:
            if self.attempt is not None:
                self.attempt.abort()
            else:
                dispatch.give_up(self)
        finally:
            # Whatever fails: what it held must not be held for ever.
            self._leave()
            self._account(499, "client_hung_up")
        self._serve_next()

    # ---- the end

    def refuse(self, refusal: Refusal) -> None:
        """Answer with an error: where a stream has begun, as its last event."""
        self._answer(refusal)

    def _answer(self, answer: tuple[int, bytes] | Refusal, mark: bytes = b"") -> None:
        request = self.request
        if self.begun:
            refusal = answer if isinstance(answer, Refusal) else _NO_STREAM
            self.write(chunk(error_frame(refusal)) + LAST_CHUNK)
            if self.first is not None:
                self.finish(200, "broken_off")
            else:
                # Nothing but comments has come before: this is why it was refused, as if with a status.
                self.finish(200, refusal.code or "failed", refusal.status)
            return
        if isinstance(answer, Refusal):
            status, body, headers, outcome = answer.status, answer.body(), answer.headers(), answer.code or "failed"
        else:
            status, body = answer
            headers, outcome = b"", "completed"
        close = request.close or self.gateway.draining
        headers += self.gateway.marks + mark
        self.write(response(status, body, request.id, headers=headers, close=close, http10=request.http10))
        self.finish(status, outcome)

    def finish(self, status: int, outcome: str, refused: int = 0) -> None:
        """The client has all that it gets. ``refused`` is the status that an error frame stands for, if one does.
        Once it is over, nothing happens."""
        if self.done:
            return
        self.done = True
        book = self.book
        if (refused or status) < 500 and outcome != "broken_off":
            book.completed += 1
        else:
            book.failed += 1
        self._account(status, outcome, refused)
        self.front.finished(self.request)

    def _account(self, status: int, outcome: str, refused: int = 0) -> None:
        gateway, request = self.gateway, self.request
        # The two refer to each other, and with them to the request's body: it would stay until a garbage collection.
        attempt, self.tried = self.tried, None
        now = gateway.now()
        key = request.key
        if key is not None and key.metered:
            gateway.key_limits.ended(key, now - request.started)
        if gateway.bodies.held:
            gateway.bodies.release(request)
        # Else the client went while a connection to the first replica was being made.
        taken = attempt is not None and (attempt.sent_at or self.first is not None)
        held = None
        if self.deadline:
            held = (attempt.sent_at if attempt is not None and attempt.sent_at else now) - request.started
        gateway.usage.note(
            (
                now,
                request,
                status,
                refused or status,
                outcome,
                self.book,
                self.where,
                self.first,
                self.sent,
                self.tries,
                self.wasted,
                self.carried,
                held,
                self.adapted.stream,
                attempt.told() if attempt is not None and taken else None,
            )
        )
