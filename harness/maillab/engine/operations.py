"""The operations and empty answers of the programs in containers, from their sources.

The programs import what only their images have, so they are parsed instead of imported.
"""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from maillab.errors import LabError
from maillab.site import resources

# The far end of every channel has these operations; those of other programs come beside them.
CHANNEL = "channel"


@dataclass(frozen=True)
class Operation:
    """An operation as its source declares it."""

    name: str
    required: frozenset[str]
    optional: frozenset[str]
    # Any other parameter, too.
    takes_any: bool
    # Its answer when it does nothing.
    empty: Mapping[str, Any]
    # The operation only uses files; no server has to run.
    setting: bool


@functools.cache
def offered(program: str) -> dict[str, Operation]:
    """Return the operations of one program, by name."""
    (source,) = [
        path
        for path in resources.images().rglob(f"{program}.py")
        if "__pycache__" not in path.parts
    ]
    found = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call):
                    kind = ast.unparse(decorator.func)
                    if kind in ("operation", "setting"):
                        setting = kind == "setting"
                        found[node.name] = _declared(node, decorator.keywords, setting=setting)
    return found


def empty_answer(programs: Iterable[str], name: str) -> dict[str, Any]:
    """Return what an operation of these programs answers when it does nothing."""
    return copy.deepcopy(dict(_find(programs, name).empty))


def is_setting(programs: Iterable[str], name: str) -> bool:
    """Return True if an operation of these programs works on files alone."""
    return _find(programs, name).setting


def _find(programs: Iterable[str], name: str) -> Operation:
    for program in (CHANNEL, *programs):
        if name in offered(program):
            return offered(program)[name]
    raise LabError(f"no program of the container has an operation {name!r}")


def _declared(
    function: ast.AsyncFunctionDef, answer: list[ast.keyword], *, setting: bool
) -> Operation:
    arguments = function.args
    plain = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    count = len(plain) - len(arguments.defaults)
    named = list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    return Operation(
        function.name,
        frozenset([*plain[:count], *(argument.arg for argument, default in named if not default)]),
        frozenset([*plain[count:], *(argument.arg for argument, default in named if default)]),
        arguments.kwarg is not None,
        {str(word.arg): ast.literal_eval(word.value) for word in answer},
        setting,
    )
