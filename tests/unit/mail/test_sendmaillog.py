"""The part of Sendmail's log that maillab reads."""

from __future__ import annotations

import pytest

from maillab.mail.maillog import parse
from maillab.mail.sendmaillog import swallowed

MID = "<m1@t>"
SENT = "delay=00:00:00, xdelay=00:00:00, mailer={}, pri=30, relay=x, dsn=2.0.0, stat={}"


def took(*lines: str, host: str = "other", mid: str = MID) -> list[str]:
    logged = [f"Nov 25 15:32:12 mail sm-mta[102]: {line}" for line in lines]
    events = [parse(line, host=host, seq=seq) for seq, line in enumerate(logged)]
    return swallowed(events, "other", mid)


def begins(queue_id: str, mid: str = MID) -> str:
    return f"{queue_id}: from=<carol@b.test>, size=217, class=0, nrcpts=3, msgid={mid}, proto=ESMTP"


def to(queue_id: str, who: str, mailer: str, stat: str = "Sent") -> str:
    return f"{queue_id}: to={who}, {SENT.format(mailer, stat)}"


@pytest.mark.parametrize("queue_id", ["6APFWCNq000102", "6BPFWCNq000102"])
@pytest.mark.parametrize("mailer", ["prog", "*file*"])
def test_deliveries_to_commands_and_files_are_found(queue_id: str, mailer: str) -> None:
    """In December, queue ids may look like Postfix's."""
    lines = [begins(queue_id), to(queue_id, '"|cat"', mailer), to(queue_id, "bob", "local")]

    assert took(*lines) == ['"|cat"']


def test_the_copy_in_a_list_owners_name_is_the_same_message() -> None:
    clone = "6APFWEbX000112: 6APFWEbX000113: clone: owner=joe"
    lines = [begins("6APFWEbX000112"), clone, to("6APFWEbX000113", '"|cat"', "prog")]

    assert took(*lines) == ['"|cat"']


@pytest.mark.parametrize(
    "lines",
    [
        [begins("6APFWCNq000102"), to("6APFWCNq000102", "bob", "local")],
        [begins("6APFWCNq000102"), to("6APFWCNq000102", '"|x"', "prog", "User unknown")],
        [begins("6APFWCNq000102", "<m2@t>"), to("6APFWCNq000102", '"|cat"', "prog")],
        [begins("6APFWCNq000102"), to("6APFWCNq000103", '"|cat"', "prog")],
        [],
    ],
    ids=["mailbox", "failed", "another-message", "another-id", "nothing"],
)
def test_other_deliveries_are_not_found(lines: list[str]) -> None:
    assert took(*lines) == []


def test_deliveries_of_another_host_are_not_found() -> None:
    lines = [begins("6APFWCNq000102"), to("6APFWCNq000102", '"|cat"', "prog")]

    assert took(*lines, host="a") == []
