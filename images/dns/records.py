"""Operations of the name server: publish records, as a domain's administrator does."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rdataset
import dns.rdtypes.ANY.SOA
import dns.zone

import running
import signing
import snapshot
from operations import Handles, operation, setting
from zones import ZONES

# No resolver may keep a published record: the next one may differ.
TTL_S = 0
LOADED_WITHIN_S = 10.0
ASKED_WITHIN_S = 1.0
LOOK_AGAIN_S = 0.005


def file_of(origin: dns.name.Name) -> Path:
    """Return the file of a zone, see zones.py."""
    text = origin.to_text()
    return ZONES / ("root.zone" if text == "." else f"{text}zone")


def zone_of(name: dns.name.Name, kind: str = "") -> dns.name.Name:
    """Return the zone that has a name's records: the longest that the lab has.

    A DS record belongs to the zone above.
    """
    origin = name.parent() if kind.upper() == "DS" else name
    while not file_of(origin).exists():
        origin = origin.parent()
    return origin


def changed(
    text: str, origin: dns.name.Name, name: dns.name.Name, rdata: List[str], kind: str
) -> str:
    """Return a zone's text with these records instead of the name's others of their type.

    The serial number grows by one.
    """
    zone = dns.zone.from_text(
        text, origin, relativize=False, allow_include=True, check_origin=False
    )
    zone.delete_rdataset(name, kind)
    if rdata:
        zone.replace_rdataset(name, dns.rdataset.from_text("IN", kind, TTL_S, *rdata))
    renumber(zone, origin)
    return str(zone.to_text(relativize=False))


@setting()
async def publish(name: str, kind: str, rdata: List[str]) -> Dict[str, Any]:
    """Replace a name's records of one type; the name server answers with them on return.

    ``rdata`` is as in a zone file, one text for each record; none removes them.
    """
    owner = dns.name.from_text(name)
    origin = zone_of(owner, kind)
    write(origin, changed(file_of(origin).read_text(), origin, owner, rdata, kind))
    await reload([origin])
    return {}


def write(origin: dns.name.Name, text: str) -> None:
    """Write a zone's file, and sign the zone again if it is signed."""
    file = file_of(origin)
    file.write_text(text)
    if signer := signing.signer_of(origin.to_text()):
        signing.sign(signer, file)


def without(text: str, origin: dns.name.Name, addresses: List[str]) -> str:
    """Return a zone's text without the A and AAAA records of some addresses.

    If there are any, the serial number grows by one.
    """
    zone = dns.zone.from_text(
        text, origin, relativize=False, allow_include=True, check_origin=False
    )
    unwanted = {ipaddress.ip_address(address) for address in addresses}
    found = False
    for kind in ("A", "AAAA"):
        for owner, records in list(zone.iterate_rdatasets(kind)):
            kept = [r for r in records if ipaddress.ip_address(r.address) not in unwanted]
            if len(kept) == len(records):
                continue
            found = True
            zone.delete_rdataset(owner, kind)
            if kept:
                zone.replace_rdataset(owner, dns.rdataset.from_rdata_list(records.ttl, kept))
    if not found:
        return text
    renumber(zone, origin)
    return str(zone.to_text(relativize=False))


@setting()
async def unpublish(addresses: List[str]) -> Dict[str, Any]:
    """Remove the A and AAAA records of some addresses; the name server has none on return."""
    origins = []
    for file in ZONES.glob("*zone"):
        name = file.name.removesuffix("zone")
        origin = dns.name.from_text("." if name == "root." else name)
        text = file.read_text()
        fewer = without(text, origin, addresses)
        if fewer != text:
            write(origin, fewer)
            origins.append(origin)
    if origins:
        await reload(origins)
    return {}


def renumber(zone: dns.zone.Zone, origin: dns.name.Name) -> None:
    """Let the zone's serial number grow by one."""
    soa = zone.find_rdataset(origin, "SOA")
    new = soa[0].replace(serial=soa[0].serial + 1)
    zone.replace_rdataset(origin, dns.rdataset.from_rdata(soa.ttl, new))


@operation(number=0, signed=[])
async def signatures_expire(zone: str) -> Dict[str, Any]:
    """Serve a signed zone with signatures that have expired, until ``signatures_renew``.

    Return the names of all signed zones; nothing happens if the zone is none of them.
    """
    origin = dns.name.from_text(zone)
    signer = signing.signer_of(origin.to_text())
    signed = [path.name.removesuffix("sign").rstrip(".") or "." for path in signing.signed()]
    if signer is None:
        return {"number": 0, "signed": signed}
    file = file_of(origin)
    number = _expired.add((origin, file.read_text()))
    # A new serial number: NSD has loaded the zone once it answers with it.
    file.write_text(changed(file.read_text(), origin, origin, [], "TYPE65280"))
    signing.sign(replace(signer, expired=True), file)
    await reload([origin])
    return {"number": number, "signed": signed}


@operation()
async def signatures_renew(number: int) -> Dict[str, Any]:
    """Sign a zone again; its records are those from before ``signatures_expire``."""
    await _expired.undo(number)
    return {}


async def renew(zone: Tuple[dns.name.Name, str]) -> None:
    """Serve a zone's earlier records, signed now."""
    origin, records = zone
    write(origin, records)
    await reload([origin])


_expired = Handles[Tuple[dns.name.Name, str]](__name__, renew)


async def reload(origins: List[dns.name.Name]) -> None:
    """Let NSD read its zones again; return once it answers with their serial numbers."""
    # The first process reads them; the others are its children.
    nsd = [pid for pid, name in running.names().items() if name.startswith("nsd")]
    os.kill(min(nsd), signal.SIGHUP)
    until = time.monotonic() + LOADED_WITHIN_S
    for origin in origins:
        zone = dns.zone.from_file(
            str(file_of(origin)), origin, relativize=False, allow_include=True, check_origin=False
        )
        wanted = zone.find_rdataset(origin, "SOA")[0].serial
        while await serial(origin) != wanted:
            if time.monotonic() > until:
                raise RuntimeError(f"NSD did not load {file_of(origin)}; see its log")
            await asyncio.sleep(LOOK_AGAIN_S)


async def serial(origin: dns.name.Name) -> int:
    """Return the serial number of a zone with which the name server answers, or -1."""
    query = dns.message.make_query(origin, "SOA")
    try:
        answer = await dns.asyncquery.udp(query, "127.0.0.1", timeout=ASKED_WITHIN_S)
    except (dns.exception.DNSException, OSError):
        return -1
    return next((int(rrset[0].serial) for rrset in answer.answer), -1)


async def undo() -> None:
    """Answer with the lab's own records again."""
    old = {
        path: kept.content
        for path, kept in snapshot.baseline().items()
        if Path(path).parent == ZONES
    }
    wrong = [path for path, content in old.items() if Path(path).read_bytes() != content]
    for path in wrong:
        Path(path).write_bytes(old[path])
    files = {Path(path).name.removesuffix(signing.SUFFIX) for path in wrong}
    names = sorted(file.removesuffix("zone") for file in files)
    origins = [dns.name.from_text("." if name == "root." else name) for name in names]
    if origins:
        await reload(origins)
