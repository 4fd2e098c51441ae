"""Requests of the harness to programs in containers match the programs' declarations."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import maillab
from maillab.engine import operations
from maillab.site import resources

HOUSE = Path(maillab.__file__).parent
TREE = HOUSE.parents[1]
# Files that make requests to a container.
ASKERS = sorted(
    path
    for folder in (HOUSE, TREE / "scenarios", TREE / "tests" / "docker", TREE / "tests" / "support")
    for path in folder.rglob("*.py")
)
# ``Channel.call`` takes this argument itself.
BOUND = "timeout_s"
SOURCES = [
    path
    for folder in ("inside", "dns", "dovecot", "filters", "front", "sendmail", "tables")
    for path in resources.images().joinpath(folder).rglob("*.py")
]
PROGRAMS = {path.stem: operations.offered(path.stem) for path in SOURCES}


@dataclass(frozen=True)
class Request:
    """A request in the source of the harness."""

    place: str
    operation: str
    arguments: frozenset[str]
    # More arguments follow by ``**``.
    open_end: bool
    # The field of the answer that is read directly; "" for none.
    field: str


def requests(path: Path) -> Iterator[Request]:
    """Yield every ``….call("op", …)`` and ``….begin("op", …)`` of a source."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    fields = {
        id(node.value): node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in ("call", "begin") or len(node.args) != 1:
            continue
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            given = {word.arg: word.value for word in node.keywords if word.arg}
            arguments = set(given)
            if node.func.attr == "call":
                arguments.discard("bounded")
                if "bounded" not in given:
                    arguments.discard(BOUND)
                elif ast.literal_eval(given["bounded"]):
                    arguments.add(BOUND)
            yield Request(
                f"{path.relative_to(TREE)}:{node.lineno}",
                node.args[0].value,
                frozenset(arguments),
                any(word.arg is None for word in node.keywords),
                fields.get(id(node), ""),
            )


REQUESTS = [request for path in ASKERS for request in requests(path)]


@pytest.mark.parametrize(
    "request_", REQUESTS, ids=[f"{asked.place} {asked.operation}" for asked in REQUESTS]
)
def test_a_request_has_the_parameters_of_its_operation(request_: Request) -> None:
    """The check covers each program that has the operation, since a host may run any of them."""
    asked = [
        (program, offered[request_.operation])
        for program, offered in PROGRAMS.items()
        if request_.operation in offered
    ]
    assert asked, f"no program has an operation {request_.operation!r}"

    for program, operation in asked:
        unknown = request_.arguments - operation.required - operation.optional
        assert operation.takes_any or not unknown, f"{program} does not know {sorted(unknown)}"
        missing = operation.required - request_.arguments
        assert request_.open_end or not missing, f"{program} misses {sorted(missing)}"
        assert request_.field in ("", *operation.empty), f"{program} has no such field"


def test_the_requests_of_the_harness_were_found() -> None:
    """Every ``call`` and ``begin`` in the sources is among the requests."""
    found = {request.operation for request in REQUESTS}

    assert {"run", "undo", "reset", "smtp_command", "names_start", "begin"} - found == {"begin"}
    lines = [
        f"{path.relative_to(TREE)}:{text.count(chr(10), 0, match.start()) + 1}"
        for path in ASKERS
        for text in [path.read_text(encoding="utf-8")]
        for match in re.finditer(r"\.(?:call|begin)\(\s*\"", text)
    ]
    assert len(lines) == len(REQUESTS), sorted(set(lines) - {asked.place for asked in REQUESTS})


@pytest.mark.parametrize("program", ["sendmailhost", "dovecothost", "fronthost", "tableshost"])
def test_programs_with_the_same_operation_have_the_same_answer(program: str) -> None:
    """The programs of other servers return the same fields as Postfix's."""
    postfix, other = PROGRAMS["machine"] | PROGRAMS["processes"], PROGRAMS[program]

    for name in postfix.keys() & other.keys():
        assert postfix[name].empty == other[name].empty, name
        assert postfix[name].required == other[name].required, name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_program_keeps_a_table_of_its_own(path: Path) -> None:
    """Operations declare themselves (images/inside/operations.py)."""
    assert "\nOPERATIONS" not in path.read_text(encoding="utf-8").replace(
        "\nOPERATIONS: dict[str, Function] = dict(program(__name__).operations)", ""
    )
