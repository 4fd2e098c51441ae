"""A fault of names on its host, from its settings to its end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import dnsproxy
import resolver
from bounded import run
from maillab.errors import BadInput
from maillab.faults.dns.answers import DnsAnswer, DnsDelay, DnsDrop, ForeignPtr, StaleAnswer
from maillab.hosts.host import Fault
from operations import program


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Record the tables of the packet filter, and change none."""
    tables: set[str] = set()

    async def forget_flows(client: str) -> None:
        pass

    def nft(script: str, *, as_json: bool = False) -> str:
        if as_json:
            entries = [{"table": {"family": "ip", "name": name}} for name in tables]
            return json.dumps({"nftables": entries})
        (table,) = set(re.findall(r"table (?:ip|inet) (\w+)", script))
        if "delete table" in script:
            tables.remove(table)
        else:
            tables.add(table)
        return ""

    for module in (dnsproxy, resolver):
        monkeypatch.setattr(module, "nft", nft)
    monkeypatch.setattr(dnsproxy, "forget_flows", forget_flows)
    return tables


CLIENT, OTHER = "198.18.0.7", "198.18.0.70"


def of(client: str, rules: set[str]) -> list[str]:
    """Return the tables that are about a client."""
    return [table for table in rules if table.startswith(dnsproxy.table_of(client, 0)[:-1])]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_faults_lift_in_any_order(order: tuple[int, ...], rules: set[str]) -> None:
    """The redirect stays as long as one of the faults does."""

    async def actions() -> None:
        started = [
            await dnsproxy.names_start(CLIENT, action="truncate", name="*", type="*", refuse=refuse)
            for refuse in (False, True, False)
        ]
        tables = {rule["table"] for rule in started}
        (redirect,) = rules - tables
        for place in order:
            assert redirect in rules
            done = await dnsproxy.names_stop(rule=started[place]["rule"])
            assert done == {"acted": 0, "over_tcp": 0}
            assert started[place]["table"] not in rules

    run(actions())

    assert not rules
    assert not dnsproxy._ways


def test_a_client_has_faults_of_its_own(rules: set[str]) -> None:
    """Lifting one client's faults leaves those of another whose address begins alike."""

    async def actions() -> None:
        for client in (CLIENT, OTHER):
            await dnsproxy.names_start(client, action="drop", name="*", type="*")
        assert (len(of(CLIENT, rules)), len(of(OTHER, rules))) == (2, 2)
        await dnsproxy.names_clear(CLIENT)
        assert (len(of(CLIENT, rules)), len(of(OTHER, rules))) == (0, 2)
        assert list(dnsproxy._ways) == [OTHER]
        # Of a channel that died.
        rules.add(dnsproxy.table_of(CLIENT, 4711))
        await dnsproxy.names_clear(CLIENT)
        assert len(rules) == 2
        await program("dnsproxy").undo()

    run(actions())

    assert not rules


@pytest.fixture
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's resolv.conf."""
    file = tmp_path / "resolv.conf"
    file.write_text("# maillab\nnameserver 192.0.2.2\noptions timeout:2\n")
    monkeypatch.setattr(resolver, "RESOLV_CONF", file)
    return file


def test_dead_nameservers_come_before_the_others(rules: set[str], resolv_conf: Path) -> None:
    """They follow the first line, which identifies the file; the file is restored at the end."""
    before = resolv_conf.read_text()

    def lines() -> list[str]:
        return resolv_conf.read_text().splitlines()

    async def actions() -> list[list[str]]:
        seen = []
        first = await resolver.nameserver_start(refuses=False)
        second = await resolver.nameserver_start(refuses=True)
        for started in (first, second):
            seen.append(lines())
            assert await resolver.nameserver_stop(number=started["number"]) == {}
        return seen

    both, second_alone = run(actions())

    assert (both[0], len(both), both[3:]) == ("# maillab", 5, before.splitlines()[1:])
    assert second_alone == [both[0], both[2], *both[3:]]
    assert resolv_conf.read_text() == before
    assert not rules


def test_undo_lifts_everything(rules: set[str], resolv_conf: Path) -> None:
    """Undo also works for a scenario that broke off, and when there is nothing to undo."""
    before = resolv_conf.read_text()

    async def actions() -> None:
        for name in ("dnsproxy", "resolver"):
            await program(name).undo()
        for _ in range(2):
            await dnsproxy.names_start(CLIENT, action="drop", name="*", type="*", refuse=True)
            await resolver.nameserver_start(refuses=True)
        for name in ("dnsproxy", "resolver"):
            await program(name).undo()

    run(actions())

    assert not rules
    assert not dnsproxy._ways
    assert resolv_conf.read_text() == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DnsDrop("no name"), "is not a domain name"),
        (lambda: DnsDrop("x", "MAIL"), r"unknown type 'MAIL' \(choose from "),  # type: ignore[arg-type]  # that is the point
        (lambda: DnsDrop("x", every=0), "every must be 1 to 100000, not 0"),
        (lambda: DnsDelay("x", delay_s=0), "use DnsDrop"),
        (lambda: DnsAnswer("x", rcode="NOERROR"), "unknown rcode 'NOERROR'"),  # type: ignore[arg-type]  # that is the point
        (lambda: StaleAnswer("x", address="1.2.3"), "is not an IPv4 or IPv6 address"),
        (lambda: StaleAnswer("x", "*", address="192.0.2.1"), "type must be 'A': the answer is"),  # type: ignore[arg-type]  # that is the point
        (lambda: ForeignPtr("client", points_to="x"), "name must be an address"),
        (lambda: ForeignPtr("192.0.2.1", points_to="*"), "is not a domain name"),
    ],
)
def test_invalid_settings_are_refused(make: Callable[[], Fault], words: str) -> None:
    """The error is raised before any host is touched."""
    with pytest.raises(BadInput, match=words):
        make()
