"""Prints the description of the API, for ``docs/reference/openapi.json``: `python -m roost.api`."""

from __future__ import annotations

import json
import sys

from roost.api.app import described_app

if __name__ == "__main__":
    sys.stdout.write(json.dumps(described_app().openapi(), indent=2, ensure_ascii=False) + "\n")
