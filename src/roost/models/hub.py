"""The Hugging Face hub: which files a repository has at a revision, and where each is kept.

Called by the hf source, in a thread: it blocks. It asks for metadata only; the bytes are fetched by others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, ModelInfo, hf_hub_url
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from roost._version import __version__
from roost.domain.errors import ModelUnavailable
from roost.models.download import public, refused

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository. ``version`` names its content; ``sha256`` is None for small files that the hub keeps in
    git itself, ``size`` (bytes) None where the hub does not say."""

    name: str
    version: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit. ``gated``: its files are for those who accepted its terms."""

    endpoint: str
    name: str
    commit: str
    gated: bool
    files: Sequence[HubFile]

    def url(self, file: HubFile) -> str:
        """Where ``file`` is to be fetched from."""
        return hf_hub_url(self.name, file.name, revision=self.commit, endpoint=self.endpoint)


def look_up(name: str, revision: str | None, endpoint: str | None, token: str | None) -> Repository:
    """The repository ``owner/repo`` at ``revision`` (None: its main branch); ``endpoint`` None is the public hub.

    Raises ``ModelUnavailable``.
    """
    endpoint = _checked(endpoint)
    # False, since None would have the library look for tokens in the user's home.
    api = HfApi(endpoint, token=_usable(token) or False, library_name="roost", library_version=__version__)
    url = f"{api.endpoint}/{name}"
    try:
        info = api.model_info(name, revision=revision, timeout=TIMEOUT_S, files_metadata=True)
        return _repository(api.endpoint, name, info)
    except OfflineModeIsEnabled as error:
        raise ModelUnavailable(
            f"{public(url)} was not asked, since HF_HUB_OFFLINE is set. Unset it for the server, or use weights that "
            "are on this machine.",
            code="source_unreachable",
        ) from error
    except HfHubHTTPError as error:
        raise _refusal(error, name, revision, url, token) from error
    except httpx2.HTTPError as error:
        raise ModelUnavailable(
            f"Could not ask the hub for {public(url)}: {error or type(error).__name__}. Check this machine's network "
            "and proxy settings, and HF_ENDPOINT, then start again.",
            code="source_unreachable",
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, httpx2.InvalidURL) as error:
        raise ModelUnavailable(
            f"{public(api.endpoint)} does not answer like a Hugging Face hub. Check HF_ENDPOINT.", code="wrong_format"
        ) from error


def forbidden(name: str, endpoint: str, *, gated: bool, token: str | None) -> ModelUnavailable:
    """The failure of a repository whose files this server may not have."""
    url = public(f"{endpoint}/{name}")
    if gated:
        how = "set HF_TOKEN in the server's environment to" if token is None else "see that HF_TOKEN is"
        text = f"{name} is gated: accept its terms at {url}, and {how} a token of the account that did."
    elif token is None:
        text = f"The hub refused access to {url}. Set HF_TOKEN for the server to a token that may read it."
    else:
        text = f"The hub refused the token in HF_TOKEN for {url}. Check that it is in force and may read it."
    return ModelUnavailable(text, code="permission")


def _refusal(error: HfHubHTTPError, name: str, revision: str | None, url: str, token: str | None) -> ModelUnavailable:
    endpoint, status = url.removesuffix(f"/{name}"), error.response.status_code
    if isinstance(error, GatedRepoError):
        return forbidden(name, endpoint, gated=True, token=token)
    if isinstance(error, RevisionNotFoundError):
        return ModelUnavailable(
            f"{name} has no revision {revision!r} at {public(endpoint)}. Correct the part of source.location after @.",
            code="source_missing",
        )
    if isinstance(error, RepositoryNotFoundError):
        more = "; a private one needs HF_TOKEN set for the server" if token is None else " that HF_TOKEN may read"
        return ModelUnavailable(
            f"There is no repository {name} at {public(endpoint)}{more}. Correct source.location.",
            code="source_missing",
        )
    if isinstance(error, DisabledRepoError):
        return ModelUnavailable(f"The hub has disabled {public(url)}. Choose another repository.", code="permission")
    if status in {401, 403}:
        return forbidden(name, endpoint, gated=False, token=token)
    return refused(url, status)


def _repository(endpoint: str, name: str, info: ModelInfo) -> Repository:
    if not info.sha:
        raise ValueError("no commit")
    files = tuple(
        HubFile(
            file.rfilename,
            file.lfs.sha256 if file.lfs else file.blob_id or info.sha,
            file.lfs.size if file.lfs else file.size,
            file.lfs.sha256.lower() if file.lfs else None,
        )
        for file in info.siblings or ()
    )
    return Repository(endpoint, name, info.sha, bool(info.gated), files)


def _checked(endpoint: str | None) -> str | None:
    try:
        parts = urlsplit(endpoint or ENDPOINT)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ModelUnavailable(
            "HF_ENDPOINT is not the URL of a hub, like https://host. Set it anew for the server, or unset it.",
            code="wrong_format",
        )
    return endpoint.rstrip("/") if endpoint is not None else None


def _usable(token: str | None) -> str | None:
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        # Said here, since the error of a library would show it.
        raise ModelUnavailable(
            "HF_TOKEN does not hold a token: it has characters that no token has. Set it anew for the server.",
            code="permission",
        )
    return token
