"""The parts of the Hugging Face hub that Roost uses, on the loopback: the metadata of a repository and its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from urllib.parse import quote

from tests.unit.models.sample_files import sha256
from tests.unit.models.weights_server import Document, WeightsServer

COMMIT = "c0ffee" + "0" * 34


class Hub:
    """Repositories that ``server`` answers for; ``info`` and ``file`` give their documents, to be misbehaved with."""

    def __init__(self, server: WeightsServer) -> None:
        self.server = server
        self.endpoint = server.url("")

    def add(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        revision: str | None = None,
        commit: str = COMMIT,
        gated: str | bool = False,
        said: Mapping[str, str] | None = None,
    ) -> None:
        """A repository; ``said`` are digests that the hub claims for its files, by name, where they are not theirs."""
        siblings = [_sibling(path, content, (said or {}).get(path)) for path, content in files.items()]
        info = {"id": name, "sha": commit, "gated": gated, "private": False, "siblings": siblings}
        self.server.documents[self._info(name, revision)] = Document(json.dumps(info).encode(), "application/json")
        for path, content in files.items():
            self.server.documents[self._file(name, path, commit)] = Document(content)

    def info(self, name: str, revision: str | None = None) -> Document:
        return self.server.documents.setdefault(self._info(name, revision), Document(b"{}"))

    def file(self, name: str, path: str, commit: str = COMMIT) -> Document:
        return self.server.documents[self._file(name, path, commit)]

    def asked(self, name: str, path: str) -> list[str | None]:
        """The Range header of each request for a file."""
        return self.server.ranges_of(self._file(name, path, COMMIT))

    def _info(self, name: str, revision: str | None) -> str:
        at = "" if revision is None else f"/revision/{quote(revision, safe='')}"
        return f"/api/models/{name}{at}?blobs=true"

    def _file(self, name: str, path: str, commit: str) -> str:
        return f"/{name}/resolve/{commit}/{quote(path)}"


def _sibling(path: str, content: bytes, said: str | None) -> dict[str, object]:
    oid = hashlib.sha1(content).hexdigest()
    plain: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": oid}
    if not path.endswith(".gguf"):
        return plain
    lfs = {"sha256": said or sha256(content), "size": len(content), "pointerSize": 134}
    return {**plain, "lfs": lfs}
