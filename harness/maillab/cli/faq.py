"""The executable FAQ on the command line: its entries, claims and scenarios."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from maillab.cli import faqentry
from maillab.cli.arguments import Add
from maillab.cli.faqentry import Known
from maillab.cli.output import print_json, print_table
from maillab.errors import BadInput
from maillab.site.versions import DEFAULT, SUITES
from maillab.suite import (
    answers,
    catalogue,
    claims,
    collection,
    differences,
    results,
    search,
    shards,
)
from maillab.suite.answers import Answer
from maillab.suite.catalogue import Entry
from maillab.suite.collection import Scenario
from maillab.suite.results import Result

_FOUND_MAX = 5


def register(add: Add) -> None:
    """Declare the commands of this family and their arguments."""
    parser = add(
        faq,
        "maillab faq mx-greetings",
        details="With ENTRY: the log lines to look for, today's answer, the settings to paste, "
        "what has changed since the FAQ, and each scenario's claim and results by version.",
        json='[{"slug", "title", "topology", "answer", "changes", "log", "scenarios": [{"id", '
        '"kind": "symptom|cure|behaviour|historic", "claim", "results": {"3.10": "passed", …}, '
        '"settings": [{"host", "place", "text"}], "discriminates": true|false|null}]}]; --search: '
        '[{"slug", "line", "likeness"}]; --claims: [{"id", "entry", "text", "state", '
        '"scenarios", "remark"}]',
    )
    parser.add_argument(
        "slug", metavar="ENTRY", nargs="?", default="", help="slug or number of an entry"
    )
    parser.add_argument(
        "--search", metavar="LINE", help="find the entry that a log line belongs to"
    )
    parser.add_argument(
        "--claims",
        action="store_true",
        help="list what the FAQ states, with the scenarios that prove each claim",
    )
    parser.add_argument(
        "--uncovered",
        action="store_true",
        help="list the catalogue's bullets that no scenario covers",
    )
    parser.add_argument(
        "--scenarios",
        metavar="DIR",
        default="",
        help="folder of scenarios (default: ./scenarios, else those in the package)",
    )
    parser.add_argument(
        "--runs",
        metavar="DIR",
        nargs="+",
        default=["runs"],
        help="folders with results (default: runs)",
    )
    parser.add_argument(
        "--durations", metavar="FILE", help="write the duration of each test, for pytest --shard"
    )
    parser.add_argument(
        "--answers", metavar="FILE", help="write the log lines and settings of the results"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the list as a Markdown table"
    )


def faq(arguments: Namespace) -> int:
    """List the FAQ's entries, claims or gaps, answer one entry, or find it by a log line."""
    runs = [Path(folder) for folder in arguments.runs]
    if arguments.durations:
        return _keep_durations(Path(arguments.durations), runs)
    chosen = (
        [catalogue.entry(arguments.slug)] if arguments.slug else list(catalogue.entries().values())
    )
    scenarios = collection.scenarios(arguments.scenarios)
    if arguments.answers:
        return _keep_answers(Path(arguments.answers), runs, scenarios)
    if arguments.uncovered:
        return _uncovered(scenarios, [entry.slug for entry in chosen], as_json=arguments.json)
    if arguments.claims:
        return _claims([entry.slug for entry in chosen], arguments)
    shown = differences.shown(collection.folder_of(arguments.scenarios))
    known = Known(scenarios, _results(runs), _answers(runs), shown)
    if arguments.search is not None:
        return _search(arguments.search, known, as_json=arguments.json)
    if arguments.json:
        print_json([faqentry.as_json(entry, known) for entry in chosen])
    elif arguments.slug:
        faqentry.show(chosen[0], known)
    else:
        _list(chosen, known, markdown=arguments.markdown)
    return 0


def _list(chosen: Sequence[Entry], known: Known, *, markdown: bool) -> None:
    head = ("", "ENTRY", "TOPOLOGY", "SCENARIOS", "DISCRIMINATE", *SUITES)
    rows = [_row(entry, known) for entry in chosen]
    if markdown:
        for row in (head, ["---"] * len(head), *rows):
            print(f"| {' | '.join(map(str, row))} |")
        return
    print_table([head, *rows])
    judged = [known.discriminates(each) for each in known.scenarios]
    sharp, left = judged.count(True), judged.count(None)
    if sharp:
        share = f"{100 * sharp / (len(judged) - left):.0f} %"
        print(
            f"\n{sharp} of {len(judged) - left} scenarios judged ({share}) discriminate: they turn "
            "red when their cure, mistake or fault is left out"
        )
        if left:
            print(f"{left} scenarios are not judged yet: run 'make withhold', then 'make answers'")


