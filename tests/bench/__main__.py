"""Speed, as ratios measured in one run; ``make bench``. No test asserts a time.

Writes ``runs/bench.json``: each figure is a median unless its name says p95, its
spread (least, median, most) beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import faq, faults, images, lab, load
from maillab.engine.images import VERSION_DEFAULT, ensure

REACH = {
    "cold_start_ratio": 1.5,
    "reset_ms": 150.0,
    "command_ratio": 0.2,
    "event_p95_ms": 20.0,
    "faq_wall_s": 120.0,
    "faq_not_passed": 0.0,
    "images_from_nothing_s": 120.0,
    "load_kb_a_session": 100.0,
}
AT_LEAST = {"load_vs_smtp_source_postfix": 0.9}
Figure = tuple[str, list[float]]
PARTS: dict[str, Callable[[str], Iterable[Figure]]] = {
    "lab": lab.measure,
    "faults": faults.measure,
    "load": load.measure,
    "faq": faq.measure,
    "images": images.measure,
}


def main() -> None:
    """Measure, print, write; ends with 1 when a figure was missed."""
    options = argparse.ArgumentParser(prog="bench", description=__doc__)
    options.add_argument("--postfix", default=VERSION_DEFAULT, help="the version")
    options.add_argument(
        "parts", nargs="*", choices=[[], *PARTS], help=f"which of {', '.join(PARTS)} (all)"
    )
    given = options.parse_args()
    ensure([given.postfix])
    path = Path("runs/bench.json")
    report = json.loads(path.read_text()) if path.is_file() else {}
    missed = 0
    for part in given.parts or PARTS:
        print(f"\n{part}", flush=True)
        for name, runs in PARTS[part](given.postfix):
            missed += tell(name, runs, report)
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(bool(missed))


def tell(name: str, runs: list[float], report: dict[str, object]) -> bool:
    """Print a figure and put it into the report; whether it was to be reached and was not."""
    runs.sort()
    low, middle, high = runs[0], statistics.median(runs), runs[-1]
    value = runs[int(len(runs) * 0.95)] if "p95" in name else middle
    report[name] = round(value, 3)
    report[f"{name}_spread"] = [round(run, 3) for run in (low, middle, high)]
    most, least = REACH.get(name), AT_LEAST.get(name)
    missed = (most is not None and value > most) or (least is not None and value < least)
    aim = "" if most is None else f"≤ {most:g}"
    aim = aim if least is None else f"≥ {least:g}"
    aim = aim and f"{aim}: {'MISSED' if missed else 'reached'}; "
    print(
        f"  {name:34} {value:9.3f}  "
        f"({aim}min {low:.3f}, median {middle:.3f}, max {high:.3f}, {len(runs)} runs)",
        flush=True,
    )
    return missed


if __name__ == "__main__":
    main()
