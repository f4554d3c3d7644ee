"""The data plane: raw asyncio protocols, no web framework, no database."""
