"""Faults of the path between hosts: the packet filter, the packet queue, the line."""
