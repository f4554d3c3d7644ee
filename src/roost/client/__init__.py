"""The client: sans-I/O request building, with a sync and an async shell."""
