"""A request head seen before on its connection: clients send the same head again and again, but for its content-length.

Made and asked by ``front``. A head becomes known only after the strict parser has accepted it, and is recognised byte
for byte around the length's digits, so that nothing passes here which the parser would refuse.
"""

from __future__ import annotations

import re

from roost.gateway.request import LAST_INFERENCE, Request

MAX_HEAD = 4096
"""Longer heads are not kept."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,10})\r\n", re.IGNORECASE)
# What differs from request to request, or asks for more than an answer.
_UNPLAIN = frozenset((b"x-request-id", b"expect", b"upgrade", b"transfer-encoding"))


class KnownHead:
    """One head: the bytes ``before`` and ``after`` the digits of its content-length, and what the parser made of it."""

    __slots__ = ("_after", "_before", "_digits", "_model", "_size", "authorization")

    def __init__(self, model: Request, before: bytes, after: bytes) -> None:
        self._model = model
        self._before = before
        self._after = after
        self._size = len(before) + len(after)
        self._digits = 1
        self.authorization = model.headers.get(b"authorization")

    def request(self, data: bytes, now: float) -> Request | None:
        """The request in ``data`` if that is this head with its whole body and nothing else; without id and key.

        ``headers`` are those of the request that was learnt, its content-length included; ``length`` is right.
        """
        # What the length must say follows from the bytes that are there, and how many digits that takes: so the head is
        # written as it must be and compared in one piece, which is quicker than to take apart what is there.
        rest = len(data) - self._size
        length = rest - self._digits
        head = b"%b%d%b" % (self._before, length, self._after)
        digits = len(head) - self._size
        if digits != self._digits:
            length = rest - digits
            head = b"%b%d%b" % (self._before, length, self._after)
            if len(head) - self._size != digits:
                return None
            self._digits = digits
        if not data.startswith(head):
            return None
        return self._model.again(now, data[len(head) :], length)


def learn(request: Request, data: bytes) -> KnownHead | None:
    """The head of ``request``, which the parser has just read from ``data``; None when its like cannot be recognised:
    it is not plain, or the two are not the same bytes from beginning to end."""
    headers = request.headers
    if request.kind > LAST_INFERENCE or request.key is None or request.close or request.http10 or not request.complete:
        return None
    if not _UNPLAIN.isdisjoint(headers) or not data.startswith(b"POST "):
        return None
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD) + 4
    if end < 4 or len(data) != end + request.length:
        return None
    match = _LENGTH.search(data, 0, end)
    if match is None:
        return None
    return KnownHead(_without_body(request), data[: match.start(1)], data[match.end(1) : end])


def _without_body(request: Request) -> Request:
    model = Request(request.started, request.headers)
    model.method = request.method
    model.target = request.target
    model.path = request.path
    model.kind = request.kind
    model.classic = request.classic
    return model
