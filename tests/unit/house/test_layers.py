"""The house's order: a package imports only from layers above it, and pure modules do no I/O."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import maillab

HOUSE = Path(maillab.__file__).parent

# From top to bottom. Packages of one layer do not import each other.
LAYERS = (
    {"errors"},
    {"site", "mail"},
    {"engine"},
    {"scenario"},
    {"hosts"},
    {"faults", "load"},
    {"lab"},
    {"repro", "suite"},
    {"plugin"},
    {"cli", "__main__"},
)
# A package that judges, and every module whose docstring claims "Pure".
PURE_PACKAGES = {"errors", "mail"}
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
# The public interface: it names modules of every layer, and imports each on first use.
FACE = ""


def layer_of(module: str) -> int | None:
    """Return the layer of a module's package; None for a package that no layer lists."""
    package = module.partition(".")[0]
    return next((level for level, packages in enumerate(LAYERS) if package in packages), None)


def is_pure(module: str, source: str) -> bool:
    """Return True if the module's package is pure, or its docstring says that the module is."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    claims = re.search(r"\bPure[.:,]", docstring)
    return module.partition(".")[0] in PURE_PACKAGES or bool(claims)


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything a source imports, anywhere in it."""
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
    """Return our module that an imported name is or belongs to; None for other projects'."""
    top, _, rest = name.partition(".")
    if top != "maillab":
        return None
    while rest and rest not in MODULES:
        rest = rest.rpartition(".")[0]
    return rest


def complaints(source: str, module: str) -> list[str]:
    """Return a line for each import or call that the module's layer does not allow."""
    pure = is_pure(module, source)
    here = layer_of(module)
    assert here is not None
    found = []
    for line, name in imports(source, module):
        target = ours(name)
        if target is None:
            if pure and name.partition(".")[0] in DOES_IO:
                found.append(f"{module}:{line}: is pure, but imports {name}")
        elif target == FACE:
            found.append(f"{module}:{line}: imports the public face; name the module instead")
        else:
            layer = layer_of(target)
            same_package = target.partition(".")[0] == module.partition(".")[0]
            above = layer is not None and layer < here
            if not (same_package or above or module == "__main__"):
                found.append(f"{module}:{line}: imports {target}, which is not in a layer above")
            elif pure and not is_pure(target, MODULES[target].read_text()):
                found.append(f"{module}:{line}: is pure, but imports {target}")
    if pure:
        found += [
            f"{module}:{node.lineno}: is pure, but calls {node.func.id}"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in DOES_IO_TOO
        ]
    return found


@pytest.mark.parametrize("module", sorted(set(MODULES) - {FACE}))
def test_a_module_imports_only_from_layers_above(module: str) -> None:
    """Imports inside functions count, too."""
    assert complaints(MODULES[module].read_text(), module) == []


def test_every_package_is_in_a_layer_and_every_layer_has_its_packages() -> None:
    """A new package fails here until a layer lists it."""
    packages = {module.partition(".")[0] for module in MODULES} - {FACE}

    assert packages == set().union(*LAYERS)
    assert len(LAYERS) <= 10


def test_no_two_modules_import_each_other() -> None:
    """TopologicalSorter raises CycleError with the modules of the circle."""
    graph = {
        module: {
            target
            for _, name in imports(path.read_text(), module)
            if (target := ours(name)) is not None and target != module
        }
        for module, path in MODULES.items()
        if module != FACE
    }

    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("mail.ledger", "from maillab.lab.lab import Lab", "mail.ledger:1: imports lab.lab"),
        (
            "mail.ledger",
            "def judge():\n    from maillab.scenario import stream",
            "mail.ledger:2: imports scenario.stream",
        ),
        ("mail.message", "import maillab.hosts.host", "mail.message:1: imports hosts.host"),
        ("site.topology", "from maillab.mail import message", "imports mail.message"),
        ("load.plan", "from maillab.faults import Noop", "imports faults"),
        ("engine.client", "from ..lab.lab import Lab", "imports lab.lab"),
        ("scenario.stream", "from maillab.faults import Noop", "imports faults"),
        ("lab.lab", "if TYPE_CHECKING:\n    from maillab.repro import plan", "lab.lab:2:"),
        ("plugin", "from maillab.cli import main", "imports cli"),
        ("lab.evidence", "from maillab.plugin import KINDS", "imports plugin"),
        ("lab.evidence", "from maillab import Lab", "imports the public face"),
        ("mail.journey", "import time", "is pure, but imports time"),
        ("mail.journey", "from os.path import join", "is pure, but imports os"),
        ("mail.maillog", "def parse(path):\n    return open(path)", "mail.maillog:2: is pure"),
        ("lab.pcap", '"""Pure: no I/O."""\nimport socket', "lab.pcap:2: is pure"),
    ],
)
def test_an_import_out_of_order_is_named(module: str, source: str, complaint: str) -> None:
    """The test above can fail: each of these made-up sources breaks the order."""
    (found,) = complaints(source, module)

    assert complaint in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lab.lab", "from maillab.mail import ledger\nimport threading"),
        ("lab.lab", "from maillab.errors import LabError"),
        ("engine.watchdog", "def main():\n    from maillab.engine import compose"),
        ("faults.greeting", "from maillab.faults.noop import Noop"),
        ("faults", "from maillab.faults.smtp.greeting import Greeting"),
        ("cli.labs", "from maillab.cli import output"),
        ("plugin", "from maillab.lab.pool import Labs"),
        ("__main__", "from maillab.cli import main"),
        ("mail.journey", "import re\nfrom maillab.mail.history import History"),
    ],
)
def test_an_import_in_order_is_allowed(module: str, source: str) -> None:
    """Modules of layers above, and of the package itself."""
    assert complaints(source, module) == []


def test_a_new_package_has_no_layer() -> None:
    """The check of layers reports a new file at the top."""
    assert layer_of("novelty") is None
    assert layer_of("engine.novelty") is not None
