"""Faults of processes: a daemon, or the whole host, dies, hangs or exhausts a limit."""
