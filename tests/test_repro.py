"""A reported problem: read out of any text, mapped to a lab, tried there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillab import cli, topology
from maillab.cli.repro import nearest
from maillab.engine import compose
from maillab.errors import BadInput, LabError
from maillab.labs import Labs
from maillab.repro import absent, answers, plan, play, services
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
        ("logged-in-two-recipients", "3.7", "joe@example.net", "203.0.113.80",
         [("anna@example.com", "sent", "2.0.0", 0), ("ben@example.com", "deferred", "4.2.2", 0)]),
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


@pytest.mark.parametrize("between", ["# -o smtpd_sasl_type=x", "  # or so", "#"])
def test_a_comment_does_not_end_a_row(between: str) -> None:
    """master(5): what is indented behind it still belongs to the row."""
    found = read(f"smtp inet n - n - - smtpd\n  -o a_b=1\n{between}\n  -o c_d=2\nbiff = no\n")

    assert found.rows == ("smtp inet n - n - - smtpd -o a_b=1 -o c_d=2",)


DELIVERED = (
    "Jan  1 00:00:00 h postfix/local[1]: ABCDEF1: to=<a@b.example>, orig_to=<x@b.example>,"
    " relay=local, delay=1, dsn=2.0.0, status=sent (delivered to mailbox)"
)


@pytest.mark.parametrize("column", [30 + n for n, char in enumerate(DELIVERED[30:]) if char == " "])
@pytest.mark.parametrize("behind", ["", "Any ideas?\n", "relay_domains = c.example\n"])
def test_a_log_line_broken_anywhere_is_whole_again(column: int, behind: str) -> None:
    """What it was broken before may look like a setting; prose right behind it is none of it."""
    broken = f"{DELIVERED[:column]}\n{DELIVERED[column + 1 :]}\n{behind}"

    found = read(broken)

    assert found == read(f"{DELIVERED}\n\n{behind}")
    assert [(one.recipient, one.reply) for one in found.fates] == [
        ("x@b.example", "delivered to mailbox")
    ]


def test_a_setting_that_a_mail_program_broke_is_whole_again() -> None:
    """At the first column, where there was no room for the next word; prose does not follow."""
    long = "smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination,"
    found = read(f"> {long}\n> reject_unknown_sender_domain\nbiff = no\nThat is all.\n")

    assert found.settings["smtpd_recipient_restrictions"].endswith("reject_unknown_sender_domain")
    assert found.settings["biff"] == "no"


MASTER = "Jan  1 00:00:00 h postfix/master[1]:"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("mail_version = 3.10.5\ncompatibility_level = 3.6\n", "3.10.5"),
        (f"{MASTER} daemon started -- version 3.7.11, configuration /etc/postfix\n", "3.7.11"),
        ("postfix-3.5.8-7.el8 of RHEL\nbiff = no\n", "3.5"),
        ("Postfix v3.8 here\nbiff = no\n", "3.8"),
        ("Postfix version\n\n3.11.1\nbiff = no\n", "3.11"),
        ("compatibility_level = 3.6\n", "3.6"),
        ("compatibility_level = 2\n", ""),
        ("my postfix 192.168.1.1\nbiff = no\n", ""),
    ],
)  # fmt: skip
def test_the_version_is_found_wherever_it_stands(text: str, version: str) -> None:
    """What postconf and master say counts before what is written; the level comes last."""
    assert read(text).version == version


def test_names_of_ones_own_are_settings_among_settings() -> None:
    """Before, between and behind them; in prose they are none."""
    found = read("indexed = hash:/etc/postfix/\nbiff = no\nother = x\n\nfoo = bar\n")

    assert found.settings == {"indexed": "hash:/etc/postfix/", "biff": "no", "other": "x"}


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


def drawn_from(text: str, **tables: str) -> Plan:
    given = {path.replace("__", "/"): content for path, content in tables.items()}
    return plan.make(read(text), SCENE, tables=given)


LOGGED = (
    "Jan  1 00:00:00 h postfix/qmgr[1]: ABCDEF1: from=<bob@example.net>, size=1, nrcpt=1"
    " (queue active)\n"
    "Jan  1 00:00:00 h postfix/smtp[1]: ABCDEF1: to=<a@example.com>,"
    " relay=mx.example.com[192.0.2.1]:25, delay=1, dsn=4.4.1, status=deferred (x)\n"
)


def test_names_that_the_lab_has_for_others_are_changed_once() -> None:
    """Reports are anonymised with example.com and example.net, the other way round."""
    drawn = drawn_from(
        f"myhostname = mail.example.net\nmydestination = $myhostname, example.net\n{LOGGED}"
    )

    assert drawn.settings["mydestination"] == "$myhostname, example.com"
    assert (drawn.sender, drawn.recipients) == ("bob@example.com", ["a@example.net"])


def test_recipients_of_two_domains_stay_two() -> None:
    """Both domains are the lab's other host; each recipient keeps what was reported of it."""
    other = LOGGED.replace("example.com", "example.org").replace("4.4.1", "4.7.1")

    drawn = drawn_from(f"biff = no\n{LOGGED}{other}")

    assert {name: fate.dsn for name, fate in drawn.reported.items()} == {
        "a@example.net": "4.4.1", "a2@example.net": "4.7.1",
    }  # fmt: skip
    assert "a@example.org is a2@example.net" in drawn.mapped


