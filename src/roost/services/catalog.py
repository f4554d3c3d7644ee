"""What services need of the catalog. Used by the other services; the catalog itself is ``roost.models.catalog``."""

from __future__ import annotations

from typing import Protocol

from roost.domain.errors import NotFound
from roost.domain.model import Model


class Models(Protocol):
    """The models that can be deployed."""

    def get(self, id_or_alias: str) -> Model | None:
        """The model of that id or alias; None when there is none."""
        ...

    def list(self) -> tuple[Model, ...]:
        """All models."""
        ...

    async def add(self, model: Model, actor: str) -> Model:
        """Add an entry. Raises ``BadRequest`` and ``Conflict``."""
        ...

    async def remove(self, model_id: str, actor: str) -> None:
        """Remove an entry. Raises ``NotFound`` and ``Conflict``."""
        ...


def known_model(catalog: Models, id_or_alias: str) -> Model:
    """The model of that id or alias. Raises ``NotFound`` in words that classic clients understand."""
    model = catalog.get(id_or_alias)
    if model is None:
        raise NotFound(
            f"The model {id_or_alias[:200]!r} was not found. GET /v1/models lists what can be deployed.",
            param="model",
            code="model_not_found",
        )
    return model
