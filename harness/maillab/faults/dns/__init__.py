"""Faults of names: the answers that a host gets from its name server."""
