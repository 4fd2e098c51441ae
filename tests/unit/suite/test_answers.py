"""The log lines and settings of scenarios, as the FAQ's pages show them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from maillab.errors import BadInput
from maillab.mail import maillog
from maillab.mail.history import History
from maillab.scenario.advice import Advice
from maillab.site import resources
from maillab.suite import answers, collection
from maillab.suite.answers import Answer
from maillab.suite.results import Result

LOG = """\
Nov 30 12:00:00 mail postfix/smtpd[7]: connect from client.example.net[198.18.7.40]
Nov 30 12:00:00 mail postfix/smtpd[7]: NOQUEUE: reject: RCPT from client.example.net[198.18.7.40]: \
454 4.7.1 <joe@example.net>: Relay access denied; from=<b@c.d> to=<joe@example.net> proto=ESMTP \
helo=<c>
Nov 30 12:00:01 mail postfix/smtp[8]: ABCDEF12: to=<alice@example.org>, \
relay=primary.example.org[198.18.7.20]:25, delay=0.1, delays=0.1/0/0/0, dsn=4.0.0, \
status=deferred (host primary.example.org[198.18.7.20] refused to talk to me: 421 busy)
Nov 30 12:00:02 mail postfix/smtp[9]: ABCDEF12: to=<alice@example.org>, \
relay=primary.example.org[198.18.7.20]:25, delay=1.1, delays=0.1/0/1/0, dsn=4.0.0, \
status=deferred (host primary.example.org[198.18.7.20] refused to talk to me: 421 busy)
Nov 30 12:00:03 mail postfix/smtp[9]: ABCDEF12: to=<alice@example.org>, \
relay=primary.example.org[198.18.7.20]:25, delay=2, delays=0.1/0/1/0, dsn=2.0.0, \
status=sent (250 2.0.0 Ok: queued as 123456AB)
Nov 30 12:00:04 mail postfix/master[1]: warning: process /usr/lib/postfix/sbin/smtp pid 9 exit \
status 1
"""
HISTORY = History(
    tuple(
        maillog.parse(line, host="mail", seq=number)
        for number, line in enumerate(LOG.splitlines(), 1)
    )
)


def test_the_log_of_a_scenario_is_what_went_wrong_without_the_names_of_one_run() -> None:
    """Refusals, complaints, failed attempts; each once."""
    assert answers.log_of(HISTORY, "198.18.7") == [
        (
            "postfix/smtpd: reject: RCPT from client.example.net[192.0.2.40]: 454 4.7.1 "
            "<joe@example.net>: Relay access denied; from=<b@c.d> to=<joe@example.net> proto=ESMTP "
            "helo=<c>"
        ),
        (
            "postfix/smtp: to=<alice@example.org>, relay=primary.example.org[192.0.2.20]:25, "
            "dsn=4.0.0, status=deferred (host primary.example.org[192.0.2.20] refused to talk to "
            "me: 421 busy)"
        ),
        "postfix/master: warning: process /usr/lib/postfix/sbin/smtp PID exit status 1",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("relayhost = [198.18.7.2]", "relayhost = [192.0.2.2]"),
        ("postsuper -d ABCDEF12", "postsuper -d QUEUE-ID"),
        ("postsuper -d 123456AB", "postsuper -d QUEUE-ID"),
        ("mv deferred/A/ABCDEF12 maildrop/", "mv deferred/?/QUEUE-ID maildrop/"),
        (
            "lmtp(alice@b.test)<80><tyO5J+en/WsdAQAAMHBLgg:T2>: sieve: discard",
            "lmtp(alice@b.test)<PID><SESSION>: sieve: discard",
        ),
        ("x\n-----BEGIN A KEY-----\nab\n-----END A KEY-----\ny", "x\n(PEM)\ny"),
        ("AA:" * 31 + "AA joe", "FINGERPRINT joe"),
        (("Q" * 76 + "\n") * 3 + "Qg==\n", "(base64)\n"),
        ("content_filter = scan:[198.18.7.5]:10025", "content_filter = scan:[192.0.2.5]:10025"),
        ("smtp inet n - n - 2 smtpd", "smtp inet n - n - 2 smtpd"),
    ],
)
def test_settings_have_no_names_of_one_run(text: str, shown: str) -> None:
    """Otherwise each run would give other settings."""
    steps = answers.settings_of([Advice("mail", "main.cf", text)], HISTORY, "198.18.7")

    assert steps == [Advice("mail", "main.cf", shown)]


def test_answers_come_back_as_they_were_written(tmp_path: Path) -> None:
    """One scenario a line; a scenario that shows nothing has none."""
    file = tmp_path / "answers.json"
    known = {
        "b": Answer(("a line",), (Advice("mail", "main.cf", "a = b"),), discriminates=True),
        "a": Answer(settings=(Advice("mail", "", "postfix réload"),)),
    }

    answers.write(file, known | {"c": Answer()})

    assert answers.read(file) == known
    assert [line[:3] for line in file.read_text().splitlines()] == ["{", '"a"', '"b"', "}"]
    assert "réload" in file.read_text()


def test_no_file_has_no_answers(tmp_path: Path) -> None:
    assert answers.read(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"settings": [["x"]]}}'])
def test_a_file_of_something_else_is_named(tmp_path: Path, text: str) -> None:
    """The error says what to do about the file."""
    (tmp_path / "answers.json").write_text(text)

    with pytest.raises(BadInput, match=r"answers\.json: not a record of answers .* remove it"):
        answers.read(tmp_path / "answers.json")


def test_only_passed_scenarios_of_the_version_answer() -> None:
    known = {
        "a": {"3.10": Result("passed", 1.0, log=["x"], settings=[["mail", "", "reload"]])},
        "b": {"3.10": Result("failed", 1.0, log=["x"])},
        "c": {"3.5": Result("passed", 1.0, log=["x"])},
    }

    assert answers.of_results(known, "3.10") == {
        "a": Answer(("x",), (Advice("mail", "", "reload"),))
    }


def test_a_later_run_leaves_what_withholding_found_out() -> None:
    """It shows log lines and settings alone."""
    known = {"a": Answer(("old",), discriminates=True), "b": Answer(("kept",))}

    renewed = answers.renewed(known, {"a": Answer(("new",)), "c": Answer(("first",))})

    assert renewed == {
        "a": Answer(("new",), discriminates=True),
        "b": Answer(("kept",)),
        "c": Answer(("first",)),
    }


def test_a_line_that_cures_have_too_is_no_sign_of_trouble() -> None:
    """Unless no other is left."""
    symptoms = [Answer(("a", "b")), Answer(("b", "c"))]

    assert answers.only_in_trouble(symptoms, [Answer(("b",))]) == ["a", "c"]
    assert answers.only_in_trouble(symptoms, [Answer(("a", "b", "c"))]) == ["a", "b", "c"]


def test_contrasts_say_which_scenarios_discriminate() -> None:
    proved = Answer(discriminates=True)
    known = {"a": Answer(("x",)), "b": Answer(("y",), discriminates=True), "d": proved}

    judged = answers.with_contrasts(
        known,
        {
            "a": {"cures": ["red"], "faults": ["nothing"]},
            "b": {"cures": ["green"]},
            "c": {"cures": ["nothing"], "faults": ["nothing"]},
            "d": {"faults": ["nothing"]},
            "e": {"faults": ["nothing"]},
        },
    )

    assert {test: answer.discriminates for test, answer in judged.items()} == {
        "a": True, "b": False, "c": False, "d": True,
    }  # fmt: skip
    assert judged["a"].log == ("x",)


def test_what_the_package_ships_belongs_to_its_scenarios() -> None:
    """No cure is shown that is gone."""
    there = {scenario.id for scenario in collection.scenarios()}
    shipped = answers.shipped()

    assert shipped
    assert set(shipped) <= there


def _literal_settings(function: ast.FunctionDef) -> set[str]:
    """Return the settings that a test's cure always applies, as far as they are literals."""
    statements = [node for node in function.body if not isinstance(node, ast.If)]
    return {
        f"{keyword.arg} = {ast.literal_eval(keyword.value)}"
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".cure.configure")
        for keyword in node.keywords
        if keyword.arg and isinstance(keyword.value, ast.Constant)
    }


def _functions(folder: Path) -> dict[str, ast.FunctionDef]:
    return {
        f"scenarios/{path.relative_to(folder).as_posix()}::{node.name}": node
        for path in folder.rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


def test_the_answers_that_come_with_the_package_are_what_the_cures_do() -> None:
    """As far as the source tells; a run of the scenarios compares all of it."""
    functions = _functions(resources.scenarios())
    wrong = []
    cures = {test: answer for test, answer in answers.shipped().items() if answer.settings}
    for test, answer in cures.items():
        shown = {line for step in answer.settings for line in step.text.splitlines()}
        missing = _literal_settings(functions[test.partition("[")[0]]) - shown
        wrong += [f"{test}: {line}" for line in sorted(missing)]

    assert cures
    assert wrong == []


def test_settings_are_read_from_the_source() -> None:
    """Literals of the cure alone, which no condition guards."""
    source = """
def test_cure_it(lab):
    lab.mail.configure(a="1")
    lab.mail.cure.configure(b="2", c=value, **more)
    if lab.has("x"):
        lab.mail.cure.configure(d="3")
    with lab.clock:
        lab.mail.cure.configure(e="4")
"""
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)

    assert _literal_settings(function) == {"b = 2", "e = 4"}
