"""A fault of names on its host, from what can be asked for to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from stories import run

import dnsproxy
from dnsproxy import HERE
from maillab.errors import BadInput
from maillab.faults.names import DnsAnswer, DnsDelay, DnsDrop, ForeignPtr, StaleAnswer
from maillab.host import Fault


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The tables there would be."""
    tables: set[str] = set()

    async def forget_flows() -> None:
        pass

    def remove(table: str) -> int:
        tables.remove(table)
        return 7

    monkeypatch.setenv("NAMESERVER", HERE)
    monkeypatch.setattr(dnsproxy, "add", lambda table, *_: tables.add(table))
    monkeypatch.setattr(dnsproxy, "remove", remove)
    monkeypatch.setattr(dnsproxy, "forget_flows", forget_flows)
    return tables


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_faults_lift_in_any_order(order: tuple[int, ...], rules: set[str]) -> None:
    """The redirect is there as long as one of them is."""

    async def story() -> None:
        started = [
            (await dnsproxy.names_start(action="truncate", name="*", type="*", refuse=refuse))
            for refuse in (False, True, False)
        ]
        for place in order:
            assert "maillab_names" in rules
            done = await dnsproxy.names_stop(**started[place])
            assert done == {"acted": 0, "over_tcp": 0, "refused": 7 if place == 1 else 0}

    run(story())

    assert not rules
    assert not dnsproxy._proxies


@pytest.fixture
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's resolv.conf."""
    file = tmp_path / "resolv.conf"
    file.write_text("# maillab\nnameserver 192.0.2.2\noptions timeout:2\n")
    monkeypatch.setattr(dnsproxy, "RESOLV_CONF", file)
    return file


def test_dead_nameservers_stand_before_the_others(rules: set[str], resolv_conf: Path) -> None:
    """Below the line by which the containers know the file; it ends as it was."""
    before = resolv_conf.read_text()

    def lines() -> list[str]:
        return resolv_conf.read_text().splitlines()

    async def story() -> list[list[str]]:
        seen = []
        first = await dnsproxy.nameserver_start(refuses=False)
        second = await dnsproxy.nameserver_start(refuses=True)
        for one in (first, second):
            seen.append(lines())
            assert await dnsproxy.nameserver_stop(**one) == {"asked": 7}
        return seen

    both, one = run(story())

    assert (both[0], len(both), both[3:]) == ("# maillab", 5, before.splitlines()[1:])
    assert one == [both[0], both[2], *both[3:]]
    assert resolv_conf.read_text() == before
    assert not rules


def test_healing_lifts_everything(rules: set[str], resolv_conf: Path) -> None:
    """What a scenario that broke off left; and it is no error when there is nothing."""
    before = resolv_conf.read_text()

    async def story() -> None:
        await dnsproxy.heal()
        for _ in range(2):
            await dnsproxy.names_start(action="drop", name="*", type="*", refuse=True)
            await dnsproxy.nameserver_start(refuses=True)
        await dnsproxy.heal()

    run(story())

    assert not rules
    assert not dnsproxy._proxies
    assert resolv_conf.read_text() == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DnsDrop("no name"), "is not a domain name"),
        (lambda: DnsDrop("x", "MAIL"), "no type 'MAIL'; there is: "),  # type: ignore[arg-type]  # that is the point
        (lambda: DnsDrop("x", every=0), "every is 1 or more"),
        (lambda: DnsDelay("x", delay_s=0), "use DnsDrop"),
        (lambda: DnsAnswer("x", rcode="NOERROR"), "no rcode 'NOERROR'"),  # type: ignore[arg-type]  # that is the point
        (lambda: StaleAnswer("x", address="1.2.3"), "no IPv4 address"),
        (lambda: ForeignPtr("client", points_to="x"), "names an IPv4 address"),
        (lambda: ForeignPtr("192.0.2.1", points_to="*"), "is not a domain name"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], Fault], words: str) -> None:
    """Before anything is touched."""
    with pytest.raises(BadInput, match=words):
        make()
