"""Use cases: what the API, the console and the loops may ask for. No HTTP types here. Services write specs."""
