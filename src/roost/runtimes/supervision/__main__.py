"""Entry of the supervisor process, run by path. ``runtimes.supervisor_client`` starts it; nobody imports it.

The folder above goes to the end of the module path (behind the standard library), which makes this package importable
by its short name without importing ``roost``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from os.path import abspath, dirname

if __name__ == "__main__":
    sys.path.append(dirname(dirname(abspath(__file__))))
    sys.exit(import_module("supervision.supervisor").main())
