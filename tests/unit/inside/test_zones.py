"""One file of names becomes the name server's zones."""

from __future__ import annotations

import ipaddress
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zones

SITE = """
$ORIGIN example.org.
@        MX  10 primary
primary  A   198.18.0.20
backup   A   198.18.0.30
$ORIGIN example.net.
@        A   198.18.1.10
; A comment is no record, and neither is
; A  198.18.0.99
"""


def pointers(zone: str) -> dict[str, str]:
    """Return the PTR records of a reverse zone: the name by the last number of the address."""
    found = re.findall(r"(?m)^([^\s;]+)[ \t]+PTR[ \t]+(\S+)$", zone)
    assert len(dict(found)) == len(found), "an address with two names"
    return dict(found)


def test_a_section_is_a_zone() -> None:
    """Each starts at its $ORIGIN; lines before the first belong to no zone."""
    parts = zones.sections("; head\n" + SITE)

    assert list(parts) == ["example.org.", "example.net."]
    assert parts["example.org."].count("\n") == 4
    assert "head" not in "".join(parts.values())


def test_no_section_is_no_zone() -> None:
    """An empty file has no names."""
    assert zones.with_reverse(zones.sections("")) == {}


def test_reverse_zones_follow_from_the_a_records() -> None:
    """One for each /24, whatever domain a name is in."""
    everything = zones.with_reverse(zones.sections(SITE))

    assert set(everything) == {
        "example.org.", "example.net.",
        "0.18.198.in-addr.arpa.", "1.18.198.in-addr.arpa.",
    }  # fmt: skip
    assert pointers(everything["0.18.198.in-addr.arpa."]) == {
        "20": "primary.example.org.",
        "30": "backup.example.org.",
    }
    assert pointers(everything["1.18.198.in-addr.arpa."]) == {"10": "example.net."}


def test_forward_zones_are_left_as_they_were() -> None:
    """Only reverse zones are added."""
    parts = zones.sections(SITE)

    assert {name: zones.with_reverse(parts)[name] for name in parts} == parts


def test_a_pointer_in_the_file_wins() -> None:
    """It may be wrong, or give a name without an A record; the others are still derived."""
    site = SITE + "$ORIGIN 0.18.198.in-addr.arpa.\n20 PTR liar.example.com.\n"

    assert pointers(zones.with_reverse(zones.sections(site))["0.18.198.in-addr.arpa."]) == {
        "20": "liar.example.com.",
        "30": "backup.example.org.",
    }


def test_of_two_names_of_an_address_the_first_is_the_pointer() -> None:
    """The order is the file's."""
    site = "$ORIGIN a.test.\nfirst A 198.18.0.7\nsecond A 198.18.0.7\n"

    reverse = zones.with_reverse(zones.sections(site))["0.18.198.in-addr.arpa."]

    assert pointers(reverse) == {"7": "first.a.test."}


def test_a_comment_is_no_record() -> None:
    """Not even a comment that starts like a record, as English sentences do."""
    site = "$ORIGIN a.test.\n; A word on A records.\nmx A 198.18.0.7 ; A trailing one\n"

    assert set(zones.with_reverse(zones.sections(site))) == {"a.test.", "0.18.198.in-addr.arpa."}


def test_a_full_name_is_not_completed() -> None:
    """A name with a final dot is complete (RFC 1035 section 5.1)."""
    site = "$ORIGIN a.test.\nmx.b.test. A 198.18.0.7\n"

    reverse = zones.with_reverse(zones.sections(site))["0.18.198.in-addr.arpa."]

    assert pointers(reverse) == {"7": "mx.b.test."}


def test_a_record_is_one_line() -> None:
    """A name without data does not take the next line's."""
    site = "$ORIGIN a.test.\nmx\n A 198.18.0.7\n"

    assert set(zones.with_reverse(zones.sections(site))) == {"a.test."}


DOMAINS = st.sampled_from(["a.test.", "b.test.", "c.b.test."])
RECORDS = st.tuples(
    st.sampled_from(["@", "mx", "www", "inner.mx"]),
    st.integers(min_value=0, max_value=2),
    st.integers(min_value=1, max_value=4),
)
SITES = st.dictionaries(DOMAINS, st.lists(RECORDS, max_size=5), max_size=3)
OWN = st.dictionaries(st.integers(min_value=1, max_value=4), st.just("own.test."), max_size=3)


