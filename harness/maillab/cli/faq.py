"""The executable FAQ on the command line: its entries, their scenarios and how they stand."""

from __future__ import annotations

import textwrap
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from maillab import faq as entries
from maillab import shards
from maillab.cli.output import print_json, print_table
from maillab.engine.images import SUITES
from maillab.errors import BadInput
from maillab.faq import Entry, Result, Scenario

_WIDTH = 88


def faq(arguments: Namespace) -> int:
    """List the entries, tell one, say what no scenario covers, or keep the durations."""
    if arguments.durations:
        return _keep_durations(Path(arguments.durations), [Path(one) for one in arguments.runs])
    chosen = [entries.entry(arguments.slug)] if arguments.slug else list(entries.entries().values())
    scenarios = entries.collect(Path(arguments.scenarios))
    if arguments.uncovered:
        return _uncovered(scenarios, [one.slug for one in chosen], as_json=arguments.json)
    known = _results([Path(folder) for folder in arguments.runs])
    if arguments.json:
        print_json([_as_json(one, scenarios, known) for one in chosen])
    elif arguments.slug:
        _tell(chosen[0], scenarios, known)
    else:
        head = ("", "ENTRY", "TOPOLOGY", "SCENARIOS", *SUITES)
        rows = [_row(one, scenarios, known) for one in chosen]
        if arguments.markdown:
            for row in (head, ["---"] * len(head), *rows):
                print(f"| {' | '.join(map(str, row))} |")
        else:
            print_table([head, *rows])
    return 0


def _results(runs: Sequence[Path]) -> dict[str, dict[str, Result]]:
    known: dict[str, dict[str, Result]] = {}
    for folder in runs:
        for test, of_test in entries.results(folder).items():
            known.setdefault(test, {}).update(of_test)
    return known


def _keep_durations(path: Path, runs: Sequence[Path]) -> int:
    """Write the median over the versions of what each test took."""
    known = _results(runs)
    if not known:
        raise BadInput(f"no results in {', '.join(map(str, runs))}: run pytest scenarios first")
    shards.record(
        path,
        {test: median(one.duration_s for one in each.values()) for test, each in known.items()},
    )
    print(f"{path}: {len(known)} tests")
    return 0


def _of(one: Entry, scenarios: Sequence[Scenario]) -> list[Scenario]:
    return [scenario for scenario in scenarios if scenario.covers(one.slug)]


def _row(
    one: Entry, scenarios: Sequence[Scenario], known: Mapping[str, Mapping[str, Result]]
) -> tuple[object, ...]:
    mine = _of(one, scenarios)
    standing = []
    for version in SUITES:
        ran = [known[each.id][version] for each in mine if version in known.get(each.id, {})]
        bad = sum(result.outcome != "passed" for result in ran)
        whole = "" if len(ran) == len(mine) else f" of {len(mine)}"
        standing.append("-" if not ran else f"{bad} bad" if bad else f"{len(ran)}{whole} ok")
    return one.number, one.slug, one.topology, len(mine), *standing


def _as_json(
    one: Entry, scenarios: Sequence[Scenario], known: Mapping[str, Mapping[str, Result]]
) -> dict[str, object]:
    return {
        "slug": one.slug,
        "title": one.title,
        "topology": one.topology,
        "scenarios": [
            {
                "id": each.id,
                "kind": each.kind,
                "claim": each.claim,
                "results": {v: r.outcome for v, r in known.get(each.id, {}).items()},
            }
            for each in _of(one, scenarios)
        ],
    }


def _tell(
    one: Entry, scenarios: Sequence[Scenario], known: Mapping[str, Mapping[str, Result]]
) -> None:
    mine = _of(one, scenarios)
    print(f"{one.number}. {one.title}  ({one.slug}, topology {one.topology})\n")
    # A scenario of another entry may be about this one, too.
    answers = dict.fromkeys(each.answer for each in mine if each.marks[-1][0] == one.slug)
    for answer in answers or dict.fromkeys(each.answer for each in mine):
        print(textwrap.indent(answer, "  ") + "\n")
    if not mine:
        print("  No scenario shows it yet.")
    told = ""
    for each in mine:
        name, _, variant = each.id.rpartition("::")[2].partition("[")
        results = known.get(each.id, {})
        standing = ", ".join(f"{version} {results[version].outcome}" for version in results)
        if name != told:
            bullets = ", ".join(b for mark in each.marks for b in mark[1:] if mark[0] == one.slug)
            print(
                textwrap.fill(f"{each.kind}: {each.claim}" + (bullets and f" ({bullets})"), _WIDTH)
            )
        told = name
        print(f"  {variant.rstrip(']') or name}: {standing or 'not run yet'}")
        for version, result in results.items():
            if result.evidence:
                print(f"    evidence of {version}: {result.evidence}")


def _uncovered(scenarios: Sequence[Scenario], slugs: Sequence[str], *, as_json: bool) -> int:
    left = {slug: b for slug, b in entries.uncovered(scenarios).items() if slug in slugs}
    if as_json:
        print_json([{"slug": slug, "bullets": dict(bullets)} for slug, bullets in left.items()])
        return 0
    rows = [
        (slug, number, text) for slug, bullets in left.items() for number, text in bullets.items()
    ]
    if rows:
        print_table(rows)
    else:
        print("every bullet has a scenario")
    return 0
