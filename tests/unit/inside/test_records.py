"""Records that a scenario publishes become part of a zone."""

from __future__ import annotations

import signal
from pathlib import Path

import dns.name
import dns.zone
import pytest

import records
import running
import snapshot
from bounded import run

ZONE = """\
$ORIGIN example.com.
$TTL 60
@ SOA ns.lab. hostmaster.lab. 1 60 60 60 1
@ NS ns.lab.
@ TXT "v=spf1 mx -all"
@ MX 10 mail
mail A 198.18.0.10
"""
ORIGIN = dns.name.from_text("example.com")


def texts(zone: str, name: str) -> list[str]:
    """Return the TXT records of a name, as a zone file has them."""
    parsed = dns.zone.from_text(zone, ORIGIN, relativize=False)
    rdataset = parsed.get_rdataset(dns.name.from_text(name), "TXT")
    return [record.to_text() for record in rdataset or ()]


def test_a_record_replaces_those_of_its_name_and_type() -> None:
    """Other types stay, and the serial number grows."""
    changed = records.changed(ZONE, ORIGIN, ORIGIN, ['"one" "two"'], "TXT")

    assert texts(changed, "example.com") == ['"one" "two"']
    parsed = dns.zone.from_text(changed, ORIGIN, relativize=False)
    assert parsed.find_rdataset(ORIGIN, "MX")
    assert parsed.find_rdataset(ORIGIN, "SOA")[0].serial == 2


def test_an_address_without_records() -> None:
    """A name keeps its other addresses; a zone without the address keeps its serial number."""
    two = ZONE + "mail A 198.18.0.11\nweb A 198.18.0.10\n"

    changed = records.without(two, ORIGIN, ["198.18.0.10", "2001:db8::1"])

    parsed = dns.zone.from_text(changed, ORIGIN, relativize=False)
    assert [str(name) for name, _ in parsed.iterate_rdatasets("A")] == ["mail.example.com."]
    assert [record.to_text() for _, _, record in parsed.iterate_rdatas("A")] == ["198.18.0.11"]
    assert parsed.find_rdataset(ORIGIN, "SOA")[0].serial == 2
    assert records.without(two, ORIGIN, ["198.18.0.12"]) == two


def test_no_resolver_keeps_a_published_record() -> None:
    changed = records.changed(ZONE, ORIGIN, ORIGIN, ['"new"'], "TXT")

    assert dns.zone.from_text(changed, ORIGIN).find_rdataset("@", "TXT").ttl == 0


def test_without_data_the_records_are_removed() -> None:
    assert texts(records.changed(ZONE, ORIGIN, ORIGIN, [], "TXT"), "example.com") == []


def test_the_zone_is_the_longest_that_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root zone has every name that no other has."""
    monkeypatch.setattr(records, "ZONES", tmp_path)
    for file in ("root.zone", "example.com.zone"):
        (tmp_path / file).touch()

    for name, zone in (
        ("mail._domainkey.example.com", "example.com."),
        ("example.com", "example.com."),
        ("example.net", "."),
    ):
        assert records.zone_of(dns.name.from_text(name)).to_text() == zone


@pytest.fixture
def nsd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A name server that has loaded whatever is in its files."""
    file = tmp_path / "example.com.zone"
    file.write_text(ZONE)
    (tmp_path / "root.zone").write_text(ZONE.replace("$ORIGIN example.com.", "$ORIGIN ."))
    monkeypatch.setattr(records, "ZONES", tmp_path)
    monkeypatch.setattr(running, "names", lambda: {7: "nsd: xfrd", 8: "nsd: main", 3: "python3"})
    kept = {str(file): snapshot.Kept((), file.read_bytes())}
    monkeypatch.setattr(snapshot, "baseline", lambda: kept)

    async def serial(origin: dns.name.Name) -> int:
        zone = dns.zone.from_file(str(records.file_of(origin)), origin, relativize=False)
        return int(zone.find_rdataset(origin, "SOA")[0].serial)

    monkeypatch.setattr(records, "serial", serial)
    return file


def test_the_name_server_reads_what_was_published(
    nsd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset restores the zone, whichever channel has changed it."""
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: signals.append((pid, number)))

    run(records.publish("_dmarc.example.com", "TXT", ['"v=DMARC1; p=reject"']))
    assert texts(nsd.read_text(), "_dmarc.example.com") == ['"v=DMARC1; p=reject"']

    run(records.undo())
    run(records.undo())

    assert nsd.read_text() == ZONE
    assert signals == [(7, signal.SIGHUP)] * 2
