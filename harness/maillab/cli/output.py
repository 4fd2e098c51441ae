"""The two forms of output: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence


def print_json(answer: object) -> None:
    """Print JSON for programs."""
    print(json.dumps(answer, indent=2))


def print_table(rows: Iterable[Sequence[object]], indent: str = "") -> None:
    """Print rows with their columns aligned."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"{indent}{'  '.join(cells)}".rstrip())
