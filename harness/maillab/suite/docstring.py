"""The parts of an answer, as a scenario file's docstring has them. Pure.

The first line is the question, the next paragraph the answer. A list under "Since the
FAQ:" names what changed, each with the release; the rest is explanation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CHANGES = "Since the FAQ:"
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[A-Z\"(])")


@dataclass(frozen=True)
class Parts:
    """An answer's question, its short form, what changed since the FAQ, and the rest."""

    question: str
    short: str
    changes: tuple[str, ...]
    more: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """Return the sentences of the short answer."""
        return _SENTENCE_END.split(self.short)


def parts(docstring: str) -> Parts:
    """Return the parts of a module's docstring."""
    question, *paragraphs = docstring.strip().split("\n\n")
    changes: list[str] = []
    texts = []
    for paragraph in paragraphs:
        if paragraph.startswith(_CHANGES):
            changes += re.split(r"\n- ", paragraph.removeprefix(_CHANGES))[1:]
        else:
            texts.append(_joined(paragraph))
    short, *more = texts or [""]
    return Parts(_joined(question), short, tuple(map(_joined, changes)), tuple(more))


def _joined(text: str) -> str:
    return " ".join(text.split())
