"""Composition root: settings become a running server. The only place that knows every part."""
