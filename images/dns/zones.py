"""Turn one topology's names into NSD's zones.

``/etc/nsd/lab.zone`` holds one section a domain, each begun by ``$ORIGIN``. A
section becomes a zone of its own; reverse zones follow from the A records, but
for addresses that have a PTR of their own. The root zone is empty, so that any
other name gets NXDOMAIN.
"""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path("/etc/nsd/lab.zone")
ZONES = Path("/etc/nsd/zones")
HEAD = "$TTL 60\n@ SOA ns.lab. hostmaster.lab. 1 60 60 60 1\n@ NS ns.lab.\n"
RECORD = re.compile(r"(?m)^(?P<name>[^\s;]+)[ \t]+(?P<type>A|PTR)[ \t]+(?P<data>[^\s;]+)")


def sections(text: str) -> dict[str, str]:
    """The records of each domain, by its name with the final dot."""
    parts = re.split(r"(?m)^\$ORIGIN\s+(\S+)\s*$", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def full(name: str, origin: str) -> str:
    """A name of a zone with nothing left out, as RFC 1035 section 5.1 has it."""
    if name == "@":
        return origin
    return name if name.endswith(".") else f"{name}.{origin.lstrip('.')}"


def with_reverse(zones: dict[str, str]) -> dict[str, str]:
    """The same zones, and a reverse zone for each /24 that an A record is in."""
    everything = dict(zones)
    for origin, text in zones.items():
        for name, kind, data in RECORD.findall(text):
            if kind != "A":
                continue
            *net, host = data.split(".")
            reverse = ".".join(reversed(net)) + ".in-addr.arpa."
            given = {n for n, k, _ in RECORD.findall(everything.get(reverse, "")) if k == "PTR"}
            if host not in given:
                pointer = f"{host} PTR {full(name, origin)}\n"
                everything[reverse] = everything.get(reverse, "") + pointer
    return everything


def main() -> None:
    """Write the zone files and nsd.conf."""
    zones = with_reverse(sections(SOURCE.read_text()))
    zones.setdefault(".", "")
    zones.setdefault("lab.", "ns A 127.0.0.1\n")
    ZONES.mkdir(exist_ok=True)
    conf = 'server:\n  ip-address: 0.0.0.0\n  username: ""\n  zonesdir: "/etc/nsd/zones"\n'
    conf += '  pidfile: ""\n  database: ""\n  server-count: 1\n  rrl-ratelimit: 0\n'
    conf += "remote-control:\n  control-enable: no\n"
    for origin, text in zones.items():
        file = "root.zone" if origin == "." else f"{origin}zone"
        (ZONES / file).write_text(f"$ORIGIN {origin}\n{HEAD}{text}")
        conf += f'zone:\n  name: "{origin}"\n  zonefile: "{file}"\n'
    Path("/etc/nsd/nsd.conf").write_text(conf)


if __name__ == "__main__":
    main()
