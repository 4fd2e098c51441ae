"""Milters and policy services that are down, hang or are slow, while Postfix needs them."""

from __future__ import annotations

import pytest

from maillab import Complaint, Delivery, Event, Held, Lab, Mail, message
from maillab.faults import FilterDown, FilterFrozen, FilterSlow

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


def test_symptom_a_slow_filter_delays_mail(lab: Lab) -> None:
    """Postfix waits for the answer to each step, and the mail is signed, late."""
    # OpenDKIM answers a dozen times for a message.
    with lab.sender.faulty(FilterSlow("opendkim", delay_s=1)):
        mail = sent(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert signatures(lab) == 1
    (late,) = lab.events(Delivery, lab.sender)
    assert late.delay >= 5


def test_cure_a_shorter_time_limit_does_without_a_slow_filter(lab: Lab) -> None:
    """milter_command_timeout is 30 s for each step, unless main.cf shortens it."""
    lab.sender.configure(milter_default_action="accept")
    lab.sender.cure.configure(milter_command_timeout="1s")

    with lab.sender.faulty(FilterSlow("opendkim", delay_s=3)):
        mail = sent(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert signatures(lab) == 0
    assert "Connection timed out" in complaints(lab)


POSTGREY = "check_policy_service inet:127.0.0.1:10023"


def slow_policy(lab: Lab) -> Mail:
    """Send from a client; the policy service needs longer than Postfix waits."""
    lab.sender.filter("postgrey").start()
    lab.sender.configure(
        smtpd_milters="",
        smtpd_recipient_restrictions=POSTGREY,
        smtpd_policy_service_timeout="1s",
    )
    with lab.sender.faulty(FilterSlow("postgrey", delay_s=3)):
        mail = lab.other.smtp("alice@example.com", server=lab.sender)
        lab.settle(mail)
    return mail


def test_symptom_a_slow_policy_service_is_given_up(lab: Lab) -> None:
    """smtpd_policy_service_timeout limits the wait; after two tries the client has to return."""
    mail = slow_policy(lab)

    assert mail.rejected(451, "4.3.5", saying="Server configuration")
    assert "problem talking to server 127.0.0.1:10023: Connection timed out" in complaints(lab)


def test_cure_a_policy_service_has_a_default_action(lab: Lab) -> None:
    """With smtpd_policy_service_default_action=DUNNO mail passes without an answer."""
    lab.sender.cure.configure(smtpd_policy_service_default_action="DUNNO")

    mail = slow_policy(lab)

    assert mail.delivered_to(lab.sender, mailbox="alice")


# A Milter that dies while a client's session is open.


def at_the_end_of_data(lab: Lab) -> Mail:
    """Send from a client; the filter dies before the message."""
    with lab.other.session(lab.sender) as session:
        session.ehlo()
        session.mail("joe@other.example")
        session.rcpt("alice@example.com")
        with lab.sender.faulty(FilterDown("opendkim")):
            return session.data(
                message.compose(sender="joe@other.example", recipients=["alice@example.com"])
            )


def test_symptom_a_milter_dies_in_mid_session(lab: Lab) -> None:
    """The client has to try again, and the log names the step at which Postfix noticed."""
    lab.sender.configure(milter_default_action="tempfail")

    mail = at_the_end_of_data(lab)

    assert mail.rejected(451, "4.7.1", saying="Service unavailable - try again later")
    assert "milter inet:127.0.0.1:8891: can't " in complaints(lab)


def test_cure_a_default_action_of_accept_in_mid_session(lab: Lab) -> None:
    """The message passes, unsigned."""
    lab.sender.configure(milter_default_action="tempfail")
    lab.sender.cure.configure(milter_default_action="accept")

    mail = at_the_end_of_data(lab)
    lab.settle(mail)

    assert mail.delivered_to(lab.sender, mailbox="alice")


def test_symptom_mail_is_quarantined_while_the_filter_is_down(lab: Lab) -> None:
    """With milter_default_action=quarantine the mail is accepted, and waits on hold."""
    lab.sender.configure(milter_default_action="quarantine")

    with lab.sender.faulty(FilterDown("opendkim")):
        mail = lab.other.smtp("alice@example.com", server=lab.sender)
        lab.settle(mail)

    assert mail.held_by(lab.sender)
    assert lab.events(Held, lab.sender)
    assert not mail.delivered_to(lab.sender, mailbox="alice")


def test_cure_mail_is_released_from_the_quarantine(lab: Lab) -> None:
    """The command is "postsuper -H", and a flush delivers what was held."""
    lab.sender.configure(milter_default_action="quarantine")
    with lab.sender.faulty(FilterDown("opendkim")):
        mail = lab.other.smtp("alice@example.com", server=lab.sender)
        lab.settle(mail)
    held = mail.held_by(lab.sender).now()

    lab.sender.cure.run("postsuper", "-H", "ALL")
    lab.sender.flush()
    lab.settle(mail)

    assert held
    assert mail.delivered_to(lab.sender, mailbox="alice")
