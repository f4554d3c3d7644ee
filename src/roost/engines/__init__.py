"""WHAT to run: engines know models and flags, never machines. Reached through ``engines.registry`` only."""
