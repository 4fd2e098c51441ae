"""Parts of a run for several machines, about equally long by the recorded durations.

Tests are sorted by topology, and each part is a slice of them. So the machines share few
topologies, and few labs are started twice.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from maillab.errors import BadInput

# A minimum, so that tests that took no time are distributed too.
_LEAST_S = 0.001


@dataclass(frozen=True)
class Shard:
    """The ``part``th of ``parts`` parts, counted from 1."""

    part: int
    parts: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/4``; raise BadInput."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise BadInput(f"--shard {text}: must be PART/PARTS, such as 2/4")
        return cls(int(found[1]), int(found[2]))

    def of(self, tests: Mapping[str, str], durations_s: Mapping[str, float]) -> set[str]:
        """Return the tests of this part; ``tests`` are topologies by test.

        Each test is in exactly one part, whatever the order. A test without a recorded
        duration counts as the median of the recorded ones.
        """
        usual_s = median(durations_s.values()) if durations_s else 1.0
        ordered = sorted(tests, key=lambda test: (tests[test], test))
        takes_s = [max(durations_s.get(test, usual_s), _LEAST_S) for test in ordered]
        share_s = sum(takes_s) / self.parts
        mine, before_s = set(), 0.0
        for test, own_s in zip(ordered, takes_s, strict=True):
            # By its middle, so that a test on a border goes to the part with more of it.
            if min(int((before_s + own_s / 2) / share_s), self.parts - 1) == self.part - 1:
                mine.add(test)
            before_s += own_s
        return mine


def durations(path: Path) -> dict[str, float]:
    """Return the seconds by test that ``record`` wrote; raise BadInput."""
    try:
        document: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return {test: _duration(took_s) for test, took_s in document.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadInput(
            f"{path}: not durations by test ({error}); 'maillab faq --durations {path}' makes it"
        ) from error


def _duration(given: float) -> float:
    took_s = float(given)
    if not 0 <= took_s < math.inf:
        raise ValueError(f"{given!r} is no duration")
    return took_s


def record(path: Path, durations_s: Mapping[str, float]) -> None:
    """Write durations in tenths of a second, one a line, so that diffs are small."""
    rounded = {test: round(took_s, 1) for test, took_s in sorted(durations_s.items())}
    path.write_text(json.dumps(rounded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
