"""Faults of the disk under the queue: full, slow or failing."""
