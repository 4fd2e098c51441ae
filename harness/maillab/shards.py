"""Parts of a run for several machines, of one length by the durations on record.

A part is a stretch of the tests in the order of their topologies: machines then
share few topologies, and few labs are started twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from maillab.errors import BadInput

# So that tests that took no time at all are shared out, too.
_LEAST_S = 0.001


@dataclass(frozen=True)
class Shard:
    """The ``part``th of ``parts`` parts, counted from 1."""

    part: int
    parts: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/4``; raises BadInput."""
        found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise BadInput(f"--shard {text}: write it as 2/4, the second of four parts")
        return cls(int(found[1]), int(found[2]))

    def of(self, tests: Mapping[str, str], durations_s: Mapping[str, float]) -> set[str]:
        """The tests of this part; ``tests`` are topologies by test.

        Whatever their order, each is in one part, and in one alone. A test that is not
        on record counts as the median of those that are.
        """
        usual_s = median(durations_s.values()) if durations_s else 1.0
        ordered = sorted(tests, key=lambda test: (tests[test], test))
        takes_s = [max(durations_s.get(test, usual_s), _LEAST_S) for test in ordered]
        share_s = sum(takes_s) / self.parts
        mine, before_s = set(), 0.0
        for test, own_s in zip(ordered, takes_s, strict=True):
            # By its middle, so that what stands on a border goes where more of it is.
            if min(int((before_s + own_s / 2) / share_s), self.parts - 1) == self.part - 1:
                mine.add(test)
            before_s += own_s
        return mine


def durations(path: Path) -> dict[str, float]:
    """Seconds by test, as ``record`` left them; raises BadInput."""
    try:
        document: dict[str, float] = json.loads(path.read_text())
        return {test: float(took_s) for test, took_s in document.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: not durations by test ({error}); 'maillab faq --durations {path}' makes it"
        ) from error


def record(path: Path, durations_s: Mapping[str, float]) -> None:
    """Write durations down, in tenths of a second: a line each, for small differences."""
    rounded = {test: round(took_s, 1) for test, took_s in sorted(durations_s.items())}
    path.write_text(json.dumps(rounded, indent=1, ensure_ascii=False) + "\n")