def test_what_the_other_server_is_made_to_do_is_said() -> None:
    """Who reads the outcome must know that it was played."""
    (said,) = [one for one in planned("greylisted").mapped if "the other server" in one]

    assert "says '450 4.7.1 <member@elsewhere.example>" in said


def test_next_hops_are_the_labs_and_character_classes_are_none() -> None:
    """In tables, too, where the port goes and is told of."""
    drawn = drawn_from(
        f"transport_maps = pcre:/t\nsender_dependent_relayhost_maps = hash:/s\n{LOGGED}",
        __t="/^[a-z0-9.]+@[0-9]\\.x/ smtp:[gw]:2525\n",
        __s="@a.example [out.a.example]:587\n",
    )

    assert [table.text for table in drawn.tables] == [
        "/^[a-z0-9.]+@[0-9]\\.x/ smtp:[remote.example.net]\n",
        "@a.example [remote.example.net]\n",
    ]
    assert "[gw]:2525 in /t is [remote.example.net]" in drawn.mapped


@pytest.mark.parametrize(
    "path", ["${indexed}virtual", "hash:$config_directory/virtual",
             "hash:${config_directory}/virtual", "$default_database_type:/etc/postfix/virtual",
             "proxy:hash:/etc/postfix/virtual"],
)  # fmt: skip
def test_tables_are_found_through_references(path: str) -> None:
    """As the manual pages advise to write them."""
    drawn = drawn_from(
        f"indexed = hash:$config_directory/\nvirtual_alias_maps = {path}\n{LOGGED}",
        __etc__postfix__virtual="x y\n",
    )

    (table,) = drawn.tables
    assert table.text == "x y\n"
    assert drawn.settings["virtual_alias_maps"] == table.place
    assert "indexed" not in drawn.settings


SUBMISSION = (
    "submission inet n - n - - smtpd\n"
    "  -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }\n"
)
SUBMITTED = (
    "Jan  1 00:00:00 h postfix/submission/smtpd[1]: ABCDEF1: client=pc.example.org[192.0.2.7],"
    " sasl_method=PLAIN, sasl_username=bob\n"
)


@pytest.mark.parametrize(
    ("row", "port"),
    [(SUBMISSION, 587), ("", 25)],
)  # fmt: skip
def test_a_client_that_logged_in_is_let_through_where_that_counts(row: str, port: int) -> None:
    """There is no SASL server; the service that took the mail is asked where there is one."""
    drawn = drawn_from(f"biff = no\n{row}{SUBMITTED}{LOGGED}")

    let_through = "check_client_access inline:{198.18.0.30=permit}"
    assert let_through in drawn.settings["smtpd_relay_restrictions"]
    assert [dict(one.options) for one in drawn.rows] == [
        {"smtpd_relay_restrictions": f"{let_through}, reject"}
    ] * bool(row)
    assert drawn.port == port


