"""The Python package index: which one is in use, and where it keeps a wheel.

Called by the pypi source. It never installs anything and never runs a package's code.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pypi_simple import ACCEPT_ANY, PYPI_SIMPLE_ENDPOINT, DistributionPackage, ProjectPage, UnsupportedRepoVersionError

from roost import config
from roost.domain.errors import ModelUnavailable
from roost.models.download import public, refused, unreachable, without_login

PIP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on an index; ``sha256`` and ``size`` (bytes) are None where the index does not give them."""

    url: str
    filename: str
    sha256: str | None
    size: int | None
    auth: httpx.BasicAuth | None


async def index_url() -> str:
    """The index that pip uses: ``PIP_INDEX_URL``, else pip's ``global.index-url``, else the public one."""
    return config.package_index_url() or await asyncio.to_thread(_pip_setting) or PYPI_SIMPLE_ENDPOINT


def _pip_setting() -> str | None:
    # Not `config get`: before pip 24 it overlooks PIP_CONFIG_FILE. A failure means that pip is absent, and so are its
    # settings.
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelUnavailable(
            f"pip did not say within {PIP_TIMEOUT_S:g} s which package index it uses. Set PIP_INDEX_URL.",
            code="source_unreachable",
        ) from error
    return listed_index(done.stdout) if done.returncode == 0 else None


def listed_index(listing: str) -> str | None:
    """The index URL in what ``pip config list`` prints (``global.index-url='…'``); None when it names none."""
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "global.index-url":
            return value.strip().strip("'\"") or None
    return None


async def find_wheel(http: httpx.AsyncClient, index: str, name: str, version: str) -> Wheel:
    """The wheel of ``name==version`` on ``index``. Raises ``ModelUnavailable``."""
    bare, auth = without_login(index)
    url = f"{bare.rstrip('/')}/{canonicalize_name(name)}/"
    try:
        response = await http.get(url, headers={"accept": ACCEPT_ANY}, auth=auth or httpx.USE_CLIENT_DEFAULT)
    except httpx.HTTPError as error:
        raise unreachable(url, error) from error
    except httpx.InvalidURL as error:
        raise _bad_index(index) from error
    if response.status_code == httpx.codes.NOT_FOUND:
        raise ModelUnavailable(
            f"The package index {public(bare)} has no package {name}. Check the location, or the index that pip uses.",
            code="source_missing",
        )
    if not response.is_success:
        raise refused(url, response.status_code)
    page = await asyncio.to_thread(_parse, name, response)
    package = choose(page.packages, version)
    if package is None:
        raise ModelUnavailable(
            f"The package index {public(bare)} has no wheel of {name}=={version}. Check the version.",
            code="source_missing",
        )
    location, login = without_login(package.url)
    same_host = urlsplit(location)[:2] == urlsplit(bare)[:2]
    return Wheel(
        location, package.filename, package.digests.get("sha256"), package.size, login or (auth if same_host else None)
    )


def choose(packages: list[DistributionPackage], version: str) -> DistributionPackage | None:
    """The wheel of that version, one for any platform where there is a choice; None where there is none."""
    wheels = [p for p in packages if p.package_type == "wheel" and p.version and _same(p.version, version)]
    return min(wheels, key=lambda p: (not p.filename.endswith("-none-any.whl"), p.filename), default=None)


def _same(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return False


def _parse(name: str, response: httpx.Response) -> ProjectPage:
    base = str(response.url)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/vnd.pypi.simple.v1+json":
            return ProjectPage.from_json_data(response.json(), base)
        if kind in {"application/vnd.pypi.simple.v1+html", "text/html"}:
            return ProjectPage.from_html(name, response.text, base)
    except (ValueError, UnsupportedRepoVersionError) as error:
        raise _bad_index(base) from error
    raise _bad_index(base)


def _bad_index(url: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"{public(url)} is not a Python package index over http(s) that can be read. "
        "Check PIP_INDEX_URL and pip's index-url.",
        code="wrong_format",
    )
