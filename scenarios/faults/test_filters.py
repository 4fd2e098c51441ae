"""Milters and policy services that are down or hang, while Postfix needs them."""

from __future__ import annotations

import pytest

from maillab import Complaint, Delivery, Event, Lab, Mail
from maillab.faults import FilterDown, FilterFrozen

pytestmark = pytest.mark.topology("authenticated")

OPENDKIM = "inet:127.0.0.1:8891"
SIGNED = "DKIM-Signature field added (s=mail, d=example.com)"


def sent(lab: Lab) -> Mail:
    """Send a message to the receiver; settle."""
    mail = lab.sender.send(to="alice@example.net")
    lab.settle(mail)
    return mail


def signatures(lab: Lab) -> int:
    """Return the number of messages that the sender has signed."""
    return [event.text for event in lab.events(Event, lab.sender)].count(SIGNED)


def complaints(lab: Lab) -> str:
    """Return the warnings of the sender's Postfix."""
    return "\n".join(event.text for event in lab.events(Complaint, lab.sender))


def passes_unsigned(lab: Lab, fault: FilterDown | FilterFrozen) -> bool:
    """Return True if mail passes unsigned during the fault, and is signed afterwards."""
    with lab.sender.faulty(fault):
        unsigned = sent(lab)
        during = signatures(lab)
    sent(lab)
    passed = unsigned.delivered_to(lab.receiver, mailbox="alice")
    return bool(passed) and (during, signatures(lab)) == (0, 1)


def test_symptom_mail_passes_unsigned_while_the_filter_is_down(lab: Lab) -> None:
    """With milter_default_action=accept nothing waits; afterwards mail is signed again."""
    lab.sender.configure(milter_default_action="accept")

    assert passes_unsigned(lab, FilterDown("opendkim"))
    assert f"connect to Milter service {OPENDKIM}: Connection refused" in complaints(lab)


def test_symptom_a_filter_that_hangs_delays_mail(lab: Lab) -> None:
    """Postfix waits for the answer to its first request, then does without the filter."""
    lab.sender.configure(milter_default_action="accept", milter_command_timeout="1s")

    assert passes_unsigned(lab, FilterFrozen("opendkim"))
    assert "Connection timed out" in complaints(lab)
    late, _ = lab.events(Delivery, lab.sender)
    assert late.delay >= 1