def test_a_transport_of_ones_own_is_there_with_its_row() -> None:
    """Without it there is no such service."""
    text = f"default_transport = slow\n{LOGGED}"

    assert drawn_from(f"slow unix - - n - 1 smtp\n{text}").settings["default_transport"] == "slow"
    assert "default_transport" not in drawn_from(text).settings


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


# Ways to have a command run, each of which does run it when it is allowed.
RUN = "/usr/bin/touch /tmp/maillab-ran"
WAYS = {
    "mailbox_command": f"mailbox_command = {RUN}\n",
    "option": f"local unix - n n - - local -o {{ mailbox_command = {RUN} }}\n",
    "option without space": f"local unix - n n - - local {{-omailbox_command={RUN}}}\n",
    "its alias_maps": f"local unix - n n - - local -o {{ alias_maps = static:{{|{RUN}}} }}\n",
    "pipe": f"local unix - n n - - pipe user=nobody argv={RUN}\n",
    "pipe by another path": f"local unix - n n - - ./pipe user=nobody argv={RUN}\n",
    "a shell": "local unix - n n - - ../../../bin/sh -c /bin/true\n",
    "a script of Postfix": "local unix - n n - - postfix-script -v\n",
}
ALIASES = ("|RUN", '"|RUN"', '"\\|RUN"', "bob, (so)|RUN", "bob,\n  |RUN")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_no_way_to_run_a_command_gets_into_a_plan(way: str) -> None:
    """Rows are read as master(8) and getopt(3) read them."""
    drawn = drawn_from(f"biff = no\n{way}{LOGGED}")

    assert drawn.settings.keys() == {"biff", "allow_mail_to_commands"}
    assert [one.row for one in drawn.rows] in ([], ["local unix - n n - - local"])
    assert [line for line in drawn.left_out if "--allow-commands" in line]


@pytest.mark.parametrize("to", ALIASES)
def test_no_alias_that_runs_a_command_gets_into_a_plan(to: str) -> None:
    """However it is quoted (aliases(5))."""
    drawn = drawn_from(f"alias_maps = hash:/a\n{LOGGED}", __a=f"x: {to}\nlist: alice\n")

    assert drawn.aliases == {"list": "alice"}


@given(
    st.lists(
        st.sampled_from([*"{}=| ", "-o", "-v", "argv=", "pipe", "local", "./", "mailbox_command",
                         "/bin/sh", "smtpd_milters", "x_y", "-D"])
    ).map("".join)
)  # fmt: skip
def test_whatever_a_row_says_it_runs_nothing(arguments: str) -> None:
    """No program but a Postfix one, no word but known options."""
    try:
        drawn = drawn_from(f"biff = no\nx unix - - n - - local {arguments}\n{LOGGED}")
    except BadInput:
        return
    for service in drawn.rows:
        again = services.read(service.row)
        assert not again.runs_a_command
        assert not again.others
        assert not [
            name for name, value in again.options
            if value and absent.why_not(name, value, allow_commands=False)
        ]  # fmt: skip


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
        ("greylisted", 0, ("deferred", "4.7.1", 0)),
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
    if (name, version) == ("relay-access-denied", "3.5"):
        # Which has no smtpd_relay_before_recipient_restrictions: the recipients' come first.
        status, fate = 3, ("rejected", "5.7.1", 554)

    code, told = run(capsys, str(REPORTS / f"{name}.txt"), "--postfix", version)

    (recipient,) = told["recipients"]
    here = recipient["here"]
    assert (here["status"], here["dsn"], here["code"]) == fate
    assert (code, recipient["same"]) == (status, not status)
    assert told["settled"]
    assert told["postfix"]["here"].startswith(version)


