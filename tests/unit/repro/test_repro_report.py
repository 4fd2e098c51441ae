"""A reported problem is parsed from any text."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from maillab.errors import BadInput
from maillab.repro.report import read
from reports import (
    LOGGED,
    ROOT,
    reported,
)


@pytest.mark.parametrize(
    ("name", "version", "sender", "client", "fates"),
    [
        ("relay-access-denied", "3.7.11", "joe@corp.example", "10.2.0.7",
         [("anna@partner.example", "rejected", "4.7.1", 454)]),
        ("five-hundred-greeting", "3.10.5", "bob@sender.example", "",
         [("alice@customer.example", "bounced", "5.0.0", 0)]),
        ("greylisted", "3.5.25", "carol@list.club.example", "",
         [("member@elsewhere.example", "deferred", "4.7.1", 0)]),
        ("unknown-virtual-user", "3.11.1", "buyer@mail.example", "198.51.100.77",
         [("sales@shop.example", "rejected", "5.1.1", 550)]),
        ("connection-timed-out", "", "bob@home.dialup.example", "",
         [("friend@far.example", "deferred", "4.4.1", 0)]),
        ("loops-back", "", "x@other.example", "203.0.113.44",
         [("info@old.example", "bounced", "5.4.6", 0)]),
        ("logged-in-two-recipients", "3.7.11", "joe@example.net", "203.0.113.80",
         [("anna@example.com", "sent", "2.0.0", 0), ("ben@example.com", "deferred", "4.2.2", 0)]),
    ],
)  # fmt: skip
def test_a_report_gives_version_mail_and_outcome(
    name: str, version: str, sender: str, client: str, fates: list[object]
) -> None:
    """From a mail, quoted and wrapped, from a form, or from pasted parts."""
    found = reported(name)

    assert (found.version, found.sender, found.client) == (version, sender, client)
    assert [(fate.recipient, fate.status, fate.dsn, fate.code) for fate in found.fates] == fates


def test_settings_may_be_continued_and_prose_is_no_setting() -> None:
    """As postconf -n prints them; of other text only lines that look like a parameter."""
    found = read("I think that x = y.\nrelay_domains = a.example,\n  b.example\nbiff = no\n")

    assert found.settings == {"relay_domains": "a.example, b.example", "biff": "no"}


def test_rows_of_master_cf_are_distinguished_from_prose() -> None:
    """A row has eight columns; the last one may contain spaces."""
    found = read(
        "a unix domain\nsmtp inet n - y - - smtpd\n  -o smtpd_client_restrictions=\nbiff=\n"
    )

    assert found.rows == ("smtp inet n - y - - smtpd -o smtpd_client_restrictions=",)


def test_the_issue_form_can_be_pasted() -> None:
    """GitHub gives each field its heading, and a long one its fence."""
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/mail-goes-wrong.yml").read_text())
    values = {
        "postfix": "3.11.1",
        "topology": "backup-mx",
        "postconf": "biff = no\nrelay_domains = a.example\n    b.example",
        "master": "submission inet n - y - - smtpd\n    -o smtpd_tls_auth_only=no",
        "log": LOGGED.rstrip(),
        "expected": "That it is sent.",
    }
    fields = {field["id"]: field["attributes"] for field in form["body"] if "id" in field}
    text = ""
    for name, field in fields.items():
        value = f"```text\n{values[name]}\n```" if "render" in field else values[name]
        text += f"### {field['label']}\n\n{value}\n\n"

    found = read(text)

    assert fields.keys() == values.keys()
    assert (found.version, found.topology) == ("3.11.1", "backup-mx")
    assert found.settings == {"biff": "no", "relay_domains": "a.example b.example"}
    assert found.rows == ("submission inet n - y - - smtpd -o smtpd_tls_auth_only=no",)
    assert [(fate.recipient, fate.dsn) for fate in found.fates] == [("a@example.com", "4.4.1")]


@pytest.mark.parametrize("between", ["# -o smtpd_sasl_type=x", "  # or so", "#"])
def test_a_comment_does_not_end_a_row(between: str) -> None:
    """master(5): an indented line after a comment still belongs to the row."""
    found = read(f"smtp inet n - n - - smtpd\n  -o a_b=1\n{between}\n  -o c_d=2\nbiff = no\n")

    assert found.rows == ("smtp inet n - n - - smtpd -o a_b=1 -o c_d=2",)


DELIVERED = (
    "Jan  1 00:00:00 h postfix/local[1]: ABCDEF1: to=<a@b.example>, orig_to=<x@b.example>,"
    " relay=local, delay=1, dsn=2.0.0, status=sent (delivered to mailbox)"
)


@pytest.mark.parametrize("column", [30 + n for n, char in enumerate(DELIVERED[30:]) if char == " "])
@pytest.mark.parametrize("behind", ["", "Any ideas?\n", "relay_domains = c.example\n"])
def test_a_log_line_broken_anywhere_is_joined(column: int, behind: str) -> None:
    """The first part may look like a setting; prose after the line is not part of it."""
    broken = f"{DELIVERED[:column]}\n{DELIVERED[column + 1 :]}\n{behind}"

    found = read(broken)

    assert found == read(f"{DELIVERED}\n\n{behind}")
    assert [(fate.recipient, fate.reply) for fate in found.fates] == [
        ("x@b.example", "delivered to mailbox")
    ]


def test_a_setting_that_a_mail_program_broke_is_joined() -> None:
    """It broke before the word that did not fit the line; prose does not follow."""
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
        ("postfix-3.5.8-7.el8 of RHEL\nbiff = no\n", "3.5.8"),
        ("Postfix v3.8 here\nbiff = no\n", "3.8"),
        ("Postfix version\n\n3.11.1\nbiff = no\n", "3.11.1"),
        ("compatibility_level = 3.6\n", "3.6"),
        ("compatibility_level = 2\n", ""),
        ("my postfix 192.168.1.1\nbiff = no\n", ""),
    ],
)  # fmt: skip
def test_the_version_is_found_anywhere(text: str, version: str) -> None:
    """Reports by postconf and master count before the user's own words; the level comes last."""
    assert read(text).version == version


def test_unknown_names_are_settings_among_settings() -> None:
    """Before, between and after known settings; in prose they are no settings."""
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
    """There is no other outcome."""
    try:
        found = read(text)
    except BadInput:
        return
    assert found.settings or found.lines or found.fates or found.rows or found.tables
