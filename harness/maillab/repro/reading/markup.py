"""Physical lines of a paste, without what mail programs, Markdown and terminals add. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

_QUOTED = re.compile(r"^(?:[ \t]*>)+ ?")
_COLOURS = re.compile(r"\x1b\[[\d;]*[A-Za-z]|\^\[\[[\d;]*m")
_TAGS = re.compile(
    r"</?(?:details|summary|pre|code|p|br|div|span|b|i|tt|blockquote)(?:\s[^<>]{0,200})?/?>",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\s*(?:```|~~~)[\w+-]*\s*")
# A fence that opens or closes on the line of its text.
_FENCED = re.compile(r"```|~~~")
_BLANKS = str.maketrans(
    {
        "\u00a0": " ",
        "\u2007": " ",
        "\u202f": " ",
        "\ufeff": "",
        "\u200b": "",
        "\u201c": '"',
        "\u201d": '"',
        "\u2018": "'",
        "\u2019": "'",
    }
)


@dataclass(frozen=True)
class Line:
    """One physical line: its number from 1, its text without markup, and its raw width.

    ``is_break`` if the line is empty or the fence of a code block.
    """

    number: int
    text: str
    width: int
    is_break: bool = False
    is_fence: bool = False
    is_quoted: bool = False

    @property
    def terminal_width(self) -> int:
        """The width at which a terminal may have broken the line; 0 for a line of a mail."""
        return 0 if self.is_quoted else self.width

    @property
    def indent(self) -> int:
        """The number of blanks in front of the text."""
        return len(self.text) - len(self.text.lstrip())


def lines_of(text: str) -> Iterator[Line]:
    """Yield the physical lines of a paste."""
    for number, raw in enumerate(re.split(r"\r\n|[\n\r\v\f]", text), 1):
        plain = _COLOURS.sub("", raw) if "[" in raw else raw
        if not plain.isascii():
            plain = plain.translate(_BLANKS)
        width = len(plain.rstrip())
        is_quoted = ">" in plain and _QUOTED.match(plain) is not None
        if is_quoted:
            plain = _QUOTED.sub("", plain)
        if _FENCE.fullmatch(plain):
            yield Line(number, "", width, is_break=True, is_fence=True)
            continue
        if "```" in plain or "~~~" in plain:
            plain = _FENCED.sub("", plain)
        if "<" in plain and _TAGS.search(plain):
            plain = _TAGS.sub("", plain)
        if "&" in plain:
            plain = html.unescape(plain)
        plain = _without_backquotes(plain.rstrip())
        yield Line(number, plain, width, is_break=not plain.strip(), is_quoted=is_quoted)


def _without_backquotes(text: str) -> str:
    """Return a line without backquotes around all of it, or at one end."""
    bare = text.strip()
    if bare.count("`") == 1 and (bare[0] == "`" or bare[-1] == "`"):
        return text.replace("`", "")
    if len(bare) > 1 and bare[0] == bare[-1] == "`" and bare.count("`") == 2:  # noqa: PLR2004  # a pair
        return text.replace("`", "")
    return text
