"""What a load may do: sessions within the open-file limit, to addresses of the lab alone."""

from __future__ import annotations

import ipaddress
import os
import resource

# What a process needs beside its sessions.
SPARE_FILES = 64


def check_address(address: str) -> None:
    """Refuse whatever is outside the lab: its /24 is that of its name server."""
    target = ipaddress.ip_address(address)
    server = os.environ.get("NAMESERVER", "")
    lab = ipaddress.ip_network(f"{server}/24", strict=False) if server else None
    if not (target.is_loopback or (lab is not None and target in lab)):
        raise ValueError(
            f"{address} is outside the lab ({lab or 'loopback'}): no load is sent there"
        )


def raise_file_limit(sessions: int) -> None:
    """Have room for so many sessions in this process, or say what the limit is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sessions + SPARE_FILES
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
    if needed > hard:
        raise ValueError(
            f"{sessions} sessions need {needed} open files, the limit is {hard}: take fewer "
            "sessions or more workers, or raise the engine's default-ulimits nofile"
        )
