"""Where lines were broken, and what stood at the break. Pure.

Mail programs break at a blank. A terminal breaks at its width, inside a word, and its
copy may fill the rest of the line with blanks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

# Where mail programs break lines (RFC 5322 section 2.1.1, RFC 3676 section 4.2).
_BREAKS_BEHIND = 72
_TERMINAL_WIDTHS = {80, 100, 120, 132, 140, 160, 180, 200}
_FILLED = re.compile(r"[ \t]{20,}(?=\S)")
# What begins a word of its own.
_BEGINS = re.compile(
    r"[(<\[]|(?:to|orig_to|from|relay|delay|delays|dsn|status|size|nrcpt|proto|helo|client|uid"
    r"|sasl_\w+|conn_use|tls)=|\$|(?:permit|reject|check|defer|warn_if)_"
)


def without_filling(text: str) -> str:
    """Return a line without the blanks with which a terminal filled its width."""
    if " " * 20 not in text:
        return text
    pieces = _FILLED.split(text)
    joined = pieces[0]
    for before, piece in pairwise(pieces):
        joined += ("" if is_inside_a_word(len(before), before, piece) else " ") + piece
    return joined


def is_inside_a_word(width: int, before: str, after: str) -> bool:
    """Return True if a break after ``width`` characters is a terminal's, not at a blank."""
    if not before or not after or after[0].isspace() or before[-1].isspace():
        return False
    if after[0] == "_" or before[-1] in "_=":
        return True
    if width not in _TERMINAL_WIDTHS:
        return False
    return before[-1] not in ",;:)>" and not _BEGINS.match(after)


def joined(parts: Sequence[str], widths: Sequence[int]) -> str:
    """Return the text of lines that were one; ``widths`` are those of the terminal, or 0.

    A terminal breaks every line but the last at the same width.
    """
    at_one_width = len(set(widths[:-1])) == 1
    out = list(parts[:1])
    for width, before, after in zip(widths, parts, parts[1:], strict=False):
        inside = at_one_width and is_inside_a_word(width, before, after)
        out.append(after if inside else f" {after.strip()}")
    return "".join(out)


def was_broken(width: int, after: str, *, width_max: int = 80) -> bool:
    """Return True if the line of this width was broken before the line ``after``."""
    if width in _TERMINAL_WIDTHS:
        return True
    first = after.split(maxsplit=1)[0] if after.strip() else ""
    return width <= width_max and width + 1 + len(first) > _BREAKS_BEHIND
