"""The dialup line's rules and settings, without a packet filter; scenarios do the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import line
import netlink
import packetfilter
from maillab.errors import BadInput
from maillab.faults.path.dialup import Dialup
from operations import program

DEVICES = ["lo", line.INTERFACE, line.INWARD]


def run(*steps: str) -> None:
    """Run operations one after another."""

    async def actions() -> None:
        for step in steps:
            name, _, argument = step.partition(" ")
            await program("line").operations[name](*([int(argument)] if argument else []))

    asyncio.run(actions())


class Rtnetlink:
    """Records the requests that pyroute2 would make to the kernel, one per line."""

    def __init__(self, commands: list[str]) -> None:
        self._commands = commands

    def tc(self, verb: str, kind: str = "", index: int = 0, **shape: object) -> None:
        """Add or delete a device's qdisc."""
        self._commands.append(f"tc {verb} {kind} {DEVICES[index]} {shape}")

    def link(self, verb: str, index: int = 0, ifname: str = "", **settings: object) -> None:
        """Add, set or delete a device."""
        self._commands.append(f"link {verb} {ifname or DEVICES[index]} {settings}")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Record the commands that would change the host, one per line."""
    commands: list[str] = []
    names = [f"{what}_{chain}" for what in ("carried", "lost") for chain in ("out", "in")]

    @contextlib.contextmanager
    def rtnetlink(doing: str) -> Iterator[Rtnetlink]:
        yield Rtnetlink(commands)

    def nft(script: str, *, as_json: bool = False) -> str:
        if not script.startswith("list"):
            commands.extend(script.splitlines())
        # Each listing finds more.
        count = {"packets": len(commands), "bytes": 0}
        if as_json:
            return json.dumps(
                {"nftables": [{"counter": {"name": name, **count}} for name in names]}
            )
        return "hang_up" if any("add quota" in command for command in commands) else ""

    (tmp_path / line.INTERFACE).mkdir()
    (tmp_path / line.INTERFACE / "mtu").write_text("9000\n")
    monkeypatch.setattr(netlink, "rtnetlink", rtnetlink)
    monkeypatch.setattr(socket, "if_nametoindex", DEVICES.index)
    monkeypatch.setattr(line, "INTERFACES", tmp_path)
    monkeypatch.setattr(packetfilter, "nft", nft)
    return commands


def test_everything_added_is_removed(done: list[str]) -> None:
    """The table, the quota, the queueing discipline and the device, also during a call."""
    run("line_start 33600", "line_call 5000", "line_stop")

    assert done[-4:] == [
        f"delete quota netdev {line.TABLE} hang_up",
        f"tc del  {line.INTERFACE} {{}}",
        f"link del {line.INWARD} {{}}",
        f"delete table netdev {line.TABLE}",
    ]
    assert not line._lines


def test_a_burst_holds_the_largest_packet(done: list[str]) -> None:
    """A token bucket never lets a larger packet through (tc-tbf(8))."""
    run("line_start 33600", "line_call 0", "line_stop")

    shapes = [command for command in done if " tbf " in command]
    assert len(shapes) == 2
    assert all("'rate': '33600bit', 'burst': 9100," in shape for shape in shapes)


def test_undo_ends_call_and_line_if_there_are_any(done: list[str]) -> None:
    """A scenario that broke off has left the call and the line."""
    run("line_start 300", "line_call 0")
    asyncio.run(program("line").undo())
    after = len(done)
    asyncio.run(program("line").undo())

    assert f"delete table netdev {line.TABLE}" in done
    assert len(done) == after


def test_one_line_and_one_call_at_a_time(done: list[str]) -> None:
    """A second one is refused, and the first one stays."""
    run("line_start 300")
    with pytest.raises(RuntimeError, match="has a dialup line already"):
        run("line_start 300")
    run("line_call 0")
    with pytest.raises(RuntimeError, match="one call at a time"):
        run("line_call 0")
    run("line_hang_up", "line_hang_up", "line_stop")

    assert not line._lines


def test_a_line_without_a_rate_is_refused() -> None:
    """The error comes before any host is touched."""
    with pytest.raises(BadInput, match="rate_bit_s must be >= 300"):
        Dialup(rate_bit_s=0)
