"""Promises of our mail server, tested on real Postfix with our own main.cf.

The topology "standalone" has our server (``lab.mail``, mail.example.com), a correspondent
(``lab.remote``, with users at example.net) and an outside client (``lab.client``).
"""

from pathlib import Path

import pytest

from maillab import Lab
from maillab.faults import Refused

pytestmark = pytest.mark.topology("standalone")
HERE = Path(__file__).parent


@pytest.fixture
def ours(lab: Lab) -> Lab:
    """The lab, its mail server configured like ours."""
    lab.mail.table("virtual", (HERE / "virtual").read_text())
    lab.mail.main_cf((HERE / "main.cf").read_text())
    return lab


def test_sales_reaches_both_who_sell(ours: Lab) -> None:
    """An address in our virtual table is no account, and two get its mail."""
    mail = ours.remote.send(to="sales@example.com")
    ours.settle(mail)

    assert mail.delivered_to(ours.mail, mailbox="alice")
    assert mail.delivered_to(ours.mail, mailbox="bob")


@pytest.mark.parametrize(
    ("to", "dsn", "words"),
    [
        ("joe@example.net", "5.7.1", "Relay access denied"),
        ("nobody-here@example.com", "5.1.1", "User unknown"),
        ("dave@example.com", "5.7.1", "has left the company"),
    ],
)
def test_what_we_refuse_is_refused_while_the_client_waits(
    ours: Lab, to: str, dsn: str, words: str
) -> None:
    """No relaying and no mail for unknown users, and so no bounces to forged senders."""
    mail = ours.client.smtp(to, server=ours.mail)

    assert mail.rejected(dsn=dsn, saying=words)


def test_mail_that_is_too_big_is_refused(ours: Lab) -> None:
    """Our limit is 100000 bytes."""
    mail = ours.client.smtp("alice@example.com", server=ours.mail, size_bytes=150_000)

    assert mail.rejected(552, saying="message file too big")


def test_mail_outlives_an_hour_in_which_the_other_side_is_down(ours: Lab) -> None:
    """It waits in our queue, and is sent without any further action."""
    with ours.remote.faulty(Refused()):
        mail = ours.mail.send(to="joe@example.net", user="alice")
        ours.settle(mail)
    assert mail.deferred(saying="Connection refused")

    ours.clock.advance(hours=1)
    ours.settle(mail)

    assert mail.delivered_to(ours.remote, mailbox="joe")
