"""The dialup line's rules and settings, without a packet filter; scenarios do the rest."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import line
import packetfilter
from maillab.errors import BadInput
from maillab.faults.line import Dialup


def run(*steps: str) -> None:
    """Play operations one after another."""

    async def story() -> None:
        for step in steps:
            name, _, argument = step.partition(" ")
            await line.OPERATIONS[name](*([int(argument)] if argument else []))

    asyncio.run(story())


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What would have been done to the host, one command a line."""
    commands: list[str] = []
    names = [f"{what}_{chain}" for what in ("carried", "lost") for chain in ("out", "in")]

    async def tool(*argv: str) -> None:
        commands.append(" ".join(argv))

    def nft(script: str, *, as_json: bool = False) -> str:
        if not script.startswith("list"):
            commands.extend(script.splitlines())
        # Each listing finds more.
        count = {"packets": len(commands), "bytes": 0}
        if as_json:
            return json.dumps({"nftables": [{"counter": {"name": one, **count}} for one in names]})
        return "hang_up" if any("add quota" in command for command in commands) else ""

    (tmp_path / line.INTERFACE).mkdir()
    (tmp_path / line.INTERFACE / "mtu").write_text("9000\n")
    monkeypatch.setattr(line, "tool", tool)
    monkeypatch.setattr(line, "INTERFACES", tmp_path)
    monkeypatch.setattr(packetfilter, "nft", nft)
    return commands


def test_what_is_added_goes_again(done: list[str]) -> None:
    """The table, the quota, the queueing discipline and the device, also out of a call."""
    run("line_start 33600", "line_call 5000", "line_stop")

    assert done[-4:] == [
        f"delete quota netdev {line.TABLE} hang_up",
        f"tc qdisc del dev {line.INTERFACE} root",
        f"ip link del {line.INWARD}",
        f"delete table netdev {line.TABLE}",
    ]
    assert not line._rates
    assert not line._calls


def test_a_burst_holds_the_largest_packet(done: list[str]) -> None:
    """A token bucket never lets a larger one through (tc-tbf(8))."""
    run("line_start 33600", "line_call 0", "line_stop")

    shapes = [command for command in done if " tbf " in command]
    assert len(shapes) == 2
    assert all("rate 33600bit burst 9100 " in shape for shape in shapes)


def test_healing_ends_call_and_line_and_needs_neither(done: list[str]) -> None:
    """What a scenario that broke off left."""
    run("line_start 300", "line_call 0")
    asyncio.run(line.heal())
    after = len(done)
    asyncio.run(line.heal())

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

    assert not line._rates


def test_a_line_without_a_rate_is_refused() -> None:
    """Before anything is touched."""
    with pytest.raises(BadInput, match="at least 300 bit/s"):
        Dialup(rate_bit_s=0)
