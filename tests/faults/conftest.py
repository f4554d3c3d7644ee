"""The servers of the end-to-end tests, for tests of what dies while requests are under way."""

from __future__ import annotations

from tests.e2e.conftest import home, server, weights

__all__ = ["home", "server", "weights"]
