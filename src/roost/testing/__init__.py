"""PUBLIC test kit: clock, fakes, builders and one contract suite per extension point."""
