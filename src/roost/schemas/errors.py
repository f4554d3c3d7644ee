"""The error envelope: every answer that is not 2xx has this shape."""

from __future__ import annotations

from roost.schemas.base import Answer


class ErrorDetail(Answer):
    """What went wrong. ``param`` names the field at fault; ``code`` is stable and machine-readable."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorEnvelope(Answer):
    """The body of every answer that is not 2xx."""

    error: ErrorDetail