@given(SITES, OWN)
def test_every_address_has_one_name_that_leads_back(
    site: dict[str, list[tuple[str, int, int]]], own: dict[int, str]
) -> None:
    """Reverse and forward agree, except for addresses with a PTR record of their own."""
    text = "".join(
        f"$ORIGIN {domain}\n"
        + "".join(f"{name}\tA  198.18.{net}.{host}\n" for name, net, host in records)
        for domain, records in site.items()
    )
    text += "$ORIGIN 0.18.198.in-addr.arpa.\n"
    text += "".join(f"{host} PTR {name}\n" for host, name in own.items())
    forward = {
        (net, host, domain if name == "@" else f"{name}.{domain}")
        for domain, records in site.items()
        for name, net, host in records
    }

    everything = zones.with_reverse(zones.sections(text))

    for net in range(3):
        reverse = pointers(everything.get(f"{net}.18.198.in-addr.arpa.", ""))
        given_ = own if net == 0 else {}
        assert {int(host) for host in reverse} == {h for n, h, _ in forward if n == net} | {*given_}
        for host, name in reverse.items():
            assert given_.get(int(host)) == name or (net, int(host), name) in forward


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder to which ``main`` writes; it reads ``lab.zone`` there."""
    monkeypatch.setattr(zones, "SOURCE", tmp_path / "lab.zone")
    monkeypatch.setattr(zones, "ZONES", tmp_path / "zones")
    monkeypatch.setattr(zones, "Path", lambda _: tmp_path / "nsd.conf")
    monkeypatch.setattr(zones, "has_ipv6", lambda: False)
    monkeypatch.setenv("LAB", "198.18.0.0/24")
    (tmp_path / "lab.zone").write_text(SITE)
    return tmp_path


def test_the_root_zone_is_there_and_empty(written: Path) -> None:
    """So an unknown name gets NXDOMAIN, as on the Internet, not a refusal."""
    zones.main()

    conf = (written / "nsd.conf").read_text()
    assert 'name: "."\n  zonefile: "root.zone"' in conf
    root = (written / "zones/root.zone").read_text()
    assert root == f"$ORIGIN .\n{zones.HEAD}"


def test_every_zone_has_a_file_with_its_authority(written: Path) -> None:
    """The origin, SOA and NS come first, then the section as written."""
    zones.main()

    conf = (written / "nsd.conf").read_text()
    listed = dict(re.findall(r'name: "(.*)"\n  zonefile: "(.*)"', conf))
    assert set(listed) == {
        ".", "lab.", "example.org.", "example.net.",
        "0.18.198.in-addr.arpa.", "1.18.198.in-addr.arpa.",
    }  # fmt: skip
    for name, file in listed.items():
        text = (written / "zones" / file).read_text()
        assert text.startswith(f"$ORIGIN {name}\n{zones.HEAD}")
    example = (written / "zones/example.org.zone").read_text()
    assert example.endswith("backup   A   198.18.0.30\n")
    assert "ns A " in (written / "zones/lab.zone").read_text()


def test_a_site_may_bring_its_own_root(written: Path) -> None:
    """The file's root zone replaces the default one."""
    (written / "lab.zone").write_text("$ORIGIN .\nlocalhost A 127.0.0.1\n$ORIGIN lab.\n@ TXT x\n")

    zones.main()

    assert (written / "zones/root.zone").read_text().endswith("localhost A 127.0.0.1\n")
    assert (written / "zones/lab.zone").read_text().endswith("@ TXT x\n")
    assert "localhost." in (written / "zones/0.0.127.in-addr.arpa.zone").read_text()


def test_an_included_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another container makes it, and may need longer than this one."""
    file = tmp_path / "mail.txt"
    monkeypatch.setattr(time, "sleep", lambda _: file.touch())

    zones.wait_for_included(f"$ORIGIN example.org.\n$INCLUDE {file}\n")

    assert file.exists()


def test_an_included_file_that_never_comes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zones, "INCLUDED_WITHIN_S", 0.0)

    with pytest.raises(SystemExit, match=r"includes \S+/mail.txt, which no container made"):
        zones.wait_for_included(f"$INCLUDE {tmp_path}/mail.txt\n")


DUAL = """
$ORIGIN example.org.
primary  A     198.18.0.20
old      A     198.18.0.20
backup   A     198.18.0.30
backup   AAAA  2001:db8::1
outside  A     192.0.2.1
$ORIGIN 0.18.198.in-addr.arpa.
30 PTR other.example.org.
$ORIGIN 0.0.2.1.6.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.
"""
LAB = ipaddress.IPv4Network("198.18.0.0/24")


def records(zone: str, kind: str) -> dict[str, str]:
    """Return a zone's records of one type by name."""
    found = re.findall(rf"(?m)^(\S+)[ \t]+{kind}[ \t]+(\S+)$", zone)
    assert len(dict(found)) == len(found), "a name with two records"
    return dict(found)


def test_names_have_ipv6_addresses_and_these_have_names() -> None:
    """They follow the A and PTR records, except where the site has a record of its own."""
    everything = zones.with_ipv6(zones.with_reverse(zones.sections(DUAL)), LAB)

    assert records(everything["example.org."], "AAAA") == {
        "primary": "2001:db8::c612:14", "old": "2001:db8::c612:14", "backup": "2001:db8::1",
    }  # fmt: skip
    (reverse,) = (zone for name, zone in everything.items() if name.endswith("ip6.arpa."))
    assert records(reverse, "PTR") == {"4.1": "primary.example.org.", "e.1": "other.example.org."}


def test_a_ptr_record_for_the_ipv6_address_stays() -> None:
    """A site whose two PTR records differ says so."""
    text = DUAL + "4.1 PTR mistaken.example.org.\n"

    everything = zones.with_ipv6(zones.with_reverse(zones.sections(text)), LAB)

    (reverse,) = (zone for name, zone in everything.items() if name.endswith("ip6.arpa."))
    assert records(reverse, "PTR")["4.1"] == "mistaken.example.org."
    assert pointers(everything["0.18.198.in-addr.arpa."])["20"] == "primary.example.org."


@pytest.mark.parametrize("has_ipv6", [True, False])
def test_the_name_server_has_ipv6_if_its_container_has(
    *, has_ipv6: bool, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lab without IPv6 has no record that leads into nothing."""
    monkeypatch.setattr(zones, "has_ipv6", lambda: has_ipv6)

    zones.main()

    assert ("ip-address: ::0" in (written / "nsd.conf").read_text()) == has_ipv6
    assert ("AAAA" in (written / "zones/example.org.zone").read_text()) == has_ipv6
