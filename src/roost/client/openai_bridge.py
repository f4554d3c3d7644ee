"""The part of the client that is OpenAI's: chat, completions and embeddings by way of the ``openai`` package.

Called by the shells when such a part is first used; nothing here is imported before, so that ``import roost`` stays
fast and needs no such package. It must never look a server or a key up itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.client.errors import MissingPackage

if TYPE_CHECKING:
    import httpx
    from openai import AsyncOpenAI, OpenAI

    from roost.client.credentials import Credentials

_MISSING = "Chat, completions and embeddings need the openai package: pip install openai"


def openai_client(http: httpx.Client, credentials: Credentials, *, timeout: float, max_retries: int) -> OpenAI:
    """OpenAI's client for this server, over the same connections. Raises ``MissingPackage``."""
    try:
        from openai import OpenAI
    except ImportError as error:
        raise MissingPackage(_MISSING) from error
    return OpenAI(
        base_url=credentials.base_url,
        api_key=credentials.api_key,
        timeout=timeout,
        max_retries=max_retries,
        http_client=http,  # type: ignore[arg-type]
    )


def async_openai_client(
    http: httpx.AsyncClient, credentials: Credentials, *, timeout: float, max_retries: int
) -> AsyncOpenAI:
    """The same for event loops. Raises ``MissingPackage``."""
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise MissingPackage(_MISSING) from error
    return AsyncOpenAI(
        base_url=credentials.base_url,
        api_key=credentials.api_key,
        timeout=timeout,
        max_retries=max_retries,
        http_client=http,  # type: ignore[arg-type]
    )
