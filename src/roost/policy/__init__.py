"""VERBS: pure functions of (facts, now) that return a value with a reason. No I/O, no clock, no randomness."""
