"""Whether what a new catalog entry names is on this machine: the weights file, the variable with the key.

Called by services, in a thread, before an entry is stored. It looks, and neither fetches nor reads whole files.
"""

from __future__ import annotations

from collections.abc import Callable

from roost.domain.errors import BadRequest, ModelUnavailable
from roost.domain.model import Footprint, Model, Source
from roost.models import disk, gguf
from roost.models.source_file import FileSource, path_of, size_of

GGUF_ENGINES = frozenset({"llama_cpp"})
"""Engines that take GGUF files only, whatever a file is called."""


def check(model: Model, secret: Callable[[str], str | None]) -> Footprint | None:
    """The footprint of a GGUF file that is there already, None for everything else; raises ``BadRequest`` naming the
    field at fault.

    ``model`` is well-formed (``models.entry``); ``secret`` gives the value of a variable of the server's environment,
    None when it is unset or empty.
    """
    found = None
    if model.source is not None and model.source.kind == FileSource.kind:
        found = _check_file(model.engine, model.source)
    if model.api_key_env is not None and secret(model.api_key_env) is None:
        raise BadRequest(
            f"api_key_env names {model.api_key_env}, which is not set in the server's environment: set it there and "
            "start the server again, then add the model.",
            param="api_key_env",
            code="variable_not_set",
        )
    return found


def _check_file(engine: str, source: Source) -> Footprint | None:
    path = path_of(source)
    try:
        size = size_of(path)
        if engine in GGUF_ENGINES or path.suffix.lower() == ".gguf":
            return Footprint(size, gguf.read_header(path).kv_bytes_per_token)
    except (ModelUnavailable, OSError) as error:
        found = error if isinstance(error, ModelUnavailable) else disk.failure(error, path, None, disk.free_bytes)
        raise BadRequest(
            f"source.location cannot be used on the server's machine: {found.message}",
            param="source.location",
            code=found.code,
        ) from error
    return None
