"""Nouns of the product: frozen dataclasses over the standard library. Imported by everyone, imports nobody."""
