"""The house's order: each room imports only from rooms above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import maillab

HOUSE = Path(maillab.__file__).parent

# From top to bottom. A folder is one room unless its modules are listed.
ROOMS = (
    "errors",
    "resources",
    "topology",
    "maincf",
    "message",
    "maillog",
    "sendmaillog",
    "history",
    "journey",
    "journeys",
    "verdict",
    "ledger",
    "loadplan",
    "loadreport",
    "loadplot",
    "engine.client",
    "engine.bootstrap",
    "engine.images",
    "engine.channel",
    "engine.container",
    "engine.compose",
    "engine.watchdog",
    "stream",
    "record",
    "crowd",
    "session",
    "host",
    "jail",
    "postfix",
    "pop3",
    "tls",
    "sasl",
    "uucp",
    "sendmail",
    "pcap",
    "datagrams",
    "clock",
    "faults",
    "load",
    "assembly",
    "lab",
    "labs",
    "evidence",
    "repro.report",
    "repro.names",
    "repro.services",
    "repro.tables",
    "repro.absent",
    "repro.answers",
    "repro.plan",
    "repro.play",
    "faq",
    "shards",
    "plugin",
    "cli",
    "__main__",
)
SURFACE = {"plugin", "cli", "__main__"}
# Hold nothing but their docstring, so that importing them is importing nothing.
EMPTY = {"", "engine", "repro"}
PURE = {
    "errors", "maincf", "message", "pcap", "sendmaillog", "maillog", "history", "journey",
    "journeys", "verdict", "ledger",
}  # fmt: skip
DOES_IO = {
    "asyncio", "docker", "http", "io", "multiprocessing", "os", "pathlib", "psutil", "requests",
    "select", "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "testcontainers",
    "threading", "time",
}  # fmt: skip
DOES_IO_TOO = {"input", "open", "print"}

MODULES = {
    ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix("__init__").rstrip("."): (
        path
    )
    for path in HOUSE.rglob("*.py")
}


def room_of(module: str) -> str | None:
    """The room a module of ours is in; None when nobody placed it."""
    parts = module.split(".")
    candidates = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in candidates if name in ROOMS), None)


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a source imports, wherever in it."""
    package = f"maillab.{module}".split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*above, node.module or ""]).strip(".")
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"


def ours(name: str) -> str | None:
    """The module of ours that an imported name is or is in; None for others' modules."""
    top, _, rest = name.partition(".")
    if top != "maillab":
        return None
    while rest and rest not in MODULES:
        rest = rest.rpartition(".")[0]
    return rest


def complaints(source: str, module: str) -> list[str]:
    """What a module imports, or calls, that its room does not allow."""
    room = room_of(module)
    assert room is not None
    found = []
    for line, name in imports(source, module):
        target = ours(name)
        if target is None:
            if room in PURE and name.partition(".")[0] in DOES_IO:
                found.append(f"{module}:{line}: does no I/O, but imports {name}")
        elif target not in EMPTY:
            there = room_of(target)
            below = there is None or ROOMS.index(there) > ROOMS.index(room)
            surface = there in SURFACE and room not in (there, "__main__")
            if (below and room not in SURFACE) or surface:
                found.append(f"{module}:{line}: imports {target}, which is not above it")
            elif room in PURE and there not in PURE:
                found.append(f"{module}:{line}: does no I/O, but imports {target}")
    if room in PURE:
        found += [
            f"{module}:{node.lineno}: does no I/O, but calls {node.func.id}"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in DOES_IO_TOO
        ]
    return found


@pytest.mark.parametrize("module", sorted(set(MODULES) - EMPTY))
def test_a_module_imports_only_from_rooms_above(module: str) -> None:
    """What judges does no I/O, and nobody reaches down, not even inside a function."""
    assert complaints(MODULES[module].read_text(), module) == []


def test_every_module_has_its_place_and_every_place_a_module() -> None:
    """A new module fails here until somebody says where it belongs."""
    assert [module for module in MODULES if module not in EMPTY and not room_of(module)] == []
    assert [room for room in ROOMS if room not in MODULES] == []


def test_an_empty_package_is_empty() -> None:
    """A package that may be imported from anywhere brings nothing along."""
    for package in EMPTY:
        (docstring,) = ast.parse(MODULES[package].read_text()).body
        assert isinstance(docstring, ast.Expr)


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("ledger", "from maillab.lab import Lab", "ledger:1: imports lab"),
        ("ledger", "def judge():\n    from maillab import stream", "ledger:2: imports stream"),
        ("message", "import maillab.host", "message:1: imports host"),
        ("engine.client", "from maillab.engine.images import Image", "imports engine.images"),
        ("engine.client", "from .images import Image", "imports engine.images"),
        ("engine.client", "from ..lab import Lab", "imports lab"),
        ("stream", "from maillab.faults import Noop", "imports faults"),
        ("lab", "if TYPE_CHECKING:\n    from maillab.evidence import write", "lab:2:"),
        ("plugin", "from maillab.cli import main", "imports cli"),
        ("cli.labs", "from maillab import plugin", "imports plugin"),
        ("evidence", "from maillab.plugin import KINDS", "imports plugin"),
        ("journey", "import time", "does no I/O, but imports time"),
        ("journey", "from os.path import join", "does no I/O, but imports os"),
        ("message", "from maillab.topology import Role", "does no I/O, but imports topology"),
        ("maillog", "def parse(path):\n    return open(path)", "maillog:2: does no I/O"),
    ],
)
def test_what_is_out_of_order_is_named(module: str, source: str, complaint: str) -> None:
    """The test above can fail: each of these made-up sources breaks the order."""
    (found,) = complaints(source, module)

    assert complaint in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lab", "from maillab import ledger, topology\nimport threading"),
        ("lab", "from maillab.errors import LabError"),
        ("engine.watchdog", "def main():\n    from maillab.engine import compose"),
        ("faults.greeting", "from maillab.faults.noop import Noop"),
        ("faults", "from maillab.faults.greeting import Greeting"),
        ("cli.labs", "from maillab.cli import output"),
        ("plugin", "from maillab.labs import Labs"),
        ("__main__", "from maillab.cli import main"),
        ("journey", "import re\nfrom maillab.history import History"),
    ],
)
def test_what_is_in_order_is_left_alone(module: str, source: str) -> None:
    """Rooms above, the room itself, and the surface's freedom."""
    assert complaints(source, module) == []


def test_a_module_nobody_placed_has_no_room() -> None:
    """Neither a new file at the top nor a new one in the engine slips in."""
    assert room_of("novelty") is None
    assert room_of("engine.novelty") is None
    assert room_of("faults.novelty") == "faults"
