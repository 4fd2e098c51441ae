"""PID 1 of a container with filters; FILTERS names those to start (filterparts.py)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import filterparts
import supervisor


def name_the_nameserver() -> None:
    """Write the lab's name server into opendkim.conf: libunbound does not read resolv.conf.

    Only images/filters has OpenDKIM.
    """
    file = Path(filterparts.PARTS["opendkim"].configuration)
    if not file.exists():
        return
    text = file.read_text()
    (address,) = re.findall(r"(?m)^nameserver (\S+)", supervisor.RESOLVER.read_text())
    if "Nameservers" not in text:
        file.write_text(f"{text}Nameservers {address}\n")


KIND = supervisor.Kind(
    name="filter",
    parts=filterparts.PARTS,
    variable="FILTERS",
    setup=Path("/etc/maillab/filters-setup.sh"),
    prepare=name_the_nameserver,
)

if __name__ == "__main__":
    asyncio.run(supervisor.main(KIND))
