"""The kernel's counts of a fault, read with nft(8), apart from the program that carries it out.

A program of ours that spoils answers or delays packets may count more than it did. So packet
filter rules, set in a separate request, count on both sides of it, and the lower of the two
numbers counts. Faults that are packet filter rules themselves are read in the same way.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from maillab.engine.channel import Channel
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


def counted(agent: Channel, family: str, table: str) -> Counter[str]:
    """Return a table's packets by the comments of its rules, and the sizes of its sets.

    A named counter has its name as the key. If there are sets "open" and "fresh", the key "open
    but not fresh" has the number of sessions in the first and not in the second. A missing
    table has counted nothing.
    """
    done = agent.call("run", argv=["nft", "-j", "list", "table", family, table])
    return read(done["stdout"]) if done["status"] == 0 else Counter()


def read(listed: str) -> Counter[str]:
    """Parse the JSON that nft(8) prints for a table."""
    packets: Counter[str] = Counter()
    elements: dict[str, set[str]] = {}
    for entry in json.loads(listed)["nftables"]:
        rule = entry.get("rule", {})
        for part in rule.get("expr", ()):
            if isinstance(part, dict) and isinstance(part.get("counter"), dict):
                packets[rule.get("comment", "")] += part["counter"]["packets"]
        if "counter" in entry:
            packets[entry["counter"]["name"]] += entry["counter"]["packets"]
        if "set" in entry:
            elements[entry["set"]["name"]] = set(map(_element, entry["set"].get("elem", ())))
    packets.update({name: len(found) for name, found in elements.items()})
    if "open" in elements:
        packets["open but not fresh"] = len(elements["open"] - elements["fresh"])
    return packets


def _element(listed: Any) -> str:
    """Return an element without the timeout that nft(8) lists with it."""
    if isinstance(listed, dict) and "elem" in listed:
        listed = listed["elem"]["val"]
    return json.dumps(listed)


@contextlib.contextmanager
def watching(host: Host, rules: str) -> Iterator[Callable[[], Counter[str]]]:
    """Count with packet filter rules for a block; yield a function that returns the counts."""
    families = re.findall(r"(?m)^table (\w+) TABLE", rules)
    table = host.agent.call("filter_add", rules=rules)["table"]
    try:
        yield lambda: sum((counted(host.agent, family, table) for family in families), Counter())
    finally:
        host.agent.call("filter_remove", table=table)


def agree(witness: Witness, program: int, kernel: int) -> None:
    """Set the witness's count to the lower of the program's and the kernel's counts."""
    witness.count = min(program, kernel)
    if kernel < program:
        witness.source += f" (its program counted {program}, the kernel {kernel})"
