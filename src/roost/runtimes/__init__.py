"""WHERE to run: runtimes know machines, never models. Reached through ``runtimes.registry`` only."""
