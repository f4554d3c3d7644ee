"""Engine ``external``: an OpenAI-compatible server that already runs, by URL. Roost probes it and sends it requests; it
never starts or stops it. Found through ``engines.registry``."""

from __future__ import annotations

from roost.domain.errors import LaunchRefused
from roost.domain.launch import LaunchSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, Failure
from roost.engines.base import Capabilities, LaunchRequest, Probe


class ExternalEngine:
    """A server that users attach: any listed hardware is accepted and nothing is reserved."""

    name = "external"

    def version(self) -> str | None:
        """Unknown: it is somebody else's."""
        return None

    def missing(self) -> str | None:
        """Nothing: the server runs elsewhere."""
        return None

    def capabilities(self, model: Model) -> Capabilities:
        """Not managed; the body's ``model`` must be the name the server knows. No slot limit unless the entry names
        one."""
        return Capabilities(
            slots=model.slots,
            any_model_name=False,
            served_model=model.served_model or model.id,
            managed=False,
        )

    def build(self, request: LaunchRequest) -> LaunchSpec:
        """Always raises ``LaunchRefused``: there is nothing to launch."""
        raise LaunchRefused(f"{request.model.id} is served at {request.model.url}; there is nothing to launch.")

    def probe(self, model: Model) -> Probe:
        """A one-token chat."""
        body = {
            "model": model.served_model or model.id,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 1,
        }
        return Probe("POST", "/v1/chat/completions", body)

    def explain(self, exit: ExitInfo) -> Failure:
        """The server could not be used; the probe's last answer says more."""
        return Failure(
            "external_unavailable",
            f"The external server cannot be used: {exit.cause or 'it does not answer'}.",
            "Check that it runs and that the model's URL and served name are right.",
        )