@pytest.fixture(scope="module")
def labs() -> Iterator[Labs]:
    some = Labs()
    yield some
    some.close()


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("way", ["mailbox_command", "option", "option without space", "pipe",
                                 "pipe by another path"])  # fmt: skip
def test_a_command_runs_only_when_it_is_allowed(
    way: str, *, allowed: bool, labs: Labs, request: pytest.FixtureRequest
) -> None:
    """In a lab, with a real master(8): each of the ways works, and none does unasked."""
    running = labs.get(topology.load("standalone"), request.config.option.postfix)
    scene = play.scene_of(running, running.mail)
    found = read(f"biff = no\n{WAYS[way]}")
    drawn = plan.make(
        found, scene, tables={}, recipients=["alice@mail.example.com"], allow_commands=allowed
    )
    outcome = play.play(running, running.mail, scene, drawn)

    ran = running.mail.run("test", "-e", "/tmp/maillab-ran", check=False)  # noqa: S108  # the lab's
    assert (ran.status == 0) == allowed
    assert [one.status for one in outcome.fates.values()] == ["sent"]


@pytest.mark.parametrize(
    ("settings", "status"), [("", "sent"), ("myhostname = mail.example.com\n", "rejected")]
)
def test_what_the_report_does_not_set_is_postfixs_default(
    settings: str, status: str, labs: Labs, request: pytest.FixtureRequest
) -> None:
    """By which the domain's own mail is not taken; without settings the topology's stand."""
    running = labs.get(topology.load("standalone"), request.config.option.postfix)
    scene = play.scene_of(running, running.mail)
    drawn = plan.make(
        read(settings + SUBMITTED.replace("bob", "")), scene, tables={},
        recipients=["alice@example.com"],
    )  # fmt: skip

    outcome = play.play(running, running.mail, scene, drawn)

    assert [one.status for one in outcome.fates.values()] == [status]
    assert any("mydestination" in line for line in outcome.mapped) == bool(settings)


def of_this_process() -> list[str]:
    """The labs that are ours, whoever else has some."""
    return [name for name in compose.projects() if f"-{os.getpid()}-" in name]


def test_a_configuration_with_which_postfix_does_not_start(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One line with Postfix's own words, and no lab is left."""
    before = of_this_process()
    (tmp_path / "report").write_text("mydestination = $mydestination\n")

    status = cli.main(["repro", str(tmp_path / "report"), "--to", "a@b.example"])

    error = capsys.readouterr().err
    assert status == LabError.exit_code
    assert error.count("\n") == 1
    assert "macro processing error" in error
    assert of_this_process() == before


@pytest.mark.parametrize(
    ("reported", "ours"),
    [("3.10.5", "3.10"), ("3.8", "3.7"), ("3.6", "3.7"), ("2.11", "3.5"), ("4.0", "3.11"),
     ("", "3.10"), ("20260101", "3.10")],
)  # fmt: skip
def test_the_nearest_version_is_taken(reported: str, ours: str) -> None:
    """The newer of two that are equally near; the default where none is known."""
    assert nearest(reported) == ours


def test_each_recipient_stands_beside_its_own(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """Two of one message, of a client that had logged in: the reported host's word counts."""
    code, told = run(
        capsys, str(REPORTS / "logged-in-two-recipients.txt"),
        "--postfix", request.config.option.postfix,
    )  # fmt: skip

    assert {one["recipient"]: one["here"]["status"] for one in told["recipients"]} == {
        "anna@example.net": "sent", "ben@example.net": "deferred",
    }  # fmt: skip
    assert all(one["here"]["relay"].startswith("remote.") for one in told["recipients"])
    assert "by smtp to mail: acknowledged 250" in told["journey"]
    assert code == 0


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
        (b"biff = \0\n", (), "not a text"),
        (b"biff = no\n", ("--to", ""), "not an address"),
        (b"biff = no\n", ("--to", "a@b\r\nDATA"), "not an address"),
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
