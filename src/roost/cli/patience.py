"""What is said while an endpoint does not answer yet: its state and reason, looked up beside the pending request.

Used by ``roost chat``. It writes to stderr only, and nothing once ``end`` has returned.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from roost.cli.session import Session
from roost.cli.wait import condition
from roost.client.waiting import news_key

if TYPE_CHECKING:
    from roost.client.sync import Roost

LOOKUP_TIMEOUT_S = 5.0
UNKNOWN = "no answer yet"


class Patience:
    """Tells the endpoint's condition on stderr when nothing has come for a while, and again when it changes."""

    def __init__(self, session: Session, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint
        self._over = threading.Event()
        self._speaking = threading.Lock()

    def __enter__(self) -> Patience:
        # A daemon, and not joined: a look-up under way must not hold up the answer or Ctrl-C.
        threading.Thread(target=self._watch, name="patience", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Say nothing from now on."""
        with self._speaking:
            self._over.set()

    def _watch(self) -> None:
        from roost.client.errors import ClientError

        if self._over.wait(self._session.patience_s):
            return
        try:
            with self._session.connect(LOOKUP_TIMEOUT_S) as client:
                self._look(client)
        except ClientError:
            # A key for inference may not look; the request itself will tell what is wrong.
            self._say(UNKNOWN)

    def _look(self, client: Roost) -> None:
        from roost.client import requests

        last = None
        while True:
            endpoint = client.send(requests.retrieve_endpoint(self._endpoint)).value
            line, key = condition(endpoint), news_key(endpoint)
            if key != last:
                self._say(f"{line} · {UNKNOWN}" if endpoint.state == "STARTED" else line)
            last = key
            if self._over.wait(self._session.patience_s):
                return

    def _say(self, line: str) -> None:
        with self._speaking:
            if not self._over.is_set():
                self._session.out.note(f"waiting: {line}")
