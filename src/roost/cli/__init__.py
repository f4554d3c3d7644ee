"""The command line; uses the client only, and the wiring for `serve`."""
