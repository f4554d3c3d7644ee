"""Roost: dedicated LLM endpoints on your own machines."""

from roost._version import __version__

__all__ = ["__version__"]
