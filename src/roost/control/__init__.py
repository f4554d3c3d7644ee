"""Effectful loops: observe, ask ``policy`` for a plan, act, write the status."""
