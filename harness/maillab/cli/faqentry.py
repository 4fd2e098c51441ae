"""One entry of the FAQ on the terminal: for an administrator in trouble."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maillab.scenario.advice import Advice
from maillab.site.changes import CHANGES
from maillab.suite import answers, docstring
from maillab.suite.answers import Answer
from maillab.suite.catalogue import Entry, entries
from maillab.suite.collection import Scenario
from maillab.suite.docstring import Parts
from maillab.suite.results import Result

_WIDTH = 88
_LINES_MAX = 8


@dataclass(frozen=True)
class Known:
    """The data that the FAQ's pages are made from."""

    scenarios: Sequence[Scenario]
    results: Mapping[str, Mapping[str, Result]]
    answers: Mapping[str, Answer]
    # The changes between versions, each with the files whose scenarios show it.
    differences: Mapping[str, Sequence[str]]

    def of(self, entry: Entry) -> list[Scenario]:
        """Return the scenarios of an entry."""
        return [scenario for scenario in self.scenarios if scenario.covers(entry.slug)]

    def answer(self, scenario: Scenario) -> Answer:
        """Return what a scenario showed, as far as it is known."""
        return self.answers.get(scenario.id, Answer())

    def discriminates(self, scenario: Scenario) -> bool | None:
        """Return True if the scenario turned red in a withholding run; None if unknown."""
        return self.answer(scenario).discriminates

    def log(self, entry: Entry) -> list[str]:
        """Return the log lines of an entry's symptoms that its cures do not have."""
        mine = self.of(entry)
        trouble = [self.answer(each) for each in mine if each.kind == "symptom"]
        return answers.only_in_trouble(
            trouble, [self.answer(each) for each in mine if each.kind == "cure"]
        )

    def changes(self, entry: Entry) -> list[str]:
        """Return what has changed since the FAQ, and between the versions that are run."""
        own = own_files(entry, self.of(entry))
        since = [change for text in own.values() for change in docstring.parts(text).changes]
        names = {file.rpartition("/")[2] for file in own}
        return since + [
            f"{change.first}: {change.after}. Before: {change.before}."
            for name, change in CHANGES.items()
            if names & {file.rpartition("/")[2] for file in self.differences.get(name, ())}
        ]

    def lines(self) -> dict[str, list[str]]:
        """Return for each entry what a search looks through: log lines, title and claims."""
        return {
            slug: [
                *self.log(entry),
                entry.title,
                *(each.claim for each in self.of(entry) if each.kind == "symptom"),
            ]
            for slug, entry in entries().items()
        }


def own_files(entry: Entry, mine: Sequence[Scenario]) -> dict[str, str]:
    """Return the entry's own files and their docstrings, its main file first.

    A file that compares several entries answers none of them. An entry without a file of
    its name shares the file that most of its scenarios are in.
    """
    name = f"test_{entry.slug.replace('-', '_')}"
    files = {each.id.partition("::")[0]: each.answer for each in mine}
    own = [file for file in files if file.rpartition("/")[2].startswith(name)]
    if not own:
        count = Counter(each.id.partition("::")[0] for each in mine)
        own = [file for file, _ in count.most_common(1)]
    return {file: files[file] for file in sorted(own, key=len)}


def _parts_of(entry: Entry, mine: Sequence[Scenario]) -> list[Parts]:
    return [docstring.parts(text) for text in own_files(entry, mine).values()]


def as_json(entry: Entry, known: Known) -> dict[str, object]:
    """Return an entry for programs."""
    mine = known.of(entry)
    own = _parts_of(entry, mine)
    return {
        "slug": entry.slug,
        "title": entry.title,
        "topology": entry.topology,
        "answer": own[0].short if own else "",
        "changes": known.changes(entry),
        "log": known.log(entry),
        "scenarios": [
            {
                "id": each.id,
                "kind": each.kind,
                "claim": each.claim,
                "results": {v: r.outcome for v, r in known.results.get(each.id, {}).items()},
                "settings": [vars(step) for step in _settings(each, known)],
                "discriminates": known.discriminates(each),
            }
            for each in mine
        ],
    }


def show(entry: Entry, known: Known) -> None:
    """Print an entry: log lines, answer, settings, changes, evidence."""
    mine = known.of(entry)
    print(f"{entry.number}. {entry.title}  ({entry.slug}, topology {entry.topology})")
    if not mine:
        print("\n  No scenarios yet.")
        return
    own = _parts_of(entry, mine)
    if log := known.log(entry):
        print("\nIN THE LOG")
        for line in log[:_LINES_MAX]:
            print(textwrap.fill(line, _WIDTH, initial_indent="  ", subsequent_indent="      "))
    print("\nANSWER")
    for number, each in enumerate(own):
        if number:
            print("\n" + textwrap.indent(each.question, "  "))
        for paragraph in (each.short, *each.more):
            print(textwrap.indent(textwrap.fill(paragraph, _WIDTH - 2), "  "))
    _show_settings(mine, known)
    if changes := known.changes(entry):
        print("\nSINCE THE FAQ")
        for change in changes:
            print(textwrap.fill(change, _WIDTH, initial_indent="  ", subsequent_indent="      "))
    print("\nEVIDENCE")
    _show_evidence(entry, mine, known)


def _settings(scenario: Scenario, known: Known) -> Sequence[Advice]:
    return known.answer(scenario).settings if scenario.kind == "cure" else ()


def _show_settings(mine: Sequence[Scenario], known: Known) -> None:
    """Print the steps of each cure; variants of one cure that do the same appear once."""
    printed: set[tuple[str, Sequence[Advice]]] = set()
    for each in mine:
        steps = tuple(_settings(each, known))
        if not steps or (each.claim, steps) in printed:
            continue
        if not printed:
            print(f"\nSETTINGS, AS PROVEN  ({answers.NETWORK}.x is the lab's network)")
        printed.add((each.claim, steps))
        _, bracket, variant = each.id.rpartition("::")[2].partition("[")
        of_variant = f" {bracket}{variant}" if variant else ""
        print(textwrap.indent(textwrap.fill(each.claim + of_variant, _WIDTH - 2), "  "))
        host = ""
        for step in steps:
            if step.host != host:
                print(f"    on {step.host}:")
            host = step.host
            if step.place:
                print(f"      {step.place}:")
                print(textwrap.indent(step.text.rstrip("\n"), " " * 8))
            else:
                print(f"      $ {step.text}")


def _show_evidence(entry: Entry, mine: Sequence[Scenario], known: Known) -> None:
    shown = ""
    for each in mine:
        name, _, variant = each.id.rpartition("::")[2].partition("[")
        ran = known.results.get(each.id, {})
        standing = ", ".join(f"{version} {result.outcome}" for version, result in ran.items())
        if name != shown:
            bullets = ", ".join(b for mark in each.marks for b in mark[1:] if mark[0] == entry.slug)
            print(
                textwrap.fill(f"{each.kind}: {each.claim}" + (bullets and f" ({bullets})"), _WIDTH)
            )
        shown = name
        print(f"  {variant.rstrip(']') or name}: {standing or 'not run yet'}")
        for version, result in ran.items():
            if result.evidence:
                print(f"    evidence of {version}: {result.evidence}")
