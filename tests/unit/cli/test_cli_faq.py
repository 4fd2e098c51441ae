"""``maillab faq``: the entries of the FAQ, their scenarios and results."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from maillab.cli import main
from maillab.site.changes import CHANGES
from maillab.suite import answers, catalogue, claims, results
from maillab.suite.answers import Answer
from maillab.suite.results import Result

SCENARIO = '''"""Mail for nobody.

The answer.

Why it is so.

Since the FAQ:
- 2.1: a setting.
"""
import pytest

pytestmark = pytest.mark.topology("firewall")


@pytest.mark.faq("firewall", "5a")
@pytest.mark.parametrize("value", ["one", "two"])
def test_symptom_it_breaks(value):
    """It breaks
    in two ways."""


@pytest.mark.faq("firewall", "5b")
@pytest.mark.heavy
def test_cure_it_works():
    """It works."""


def test_of_no_entry():
    """Not listed."""
'''
COMPARISON = '''"""Another question, compared.

Not the answer of this entry.
"""
import pytest

pytestmark = pytest.mark.topology("firewall")


@pytest.mark.faq("firewall", "5c")
def test_historic_it_was_so():
    """It was so."""
'''
TROUBLE = "postfix/smtp: to=<a@b.c>, relay=none, dsn=5.4.6, status=bounced (loops back to myself)"


def collected_modules() -> list[str]:
    """Return the names of the modules that pytest has imported from a folder "scenarios"."""
    return [name for name in sys.modules if name.partition(".")[0] == "scenarios"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with scenarios, one of which has run."""
    # A file of the same name may have been imported from the real folder.
    for name in collected_modules():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "test_firewall.py").write_text(SCENARIO)
    monkeypatch.setattr(answers, "shipped", dict)
    results.record(
        tmp_path / "runs",
        "3.7",
        {
            "scenarios/test_firewall.py::test_symptom_it_breaks[one]": Result("passed", 1.0),
            "scenarios/test_firewall.py::test_cure_it_works": Result(
                "void", 2.0, {"the mail": 1.5}, "runs/it"
            ),
        },
    )
    yield tmp_path
    for name in collected_modules():
        del sys.modules[name]


def output_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the output of a command, which must succeed."""
    assert main(["faq", *argv]) == 0
    return capsys.readouterr().out


def test_the_list_shows_the_results_of_each_entry(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each version has its counts."""
    (line,) = [line for line in output_of(capsys).splitlines() if " firewall " in line]

    assert line.split() == ["5", "firewall", "firewall", "3", "0", "-", "1", "bad", *"---"]


