"""The API's responses: wire models as JSON, failures in the one envelope. Called by routes and by ``failures``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import orjson
from fastapi import Response
from pydantic import BaseModel

from roost.domain.errors import RoostError
from roost.web.errors import body_of, error_body, status_of, type_of

JSON = "application/json"


def answer(document: BaseModel, status: int = 200) -> Response:
    """``document`` as the response's body."""
    return Response(document.model_dump_json(), status, media_type=JSON)


def bare_array(documents: Sequence[BaseModel]) -> Response:
    """``documents`` as a JSON array, which one family of clients expects of one route."""
    return Response(f"[{','.join(item.model_dump_json() for item in documents)}]", media_type=JSON)


def nothing() -> Response:
    """204, without a body."""
    return Response(status_code=204)


def refusal(
    status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The error envelope for a failure that is HTTP's own, such as an unknown route."""
    return _envelope(error_body(_plain(message), type_of(status), None, code), status, headers or {})


def failure(error: RoostError) -> Response:
    """The error envelope of an expected failure."""
    status = status_of(error)
    headers = {}
    if status == 503:
        seconds = error.retry_after.total_seconds() if error.retry_after is not None else 1
        headers["retry-after"] = str(max(1, math.ceil(seconds)))
    envelope = body_of(error)
    envelope["error"]["message"] = _plain(error.message)
    return _envelope(envelope, status, headers)


def _envelope(envelope: Mapping[str, object], status: int, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(envelope), status, dict(headers), media_type=JSON)


def _plain(text: str) -> str:
    # Half a surrogate pair, which a name in a message may hold, has no place in UTF-8.
    return text.encode("utf-8", "replace").decode()
