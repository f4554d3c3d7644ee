"""From ``create`` to the first token, beside the bare engine."""
