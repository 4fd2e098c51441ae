"""Postfix does not try all the MX addresses.

An SMTP client that gets an answer from one MX host need not try the others
(RFC 5321 section 5.1 asks for more since). Postfix of the FAQ's days took a
greeting of 4xx or 5xx for such an answer. Since 2.1 it goes on to the next MX
host on any greeting but 220; the old way is left for 5xx only, by
smtp_skip_5xx_greeting. What it still limits is how many servers it talks to in
one attempt: smtp_mx_session_limit, 2 since 2.1, counts those that let it past
the greeting and EHLO.
"""

import pytest

from maillab.faults import Greeting
from maillab.lab import Lab
from maillab.maillog import HopFailed

pytestmark = pytest.mark.topology("backup-mx")

BUSY = Greeting("421 too busy")
CLOSED = Greeting("554 no mail from outside")

# The primary stores mail for the domain of which it is the last of three MX hosts.
OF_THREE = "$mydomain, three.example.org"


@pytest.mark.faq("mx-greetings", "22b")
def test_symptom_a_5xx_greeting_bounces_what_the_backup_would_take(lab: Lab) -> None:
    """The first server that answers decides, even when it answers 554."""
    lab.sender.misconfigure(smtp_skip_5xx_greeting="no")

    with lab.primary.faulty(CLOSED):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail)

    assert mail.bounced(dsn="5.0.0", saying="refused to talk to me: 554 no mail from outside")
    assert not mail.reached(lab.backup)
    (notice,) = lab.sender.mailbox("bob")
    assert "Diagnostic-Code: smtp; 554 no mail from outside" in str(notice)


@pytest.mark.faq("mx-greetings", "22a")
def test_cure_skipping_5xx_greetings_reaches_the_backup(lab: Lab) -> None:
    """With smtp_skip_5xx_greeting the refusal counts as one more dead server."""
    lab.sender.configure(smtp_skip_5xx_greeting="no")
    lab.sender.cure.configure(smtp_skip_5xx_greeting="yes")

    with lab.primary.faulty(CLOSED):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))
    lab.backup.flush()
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("mx-greetings", "22a")
@pytest.mark.parametrize(
    ("greeting", "logged"),
    [
        ("421 too busy", "refused to talk to me: 421 too busy"),
        ("450 try later", "refused to talk to me: 450 try later"),
        ("554 no mail from outside", "refused to talk to me: 554 no mail from outside"),
        ("", "lost connection with primary.example.org"),
    ],
    ids=["421", "450", "554", "hangs-up"],
)
def test_behaviour_any_greeting_but_220_leads_to_the_next_mx(
    lab: Lab, greeting: str, logged: str
) -> None:
    """With default settings no unfriendly greeting keeps mail from the backup."""
    with lab.primary.faulty(Greeting(greeting)):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))

    assert mail.held_by(lab.backup)
    (failed,) = lab.events(HopFailed, lab.sender)
    assert logged in failed.text


@pytest.mark.faq("mx-greetings", "22b")
def test_historic_a_4xx_greeting_cannot_be_taken_for_an_answer_any_more(lab: Lab) -> None:
    """The setting that brings back the FAQ's symptom for 5xx leaves 4xx alone."""
    lab.sender.configure(smtp_skip_5xx_greeting="no")

    with lab.primary.faulty(BUSY):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))

    assert mail.held_by(lab.backup)
    assert not mail.bounced()


@pytest.mark.faq("mx-greetings", "22c")
@pytest.mark.parametrize(
    ("greeting", "dsn"),
    [
        ("421 too busy", "4.0.0"),
        ("554 no mail from outside", "4.0.0"),
        ("554 5.3.2 no mail from outside", "4.3.2"),
    ],
)
def test_behaviour_mail_waits_when_every_mx_refuses_to_talk(
    lab: Lab, greeting: str, dsn: str
) -> None:
    """A refusal by all servers is no reason to return mail, not even when all say 554."""
    with lab.primary.faulty(Greeting(greeting)), lab.backup.faulty(Greeting(greeting)):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail)

    assert mail.held_by(lab.sender)
    last = f"host backup.example.org[{lab.backup.address}]"
    assert mail.deferred(dsn=dsn, saying=f"{last} refused to talk to me: {greeting}")
    assert not lab.sender.mailbox("bob")


