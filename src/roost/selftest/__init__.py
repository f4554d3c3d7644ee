"""Proof on this machine that no answer is lost, cut short or given twice, whatever dies meanwhile."""