def _search(line: str, known: Known, *, as_json: bool) -> int:
    found = search.find(line, known.lines())[:_FOUND_MAX]
    if as_json:
        print_json([vars(match) for match in found])
    elif not found:
        raise BadInput(
            "no scenario logs such a line; paste one whole line of a Postfix log, "
            "or read the list: maillab faq"
        )
    else:
        for match in found:
            print(f"{match.slug}  ({match.likeness:.0%} alike)\n    {match.line}")
        print(f"\nmaillab faq {found[0].slug}")
    return 0


def _claims(slugs: Sequence[str], arguments: Namespace) -> int:
    chosen = [claim for claim in claims.claims() if claim.entry in slugs]
    if arguments.json:
        print_json(
            [
                {
                    "id": claim.id,
                    "entry": claim.entry,
                    "text": claim.text,
                    "state": claim.state,
                    "scenarios": list(claim.scenarios),
                    "remark": claim.remark,
                }
                for claim in chosen
            ]
        )
        return 0
    entry = ""
    for claim in chosen:
        if claim.entry != entry:
            print(f"\n{claim.entry}")
        entry = claim.entry
        print(f"  {claim.id:5} {claim.state}: {claim.text}")
        for name in claim.scenarios:
            print(f"          {name}")
        if claim.remark and claim.state != "missing":
            print(f"          ({claim.remark})")
    count = Counter(claim.state for claim in chosen)
    print(f"\n{len(chosen)} claims: {', '.join(f'{count[s]} {s}' for s in claims.STATES)}")
    return 0


def _results(runs: Sequence[Path]) -> dict[str, dict[str, Result]]:
    known: dict[str, dict[str, Result]] = {}
    for folder in runs:
        for test, of_test in results.read(folder).items():
            known.setdefault(test, {}).update(of_test)
    return known


def _answers(runs: Sequence[Path]) -> dict[str, Answer]:
    """Return the answers that come with the package, and over them those of the runs."""
    fresh = answers.of_results(_results(runs), DEFAULT)
    return answers.with_contrasts(answers.renewed(answers.shipped(), fresh), _contrasts(runs))


def _contrasts(runs: Sequence[Path]) -> dict[str, dict[str, set[results.Contrast]]]:
    """Return how each scenario ended in withholding runs, by what was withheld."""
    known: dict[str, dict[str, set[results.Contrast]]] = {}
    for folder in runs:
        for test, by_version in results.contrasts(folder).items():
            for ends in by_version.values():
                for withheld, end in ends.items():
                    known.setdefault(test, {}).setdefault(withheld, set()).add(end)
    return known


def _keep_durations(path: Path, runs: Sequence[Path]) -> int:
    """Write the median duration of each test over the versions."""
    known = _results(runs)
    if not known:
        raise BadInput(f"no results in {', '.join(map(str, runs))}: run 'pytest scenarios' first")
    shards.record(
        path,
        {
            test: median(result.duration_s for result in by_version.values())
            for test, by_version in known.items()
        },
    )
    print(f"{path}: {len(known)} test{'s'[: len(known) != 1]}")
    return 0


def _keep_answers(path: Path, runs: Sequence[Path], scenarios: Sequence[Scenario]) -> int:
    """Write the answers of the runs over those of the file; drop tests that are gone."""
    fresh, contrasts = answers.of_results(_results(runs), DEFAULT), _contrasts(runs)
    if not fresh and not contrasts:
        raise BadInput(
            f"no results on Postfix {DEFAULT} in {', '.join(map(str, runs))}: "
            "run 'pytest scenarios' first"
        )
    there = {each.id for each in scenarios}
    known = answers.renewed(answers.read(path), fresh)
    known = answers.with_contrasts(known, contrasts)
    kept = {test: answer for test, answer in known.items() if test in there}
    answers.write(path, kept)
    print(f"{path}: {len(kept)} scenarios")
    return 0


def _row(entry: Entry, known: Known) -> tuple[object, ...]:
    mine = known.of(entry)
    standing = []
    for version in SUITES:
        of_version = [known.results.get(each.id, {}).get(version) for each in mine]
        ran = [result for result in of_version if result]
        bad = sum(result.outcome != "passed" for result in ran)
        whole = "" if len(ran) == len(mine) else f" of {len(mine)}"
        standing.append("-" if not ran else f"{bad} bad" if bad else f"{len(ran)}{whole} ok")
    sharp = sum(bool(known.discriminates(each)) for each in mine)
    return entry.number, entry.slug, entry.topology, len(mine), sharp, *standing


def _uncovered(scenarios: Sequence[Scenario], slugs: Sequence[str], *, as_json: bool) -> int:
    left: Mapping[str, Mapping[str, str]] = {
        slug: b for slug, b in collection.uncovered(scenarios).items() if slug in slugs
    }
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
