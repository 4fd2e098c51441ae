"""A reported problem: read out of any text, mapped to a lab, tried there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillab import cli
from maillab.errors import BadInput
from maillab.labs import Labs
from maillab.repro import answers, plan
from maillab.repro.answers import Answer
from maillab.repro.names import Scene, Spot
from maillab.repro.plan import Plan
from maillab.repro.report import Report, read

REPORTS = Path(__file__).parent / "data/reports"
SCENE = Scene(
    Spot("mail", "mail.example.com", "198.18.0.10"),
    Spot("client", "client.example.net", "198.18.0.30"),
    Spot("remote", "remote.example.net", "198.18.0.20"),
)


def reported(name: str) -> Report:
    return read((REPORTS / f"{name}.txt").read_text())


def planned(name: str, *, allow_commands: bool = False, **tables: str) -> Plan:
    given = {path.replace("__", "/"): text for path, text in tables.items()}
    return plan.make(reported(name), SCENE, tables=given, allow_commands=allow_commands)


# Reading.


@pytest.mark.parametrize(
    ("name", "version", "sender", "client", "fates"),
    [
        ("relay-access-denied", "3.7", "joe@corp.example", "10.2.0.7",
         [("anna@partner.example", "rejected", "4.7.1", 454)]),
        ("five-hundred-greeting", "3.10.5", "bob@sender.example", "",
         [("alice@customer.example", "bounced", "5.0.0", 0)]),
        ("greylisted", "3.5", "carol@list.club.example", "",
         [("member@elsewhere.example", "deferred", "4.7.1", 0)]),
        ("unknown-virtual-user", "3.11.1", "buyer@mail.example", "198.51.100.77",
         [("sales@shop.example", "rejected", "5.1.1", 550)]),
        ("connection-timed-out", "", "bob@home.dialup.example", "",
         [("friend@far.example", "deferred", "4.4.1", 0)]),
        ("loops-back", "", "x@other.example", "203.0.113.44",
         [("info@old.example", "bounced", "5.4.6", 0)]),
    ],
)  # fmt: skip
def test_a_report_tells_its_version_its_mail_and_its_end(
    name: str, version: str, sender: str, client: str, fates: list[object]
) -> None:
    """Out of a mail, quoted and wrapped, a form, or what was pasted together."""
    found = reported(name)

    assert (found.version, found.sender, found.client) == (version, sender, client)
    assert [(one.recipient, one.status, one.dsn, one.code) for one in found.fates] == fates


def test_settings_go_on_over_lines_and_prose_is_no_setting() -> None:
    """As postconf -n prints them; of the rest only what looks like a parameter."""
    found = read("I think that x = y.\nrelay_domains = a.example,\n  b.example\nbiff = no\n")

    assert found.settings == {"relay_domains": "a.example, b.example", "biff": "no"}


def test_rows_of_master_cf_are_told_from_prose() -> None:
    """Eight columns, and what belongs to the last."""
    found = read(
        "a unix domain\nsmtp inet n - y - - smtpd\n  -o smtpd_client_restrictions=\nbiff=\n"
    )

    assert found.rows == ("smtp inet n - y - - smtpd -o smtpd_client_restrictions=",)


PIECES = (
    *"\n >=",
    "smtp",
    "biff = no",
    "inet n - - - - x",
    "Jan  1 00:00:00 h postfix/smtp[1]: ABCDEF1: to=<a@b>, relay=none, delay=1, dsn=4.4.1, status=",
    "deferred (x)",
    "2026-01-01T00:00:00+00:00 h x: y",
)


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_a_report_or_bad_input(text: str) -> None:
    """Nothing else comes of it."""
    try:
        found = read(text)
    except BadInput:
        return
    assert found.settings or found.lines


# Planning.


def test_names_and_addresses_become_the_labs() -> None:
    """In settings, sender and recipients alike; and it is said."""
    drawn = planned("relay-access-denied")

    assert drawn.settings["mydestination"] == (
        "$myhostname, example.com, localhost.example.com, localhost"
    )
    assert (drawn.sender, drawn.recipients) == ("joe@example.com", ["anna@example.net"])
    assert "10.2.0.7 is 198.18.0.30" in drawn.mapped


def test_the_labs_own_names_stay() -> None:
    """Given with --from and --to, they mean what they say."""
    drawn = plan.make(
        read("biff = no"), SCENE, tables={},
        sender="joe@remote.example.net", recipients=["alice@mail.example.com", "bob@example.com"],
    )  # fmt: skip

    assert drawn.recipients == ["alice@mail.example.com", "bob@example.com"]
    assert drawn.sender == "joe@remote.example.net"


def test_the_network_of_the_client_becomes_the_labs_client() -> None:
    """So that who was trusted is."""
    text = "mynetworks = 127.0.0.0/8 10.2.0.0/16\n" + (
        REPORTS / "relay-access-denied.txt"
    ).read_text().replace("mynetworks =", "was =")

    drawn = plan.make(read(text), SCENE, tables={})

    assert drawn.settings["mynetworks"] == "127.0.0.0/8 198.18.0.30/32"


def test_what_cannot_be_had_is_left_out_and_said() -> None:
    """Policy services, blocklists, certificates, Milters, SASL."""
    drawn = planned("relay-access-denied")

    assert drawn.settings["smtpd_recipient_restrictions"] == (
        "permit_mynetworks, reject_unauth_destination"
    )
    assert "smtpd_tls_cert_file" not in drawn.settings
    assert [line for line in drawn.left_out if "zen.rbl.example" in line]


def test_commands_are_not_run_unless_allowed() -> None:
    """Neither by master.cf nor by aliases."""
    wary, bold = (planned("greylisted", allow_commands=may) for may in (False, True))
    aliases = {"hash:/etc/aliases": 'x: "|/bin/false", bob\nlist: alice,\n  bob\n'}
    made = plan.make(reported("greylisted"), SCENE, tables=aliases)

    assert not [row for row in wary.rows if row.program == "spawn"]
    assert [row for row in bold.rows if row.program == "spawn"]
    assert made.aliases == {"list": "alice, bob"}


def test_tables_are_given_or_made_empty() -> None:
    """A database that cannot be asked becomes a file; one nobody names is said."""
    empty = planned("unknown-virtual-user")
    given = {"/etc/postfix/mysql-virtual.cf": "sales@shop.example sales/\n", "/x": ""}
    full = plan.make(reported("unknown-virtual-user"), SCENE, tables=given)

    assert [(table.kind, table.text) for table in empty.tables] == [("texthash", "")]
    assert [line for line in empty.left_out if "made empty" in line]
    assert full.tables[0].text == "sales@shop.example sales/\n"
    assert "table /x: no setting names it" in full.left_out


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("host a[1.2.3.4] said: 450 4.7.1 not now (in reply to RCPT TO command)",
         Answer("RCPT", "450 4.7.1 not now")),
        ("host a[1.2.3.4] said: 550 no (in reply to end of DATA command)",
         Answer("end of data", "550 no")),
        ("host a[1.2.3.4] refused to talk to me: 554 go away", Answer("greeting", "554 go away")),
        ("connect to a[1.2.3.4]:25: Connection refused", Answer(absent="refused")),
        ("connect to a[1.2.3.4]:25: Connection timed out", Answer(absent="silent")),
        ("delivered to mailbox", None),
    ],
)  # fmt: skip
def test_what_another_server_said_is_known_from_the_log(reply: str, answer: Answer | None) -> None:
    """The stage and the words, or how it was not there."""
    assert answers.answered(reply) == answer


# Trying.


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    status = cli.main(["repro", "--json", *words])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "status", "fate"),
    [
        ("relay-access-denied", 0, ("rejected", "4.7.1", 454)),
        ("five-hundred-greeting", 0, ("bounced", "5.0.0", 0)),
        ("unknown-virtual-user", 0, ("rejected", "5.1.1", 550)),
        ("connection-timed-out", 0, ("deferred", "4.4.1", 0)),
        # The reporter's main.cf does not say that old.example is taken at all.
        ("loops-back", 3, ("rejected", "4.7.1", 454)),
    ],
)
def test_a_report_is_tried_in_a_lab(
    name: str,
    status: int,
    fate: tuple[str, str, int],
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """The same happens as was reported, or something else, which is told apart."""
    version = request.config.option.postfix

    code, told = run(capsys, str(REPORTS / f"{name}.txt"), "--postfix", version)

    (recipient,) = told["recipients"]
    here = recipient["here"]
    assert (here["status"], here["dsn"], here["code"]) == fate
    assert (code, recipient["same"]) == (status, not status)
    assert told["settled"]
    assert told["postfix"]["here"].startswith(version)


def test_a_table_that_was_given_makes_the_difference(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With the user in it, the mail is taken, which is not what was reported."""
    table = tmp_path / "users"
    table.write_text("sales@shop.example sales/\n")
    given = f"mysql:/etc/postfix/mysql-virtual.cf={table}"

    code, told = run(
        capsys, str(REPORTS / "unknown-virtual-user.txt"), "--table", given,
        "--postfix", request.config.option.postfix,
    )  # fmt: skip

    assert code == 3
    assert told["recipients"][0]["here"]["relay"] == "virtual"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (b"", (), "the report is empty"),
        (b"it does not work\n", (), "no line of 'postconf -n'"),
        (b"biff = no\n", (), "name no recipient; say to whom with --to"),
        (b"biff = \xff\n", (), "not text in UTF-8"),
        (b"biff = no\n", ("--to", "a@b.example", "--topology", "nowhere"), "no topology named"),
        (b"biff = no\n", ("--to", "a@b.example", "--host", "nobody"), "no host in standalone"),
        (b"biff = no\n", ("--to", "a@b.example", "--host", "client"), "runs no Postfix"),
        (b"biff = no\n", ("--to", "a@b.example", "--postfix", "2.2"), "2.2"),
        (b"biff = no\n", ("--to", "a@b.example", "--table", "x"), "write it as"),
        (b"biff = no\n", ("--to", "a@b.example", "--table", "x=/nowhere/y"), "No such file"),
    ],
)
def test_bad_input_is_one_line(  # noqa: PLR0917  # a parameter a column, and fixtures
    text: bytes,
    options: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names what is wrong and what to do; no lab is started for it."""
    started: list[object] = []
    monkeypatch.setattr(Labs, "get", lambda *given: started.append(given))
    (tmp_path / "report").write_bytes(text)

    status = cli.main(["repro", str(tmp_path / "report"), *options])

    error = capsys.readouterr().err
    assert status == BadInput.exit_code
    assert error.startswith("maillab: ")
    assert error.count("\n") == 1
    assert said in error
    assert started == []


def test_a_report_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """The file is named."""
    assert cli.main(["repro", "/nowhere/report"]) == BadInput.exit_code
    assert "/nowhere/report: No such file" in capsys.readouterr().err
