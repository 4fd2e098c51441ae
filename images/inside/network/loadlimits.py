"""Limits of a load: sessions within the open-file limit, addresses inside the lab only."""

from __future__ import annotations

import ipaddress
import os
import resource

from ipv6 import ipv4_of

# Open files that a process needs apart from its sessions.
SPARE_FILES = 64


def check_address(address: str) -> None:
    """Raise ValueError for an address outside the lab, which is the /24 of its name server."""
    target = ipaddress.ip_address(address)
    server = os.environ.get("NAMESERVER", "")
    lab = ipaddress.ip_network(f"{server}/24", strict=False) if server else None
    # IPv6 addresses of a lab end with those of IPv4, and no other network can be reached.
    inside = ipaddress.ip_address(ipv4_of(address))
    if not (target.is_loopback or (lab is not None and inside in lab)):
        raise ValueError(
            f"{address} is outside the lab ({lab or 'loopback'}): no load is sent there"
        )


def raise_file_limit(sessions: int) -> None:
    """Raise this process's limit of open files for the sessions; raise ValueError if too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sessions + SPARE_FILES
    if needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
    if needed > hard:
        raise ValueError(
            f"{sessions} sessions need {needed} open files, the limit is {hard}: take fewer "
            "sessions or more workers, or raise the engine's default-ulimits nofile"
        )