@pytest.mark.faq("mx-greetings", "22c")
def test_cure_a_fallback_relay_takes_what_no_mx_would(lab: Lab) -> None:
    """smtp_fallback_relay stands behind the last MX host of every domain."""
    lab.victim.configure(relay_domains="example.org")
    lab.sender.cure.configure(smtp_fallback_relay="[victim.example.com]")

    with lab.primary.faulty(CLOSED), lab.backup.faulty(CLOSED):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail)

    assert mail.held_by(lab.victim)
    assert not mail.held_by(lab.sender)


@pytest.mark.faq("mx-greetings", "22d")
@pytest.mark.parametrize(
    ("settings", "stage"),
    [
        ({"smtpd_delay_reject": "no", "smtpd_sender_restrictions": "defer"}, "MAIL FROM"),
        ({"smtpd_recipient_restrictions": "defer"}, "RCPT TO"),
    ],
    ids=["MAIL", "RCPT"],
)
def test_behaviour_a_4xx_reply_leads_to_the_next_mx(
    lab: Lab, settings: dict[str, str], stage: str
) -> None:
    """A server that says "not now" to MAIL or RCPT is left for the next one."""
    lab.primary.configure(**settings)

    mail = lab.sender.send(to="alice@example.org")
    lab.settle(mail, until=mail.held_by(lab.backup))

    assert mail.held_by(lab.backup)
    (failed,) = lab.events(HopFailed, lab.sender)
    assert "said: 450 4.3.2" in failed.text
    assert f"(in reply to {stage} command)" in failed.text


@pytest.mark.faq("mx-greetings", "22d")
def test_behaviour_a_5xx_reply_to_rcpt_is_final(lab: Lab) -> None:
    """The first server that says the recipient does not exist speaks for all."""
    mail = lab.sender.send(to="nosuch@example.org")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying="550 5.1.1 <nosuch@example.org>")
    assert not mail.reached(lab.backup)


def three_mx_hosts_of_which_two_put_off(lab: Lab) -> None:
    """The backup and the victim say 450 to every recipient, the primary takes it."""
    lab.backup.configure(relay_domains="three.example.org", smtpd_recipient_restrictions="defer")
    lab.victim.configure(relay_domains="three.example.org", smtpd_recipient_restrictions="defer")
    lab.primary.configure(mydestination=OF_THREE)


@pytest.mark.faq("mx-greetings", "22e")
def test_symptom_the_third_mx_is_not_tried(lab: Lab) -> None:
    """Two servers that put the recipient off use up the sessions of one attempt."""
    three_mx_hosts_of_which_two_put_off(lab)
    lab.sender.configure(smtp_mx_session_limit="3")
    lab.sender.misconfigure(smtp_mx_session_limit="2")

    mail = lab.sender.send(to="alice@three.example.org")
    lab.settle(mail)

    assert mail.held_by(lab.sender)
    second = f"host victim.example.com[{lab.victim.address}]"
    assert mail.deferred(dsn="4.3.2", saying=f"{second} said: 450 4.3.2")
    assert not mail.reached(lab.primary)


@pytest.mark.faq("mx-greetings", "22e")
def test_cure_a_higher_session_limit_reaches_the_third_mx(lab: Lab) -> None:
    """With smtp_mx_session_limit=3 the third server is asked, and takes it."""
    three_mx_hosts_of_which_two_put_off(lab)
    lab.sender.cure.configure(smtp_mx_session_limit="3")

    mail = lab.sender.send(to="alice@three.example.org")
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("mx-greetings", "22e")
def test_behaviour_servers_that_never_let_it_in_do_not_count(lab: Lab) -> None:
    """A dead server and an unfriendly greeting leave the limit of two untouched."""
    lab.primary.configure(mydestination=OF_THREE)
    lab.victim.stop()

    with lab.backup.faulty(BUSY):
        mail = lab.sender.send(to="alice@three.example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.primary, mailbox="alice")
    greeted, refused = lab.events(HopFailed, lab.sender)
    assert "refused to talk to me: 421 too busy" in greeted.text
    assert refused.text.endswith(":25: Connection refused")
