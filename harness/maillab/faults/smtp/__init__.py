"""Faults of SMTP on the wire: a server that misbehaves, a middlebox that interferes."""
