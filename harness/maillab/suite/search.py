"""The FAQ's entry for a log line, as an administrator pastes it. Pure.

A line becomes words without the names of one site: no time, host, process id, queue id,
address or number is left. Entries are then ranked by the words and pairs of words that
a line of theirs has in common with it; a rare pair counts more than a common one.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maillab.mail.maillog import QUEUE_ID

# Below this, what two lines share is chance.
_LIKENESS_MIN = 0.2
_NAMES = (
    # The prefix of syslog, and of journalctl; then the queue id.
    re.compile(r"^<\d+>"),
    re.compile(r"^(?:[A-Z][a-z]{2} +\d+ [\d:]+|\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?) "),
    re.compile(r"^\S+ (?=postfix\S*\[)"),
    re.compile(r"(?<=postfix)/(?=\w)"),
    re.compile(r"\[\d+\]:"),
    re.compile(rf"\b(?:NOQUEUE|QUEUE-ID|{QUEUE_ID}):"),
    re.compile(r"<[^<>]*>"),
    re.compile(r"\[[0-9a-fA-F.:]+\](?::\d+)?"),
    re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"),
    re.compile(r"\b[\w+-]+@[\w.-]+"),
    re.compile(r"\b(?:delays?|conn_use|pid|uid|size|nrcpt|message-id)=[\w./<>@]*,?"),
    re.compile(r"(?<![/\w.-])(?:[\w-]+\.)+(?=[a-z])[a-z]{2,}\b(?!/)"),
)
_WORD = re.compile(r"\d\.\d\.\d+|\b[45]\d\d\b|[a-z_][\w-]+")


@dataclass(frozen=True)
class Found:
    """An entry, the line of it that is most like the one asked for, and how like: 0 to 1."""

    slug: str
    line: str
    likeness: float


def find(pasted: str, lines: Mapping[str, Sequence[str]]) -> list[Found]:
    """Return the entries that have a line like this one, best first."""
    known = [(slug, line, _features(line)) for slug, of in lines.items() for line in of]
    common = Counter(feature for _, _, features in known for feature in features)
    asked = _features(pasted)

    def weight(feature: tuple[str, ...]) -> float:
        return math.log(1 + len(known) / (1 + common[feature])) * len(feature)

    def size(features: frozenset[tuple[str, ...]]) -> float:
        return math.sqrt(sum(weight(feature) ** 2 for feature in features))

    best: dict[str, Found] = {}
    for slug, line, features in known:
        shared = sum(weight(feature) ** 2 for feature in asked & features)
        likeness = shared / ((size(asked) * size(features)) or 1)
        if likeness >= _LIKENESS_MIN and likeness > (best[slug].likeness if slug in best else 0):
            best[slug] = Found(slug, line, round(likeness, 3))
    return sorted(best.values(), key=lambda found: -found.likeness)


def words(line: str) -> list[str]:
    """Return the words of a line that any site could log."""
    text = line.strip()
    for name in _NAMES:
        text = name.sub(" ", text).strip()
    return _WORD.findall(text.lower())


def _features(line: str) -> frozenset[tuple[str, ...]]:
    of = words(line)
    return frozenset([*((word,) for word in of), *itertools.pairwise(of)])
