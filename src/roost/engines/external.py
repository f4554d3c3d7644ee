"""Servers that somebody else runs: Roost gives them a stable name, keys and metering, and never starts or ends them."""

from __future__ import annotations

from roost.domain.errors import LaunchRefused
from roost.domain.launch import LaunchSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, Failure
from roost.engines.base import Capabilities, LaunchRequest, Probe

STREAM_USAGE = "stream_usage"
"""Option of a model's entry: ``off`` where the server refuses ``stream_options``, so that it is not asked for the usage
of streams."""


class ExternalEngine:
    """Any server with an OpenAI-compatible API at the model's ``url``."""

    name = "external"

    def version(self) -> str | None:
        """None: what runs there is not known."""
        return None

    def missing(self) -> str | None:
        """None: nothing is needed on this machine."""
        return None

    def capabilities(self, model: Model) -> Capabilities:
        """As many requests at once as the entry's ``slots`` say; the body must name the model as that server does."""
        return Capabilities(
            slots=model.slots,
            cancels_non_stream=True,
            any_model_name=False,
            served_model=served_model(model),
            usage_on_request=model.options.get(STREAM_USAGE) != "off",
            managed=False,
        )

    def check_options(self, model: Model) -> None:
        """Raise ``LaunchRefused`` for any option but ``stream_usage``: that server has its own."""
        others = sorted(set(model.options) - {STREAM_USAGE})
        if others:
            raise LaunchRefused(
                f"{model.id}: the external engine has no options but {STREAM_USAGE}; set {', '.join(others)} at the "
                "server.",
                code="unknown_option",
            )
        value = model.options.get(STREAM_USAGE, "on")
        if value not in ("on", "off"):
            raise LaunchRefused(
                f"{model.id}: {STREAM_USAGE} takes on or off, not {value[:100]!r}.", code="unknown_option"
            )

    def build(self, request: LaunchRequest) -> LaunchSpec:
        """Raises ``LaunchRefused``: there is nothing to launch."""
        raise LaunchRefused(
            f"{request.model.id} runs on a server that Roost does not manage ({request.model.url}); start it there."
        )

    def probe(self, model: Model) -> Probe:
        """One token of chat, an embedding or a ranking, by the name that the server knows."""
        name = served_model(model)
        if model.type == "embedding":
            return Probe("POST", "/v1/embeddings", {"model": name, "input": "Hi"})
        if model.type == "rerank":
            return Probe("POST", "/v1/rerank", {"model": name, "query": "Hi", "documents": ["Hi"]})
        body = {
            "model": name,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 1,
        }
        return Probe("POST", "/v1/chat/completions", body)

    def explain(self, exit: ExitInfo) -> Failure:
        """It is out of reach: nobody here knows why."""
        return Failure(
            "external_unavailable",
            f"The external server cannot be used: {exit.cause or 'it does not answer'}.",
            "Check that it runs, and that the entry's url and served_model are right.",
            log_tail=exit.log_tail,
        )


def served_model(model: Model) -> str:
    """The name that the server at ``model.url`` knows the model by: the entry's, else the model's own id."""
    return model.served_model or model.id
