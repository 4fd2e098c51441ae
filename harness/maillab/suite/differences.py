"""The changes of ``maillab.site.changes``, each with the scenarios that show it.

A scenario shows a change if its file asks for it: ``lab.has("…")``.
"""

from __future__ import annotations

import ast
from pathlib import Path


def shown(folder: Path) -> dict[str, list[str]]:
    """Return the files below a folder that ask for a change, by the change's name."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for name in sorted(_asked_for(path.read_text(encoding="utf-8"))):
            found.setdefault(name, []).append(path.relative_to(folder).as_posix())
    return found


def _asked_for(source: str) -> set[str]:
    return {
        argument.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "has"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
