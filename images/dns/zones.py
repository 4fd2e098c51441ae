"""Turn one topology's names into NSD's zones.

``/etc/nsd/lab.zone`` has one section per domain, which starts with ``$ORIGIN``. Each
section becomes a zone. Reverse zones are derived from the A records, except for addresses
with a PTR record of their own. In a lab with IPv6, a name with an A record has an AAAA record
for the same host, and the host's IPv6 address the PTR record of its IPv4 address; a record of
the section's own takes their place. The root zone is empty, so that every other name gets
NXDOMAIN.

A section may name a file of records that another container makes at its start, such as a key:
``$INCLUDE /etc/nsd/published/FILE``. The zones wait for it. A section with ``$SIGN`` is signed,
see signing.py; then the root zone delegates every other zone.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from pathlib import Path

import signing
from ipv6 import behind_prefix, has_ipv6

SOURCE = Path("/etc/nsd/lab.zone")
ZONES = Path("/etc/nsd/zones")
HEAD = "$TTL 60\n@ SOA ns.lab. hostmaster.lab. 1 60 60 60 1\n@ NS ns.lab.\n"
INCLUDED_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.01
INCLUDE = re.compile(r"(?m)^\$INCLUDE\s+(\S+)")
RECORD = re.compile(r"(?m)^(?P<name>[^\s;]+)[ \t]+(?P<type>A|AAAA|PTR)[ \t]+(?P<data>[^\s;]+)")


def sections(text: str) -> dict[str, str]:
    """Return the records of each domain, by its name with the final dot."""
    parts = re.split(r"(?m)^\$ORIGIN\s+(\S+)\s*$", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def full(name: str, origin: str) -> str:
    """Return a zone's name in full, as defined in RFC 1035 section 5.1."""
    if name == "@":
        return origin
    return name if name.endswith(".") else f"{name}.{origin.lstrip('.')}"


def with_reverse(zones: dict[str, str]) -> dict[str, str]:
    """Return the same zones, and a reverse zone for each /24 that contains an A record."""
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


def with_ipv6(zones: dict[str, str], lab: ipaddress.IPv4Network) -> dict[str, str]:
    """Return zones that have reverse zones, with AAAA and PTR records for the lab's addresses."""
    everything = dict(zones)
    for origin, text in zones.items():
        records = RECORD.findall(text)
        given = {full(name, origin) for name, kind, _ in records if kind == "AAAA"}
        for name, kind, data in records:
            if kind == "A" and full(name, origin) not in given and in_lab(data, lab):
                everything[origin] += f"{name} AAAA {behind_prefix(data)}\n"
            elif kind == "PTR" and origin.endswith(".in-addr.arpa."):
                labels = full(name, origin).removesuffix(".in-addr.arpa.").split(".")
                address = ".".join(reversed(labels))
                if in_lab(address, lab):
                    add_pointer(everything, address, full(data, origin))
    return everything


def in_lab(text: str, lab: ipaddress.IPv4Network) -> bool:
    """Return True for an IPv4 address in the lab's network."""
    try:
        return ipaddress.IPv4Address(text) in lab
    except ValueError:
        return False


def add_pointer(zones: dict[str, str], address: str, name: str) -> None:
    """Add a PTR record for the IPv6 address of an IPv4 address, unless it has one."""
    pointer = ipaddress.IPv6Address(behind_prefix(address)).reverse_pointer + "."
    # Two labels for the last 8 bits; the rest is the zone.
    *labels, zone = pointer.split(".", 2)
    own = ".".join(labels)
    given = {n for n, k, _ in RECORD.findall(zones.get(zone, "")) if k == "PTR"}
    if own not in given:
        zones[zone] = zones.get(zone, "") + f"{own} PTR {name}\n"


def wait_for_included(text: str) -> None:
    """Wait until each file that the zones include is there; raise SystemExit if one is not."""
    until = time.monotonic() + INCLUDED_WITHIN_S
    for file in INCLUDE.findall(text):
        while not Path(file).exists():
            if time.monotonic() > until:
                raise SystemExit(
                    f"{SOURCE} includes {file}, which no container made within "
                    f"{INCLUDED_WITHIN_S:g} s; see the log of the one that should"
                )
            time.sleep(LOOK_AGAIN_S)


def included(text: str) -> str:
    """Return a zone's text with the files that it includes: ldns-signzone(1) reads no others."""
    return INCLUDE.sub(lambda found: Path(found[1]).read_text(), text)


def parent_of(origin: str, zones: dict[str, str]) -> str:
    """Return the closest zone above another one; the root is above all."""
    above = origin.partition(".")[2]
    while above and above not in zones:
        above = above.partition(".")[2]
    return above or "."


def delegated(zones: dict[str, str], ds: dict[str, str]) -> dict[str, str]:
    """Return the zones, each with delegations to those right below it; ``ds`` by origin."""
    everything = dict(zones)
    for origin in zones:
        if origin != ".":
            everything[parent_of(origin, zones)] += f"{origin} NS ns.lab.\n{ds.get(origin, '')}"
    return everything


def main() -> None:
    """Write the zone files and nsd.conf."""
    source = SOURCE.read_text()
    both = {origin: signing.asked(text) for origin, text in sections(source).items()}
    plans = {o: signing.options(o, words) for o, (_, words) in both.items() if words is not None}
    signers = {origin: signing.with_key(plan) for origin, plan in plans.items()}
    wait_for_included(source)
    zones = with_reverse({origin: text for origin, (text, _) in both.items()})
    conf = "server:\n  ip-address: 0.0.0.0\n"
    if has_ipv6():
        zones = with_ipv6(zones, ipaddress.IPv4Network(os.environ["LAB"]))
        conf += "  ip-address: ::0\n"
    zones.setdefault(".", "")
    zones.setdefault("lab.", "ns A 127.0.0.1\n")
    if signers:
        zones = {origin: included(text) for origin, text in zones.items()}
        zones = delegated(zones, {origin: signer.ds for origin, signer in signers.items()})
    ZONES.mkdir(exist_ok=True)
    conf += '  username: ""\n  zonesdir: "/etc/nsd/zones"\n'
    # Files that change all the time are no part of the baseline.
    conf += '  xfrdir: "/run/maillab"\n'
    conf += '  pidfile: ""\n  database: ""\n  server-count: 1\n  rrl-ratelimit: 0\n'
    conf += "remote-control:\n  control-enable: no\n"
    for origin, text in zones.items():
        file = "root.zone" if origin == "." else f"{origin}zone"
        (ZONES / file).write_text(f"$ORIGIN {origin}\n{HEAD}{text}")
        if origin in signers:
            file = signing.sign(signers[origin], ZONES / file).name
        conf += f'zone:\n  name: "{origin}"\n  zonefile: "{file}"\n'
    Path("/etc/nsd/nsd.conf").write_text(conf)
    if "." in signers:
        # The resolvers of the lab wait for it.
        signing.hand_over(signing.ANCHOR, signers["."].ds)


if __name__ == "__main__":
    try:
        main()
    except signing.DoesNotSign as error:
        why = f"{SOURCE}: a zone does not sign: {error}"
        # The resolvers, which wait, report it.
        signing.hand_over(signing.FAILED, f"{why}\n")
        raise SystemExit(why) from error