def test_results_of_several_runs_are_combined(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A workflow's summary combines the results of its matrix in this way."""
    test = "scenarios/test_firewall.py::test_cure_it_works"
    results.record(project / "other", "3.11", {test: Result("passed", 1.0)})

    text = output_of(capsys, "--markdown", "--runs", "runs", "other")

    assert text.splitlines()[1].startswith("| --- | --- |")
    assert "| 5 | firewall | firewall | 3 | 0 | - | 1 bad | - | - | 1 of 3 ok |" in text


def test_an_entry_is_shown_with_its_answer_and_its_evidence(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Claims, variants, bullets, results."""
    text = output_of(capsys, "firewall")

    assert "5. Running Postfix on a firewall" in text
    assert "\nANSWER\n  The answer.\n  Why it is so.\n" in text
    assert "\nSINCE THE FAQ\n  2.1: a setting.\n" in text
    assert "symptom: It breaks in two ways. (5a)\n  one: 3.7 passed\n  two: not run yet\n" in text
    assert "cure: It works. (5b)\n  test_cure_it_works: 3.7 void\n" in text
    assert "    evidence of 3.7: runs/it\n" in text


def test_changes_between_versions_that_the_entrys_files_show_are_printed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With their releases, from the table that the scenarios ask."""
    file = project / "scenarios" / "test_firewall.py"
    file.write_text(file.read_text() + '\ndef asks(lab):\n    lab.has("known_tcp_ports")\n')
    change = CHANGES["known_tcp_ports"]

    shown = " ".join(output_of(capsys, "firewall").split())

    assert f"2.1: a setting. 3.6.0: {change.after}. Before: {change.before}. EVIDENCE" in shown


@pytest.fixture
def proven(project: Path) -> Path:
    """The project, after runs on the default version that found settings and a log line."""
    steps = [
        ["firewall", "main.cf", "relay_domains = example.com"],
        ["firewall", "", "postfix reload"],
        ["inside", "/etc/postfix/x", "a\tb\n"],
    ]
    results.record(
        project / "runs",
        "3.10",
        {
            "scenarios/test_firewall.py::test_symptom_it_breaks[one]": Result(
                "passed", 1.0, log=[TROUBLE, "postfix/smtpd: reject: both have it"]
            ),
            "scenarios/test_firewall.py::test_cure_it_works": Result(
                "passed", 1.0, log=["postfix/smtpd: reject: both have it"], settings=steps
            ),
        },
    )
    results.record_contrasts(
        project / "runs", "3.10", "cures", {"scenarios/test_firewall.py::test_cure_it_works": "red"}
    )
    return project


def test_an_administrator_in_trouble_gets_the_log_line_and_the_settings(
    proven: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this order: log, answer, settings, changes, evidence."""
    text = output_of(capsys, "firewall")

    heads = ["IN THE LOG", "ANSWER", "SETTINGS, AS PROVEN", "SINCE THE FAQ", "EVIDENCE"]
    places = [text.index(f"\n{head}") for head in heads]
    assert places == sorted(places)
    assert "status=bounced (loops back to myself)" in " ".join(text.split())
    assert "both have it" not in text
    assert (
        "  It works.\n"
        "    on firewall:\n"
        "      main.cf:\n"
        "        relay_domains = example.com\n"
        "      $ postfix reload\n"
        "    on inside:\n"
        "      /etc/postfix/x:\n"
        "        a\tb\n"
    ) in text


def test_a_file_that_compares_entries_is_not_the_answer_of_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its scenarios are evidence all the same."""
    (project / "scenarios" / "test_comparison.py").write_text(COMPARISON)

    text = output_of(capsys, "firewall")

    assert "Not the answer of this entry" not in text
    assert "historic: It was so. (5c)" in text


def test_an_entry_without_a_file_of_its_name_has_the_answer_of_most_of_its_scenarios(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the entry about FreeBSD has."""
    (project / "scenarios" / "test_comparison.py").write_text(COMPARISON)
    (project / "scenarios" / "test_firewall.py").rename(project / "scenarios" / "test_other.py")

    text = output_of(capsys, "firewall")

    assert "  The answer.\n" in text
    assert "Not the answer of this entry" not in text


def test_a_log_line_finds_its_entry(proven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line is pasted as it is: with a prefix, ids and addresses of another site."""
    line = (
        "Nov 30 12:00:00 mx postfix/smtp[99]: 4F2A3B9: to=<x@corp.de>, relay=none, delay=1, "
        "delays=1/0/0/0, dsn=5.4.6, status=bounced (mail for corp.de loops back to myself)"
    )

    assert output_of(capsys, "--search", line).splitlines()[0].startswith("firewall  (")
    (first, *_) = json.loads(output_of(capsys, "--json", "--search", line))
    assert (first["slug"], first["line"]) == ("firewall", TROUBLE)


def test_a_line_of_nothing_known_is_an_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error says what to do instead; programs get an empty list."""
    assert main(["faq", "--search", "zzz"]) == 2
    assert "no scenario logs such a line; paste one whole line" in capsys.readouterr().err
    assert json.loads(output_of(capsys, "--json", "--search", "zzz")) == []


def test_claims_are_listed_with_their_proof(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one entry, or of all; counted by state."""
    known = [claim for claim in claims.claims() if claim.entry == "freebsd-processes"]
    reason = next(claim for claim in known if claim.state == "untestable")

    text = output_of(capsys, "--claims", "freebsd-processes")

    assert f"untestable: {reason.text}\n          ({reason.untestable})\n" in text
    assert text.splitlines()[-1].startswith(f"{len(known)} claims: ")
    assert output_of(capsys, "--claims").splitlines()[-1].startswith("207 claims: ")
    rows = json.loads(output_of(capsys, "--claims", "--json"))
    assert len(rows) == 207
    assert rows[0] == {
        "id": "1.1",
        "entry": "stand-alone",
        "text": claims.claims()[0].text,
        "state": claims.claims()[0].state,
        "scenarios": list(claims.claims()[0].scenarios),
        "remark": claims.claims()[0].remark,
    }


def test_the_share_of_scenarios_that_discriminate_is_printed(
    proven: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The share is printed for each entry and for the whole FAQ."""
    text = output_of(capsys)

    (line,) = [line for line in text.splitlines() if " firewall " in line]
    assert line.split()[3:5] == ["3", "1"]
    assert "\n1 of 1 scenarios judged (100 %) discriminate: " in text
    assert "\n2 scenarios are not judged yet" in text


def test_answers_of_a_run_are_written_over_those_of_the_file(
    proven: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scenarios that are gone leave it."""
    cure = "scenarios/test_firewall.py::test_cure_it_works"
    old = Answer(("kept",))
    answers.write(
        Path("answers.json"),
        {"scenarios/test_firewall.py::test_symptom_it_breaks[two]": old, "gone": old, cure: old},
    )

    assert output_of(capsys, "--answers", "answers.json") == "answers.json: 3 scenarios\n"

    known = answers.read(Path("answers.json"))
    assert known["scenarios/test_firewall.py::test_symptom_it_breaks[two]"] == old
    assert known[cure].settings[0].text == "relay_domains = example.com"
    assert known[cure].discriminates


def test_answers_of_no_run_on_the_default_version_are_an_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The project ran on 3.7 only; the file stays as it is. Contrasts alone are enough."""
    test = "scenarios/test_firewall.py::test_cure_it_works"
    answers.write(Path("answers.json"), {test: Answer(("kept",))})
    before = Path("answers.json").read_bytes()

    assert main(["faq", "--answers", "answers.json"]) == 2
    assert "no results on Postfix 3.10 in runs: run 'pytest scen" in capsys.readouterr().err
    assert Path("answers.json").read_bytes() == before

    results.record_contrasts(project / "runs", "3.7", "cures", {test: "red"})
    assert output_of(capsys, "--answers", "answers.json") == "answers.json: 1 scenarios\n"
    assert answers.read(Path("answers.json")) == {test: Answer(("kept",), discriminates=True)}


def test_programs_get_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other programs rely on this form."""
    entries = json.loads(output_of(capsys, "--json"))

    assert len(entries) == 50
    assert entries[4] == {
        "slug": "firewall",
        "title": "Running Postfix on a firewall",
        "topology": "firewall",
        "answer": "The answer.",
        "changes": ["2.1: a setting."],
        "log": [],
        "scenarios": [
            {
                "id": "scenarios/test_firewall.py::test_symptom_it_breaks[one]",
                "kind": "symptom",
                "claim": "It breaks in two ways.",
                "results": {"3.7": "passed"},
                "settings": [],
                "discriminates": None,
            },
            {
                "id": "scenarios/test_firewall.py::test_symptom_it_breaks[two]",
                "kind": "symptom",
                "claim": "It breaks in two ways.",
                "results": {},
                "settings": [],
                "discriminates": None,
            },
            {
                "id": "scenarios/test_firewall.py::test_cure_it_works",
                "kind": "cure",
                "claim": "It works.",
                "results": {"3.7": "void"},
                "settings": [],
                "discriminates": None,
            },
        ],
    }


def test_uncovered_bullets_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one entry, or of all."""
    assert json.loads(output_of(capsys, "firewall", "--uncovered", "--json")) == [
        {
            "slug": "firewall",
            "bullets": {
                number: text
                for number, text in catalogue.entry("firewall").bullets.items()
                if number not in ("5a", "5b")
            },
        }
    ]
    assert "5c" in output_of(capsys, "--uncovered")


def test_scenarios_that_cannot_be_collected_are_an_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error has pytest's own text; a missing folder is an error, too."""
    (project / "scenarios" / "test_bad.py").write_text("import nothing_of_that_name\n")

    assert main(["faq"]) == 2
    assert "No module named 'nothing_of_that_name'" in capsys.readouterr().err
    assert main(["faq", "--scenarios", "elsewhere"]) == 2
    assert "elsewhere: no folder of scenarios" in capsys.readouterr().err
