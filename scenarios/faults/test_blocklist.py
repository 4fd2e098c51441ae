"""A DNS blocklist that answers every query with an error, or none at all."""

from __future__ import annotations

import pytest

from maillab import Complaint, Lab, Mail
from maillab.faults import BlocklistError, DnsDrop

pytestmark = pytest.mark.topology("published")


def sent(lab: Lab) -> Mail:
    """Send a message from a client that no list has; settle."""
    mail = lab.client.smtp("alice@example.com", server=lab.front)
    lab.settle(mail)
    return mail


def test_symptom_the_list_answers_everybody_with_an_error(lab: Lab) -> None:
    """Postfix takes any answer for a listing; afterwards, a reload lets mail in again."""
    lab.mail.configure(smtpd_client_restrictions="reject_rbl_client bl.example")

    with lab.mail.faulty(BlocklistError("bl.example")):
        mail = sent(lab)
    # An smtpd(8) keeps the answers that it has got.
    lab.mail.reload()
    later = sent(lab)

    assert mail.rejected(554, "5.7.1", saying="blocked using bl.example; Error: open resolver")
    assert later.delivered_to(lab.mail, mailbox="alice")


def test_symptom_a_dead_list_blocks_nobody(lab: Lab) -> None:
    """smtpd(8) waits for the resolver to give up, warns, and goes on without an answer."""
    lab.mail.configure(smtpd_client_restrictions="reject_rbl_client bl.example")

    with lab.mail.faulty(DnsDrop(".bl.example")):
        mail = sent(lab)

    warnings = "\n".join(event.text for event in lab.events(Complaint, lab.mail))
    assert ".bl.example: RBL lookup error: " in warnings
    assert mail.delivered_to(lab.mail, mailbox="alice")
