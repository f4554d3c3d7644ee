"""Persistence. Reached through ``store.registry`` only."""
