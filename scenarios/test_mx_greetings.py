"""Postfix does not try all the MX addresses.

Leave smtp_skip_5xx_greeting at "yes", its default: any greeting except 220 makes Postfix
try the next MX host. Raise smtp_mx_session_limit if more than two servers let the client
in and then refuse the mail. For mail that no MX host takes, name a smtp_fallback_relay.

An SMTP client that gets a reply from one MX host need not try the others (RFC 5321 section
5.1 has since asked for more). In the FAQ's days Postfix accepted a 4xx or 5xx greeting as
such a reply.

Since the FAQ:
- 2.1: smtp_skip_5xx_greeting is "yes"; "no" restores the old behaviour, for 5xx only.
- 2.1: there is no smtp_skip_4xx_greeting any more.
- 2.1: smtp_mx_session_limit, 2: servers per attempt that complete the greeting and EHLO.
"""

import pytest

from maillab import HopFailed, Lab
from maillab.faults import Greeting

pytestmark = pytest.mark.topology("backup-mx")

BUSY = Greeting("421 too busy")
CLOSED = Greeting("554 no mail from outside")

# The primary stores mail for this domain, as the last of its three MX hosts.
OF_THREE = "$mydomain, three.example.org"


@pytest.mark.faq("mx-greetings", "22b")
def test_symptom_a_5xx_greeting_bounces_what_the_backup_would_take(lab: Lab) -> None:
    """The first server that replies decides, even with a 554."""
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
    """With smtp_skip_5xx_greeting a refusal counts like a dead server."""
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
    """With default settings mail reaches the backup after any greeting except 220."""
    with lab.primary.faulty(Greeting(greeting)):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))

    assert mail.held_by(lab.backup)
    (failed,) = lab.events(HopFailed, lab.sender)
    assert logged in failed.text


@pytest.mark.faq("mx-greetings", "22b")
def test_historic_a_4xx_greeting_cannot_be_taken_for_an_answer_any_more(lab: Lab) -> None:
    """smtp_skip_5xx_greeting=no restores the FAQ's symptom for 5xx, and not for 4xx."""
    lab.sender.configure(smtp_skip_5xx_greeting="no")

    with lab.primary.faulty(BUSY):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))

    assert mail.held_by(lab.backup)
    assert not mail.bounced()


@pytest.mark.faq("mx-greetings", "22b")
@pytest.mark.parametrize("value", ["yes", "no"])
def test_historic_the_parameter_for_4xx_greetings_is_unknown(lab: Lab, value: str) -> None:
    """postconf(1) calls smtp_skip_4xx_greeting unused, and neither value changes what happens."""
    lab.sender.run("sh", "-c", f"echo smtp_skip_4xx_greeting={value} >>/etc/postfix/main.cf")
    lab.sender.restart()

    warning = lab.sender.run("postconf", "-n").stderr
    with lab.primary.faulty(BUSY):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))

    assert warning == (
        "postconf: warning: /etc/postfix/main.cf: unused parameter: "
        f"smtp_skip_4xx_greeting={value}\n"
    )
    assert mail.held_by(lab.backup)


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
    """If all servers refuse the session, mail waits, even if all greet with 554."""
    with lab.primary.faulty(Greeting(greeting)), lab.backup.faulty(Greeting(greeting)):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail)

    assert mail.held_by(lab.sender)
    last = f"host backup.example.org[{lab.backup.address}]"
    assert mail.deferred(dsn=dsn, saying=f"{last} refused to talk to me: {greeting}")
    assert not lab.sender.mailbox("bob")


@pytest.mark.faq("mx-greetings", "22c")
def test_cure_a_fallback_relay_takes_what_no_mx_would(lab: Lab) -> None:
    """smtp_fallback_relay comes after the last MX host of every domain."""
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
    """After a 4xx reply to MAIL or RCPT Postfix tries the next server."""
    lab.primary.misconfigure(**settings)

    mail = lab.sender.send(to="alice@example.org")
    lab.settle(mail, until=mail.held_by(lab.backup))

    assert mail.held_by(lab.backup)
    (failed,) = lab.events(HopFailed, lab.sender)
    assert "said: 450 4.3.2" in failed.text
    assert f"(in reply to {stage} command)" in failed.text


@pytest.mark.faq("mx-greetings", "22d")
def test_behaviour_a_5xx_reply_to_rcpt_is_final(lab: Lab) -> None:
    """The first server that rejects the recipient decides for all."""
    mail = lab.sender.send(to="nosuch@example.org")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying="550 5.1.1 <nosuch@example.org>")
    assert not mail.reached(lab.backup)


def three_mx_hosts_of_which_two_put_off(lab: Lab) -> None:
    """Make the backup and the victim defer every recipient, and the primary accept."""
    lab.backup.configure(relay_domains="three.example.org", smtpd_recipient_restrictions="defer")
    lab.victim.configure(relay_domains="three.example.org", smtpd_recipient_restrictions="defer")
    lab.primary.configure(mydestination=OF_THREE)


@pytest.mark.faq("mx-greetings", "22e")
def test_symptom_the_third_mx_is_not_tried(lab: Lab) -> None:
    """Two servers that defer the recipient use up the sessions of one attempt."""
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
    """With smtp_mx_session_limit=3 Postfix tries the third server, which accepts."""
    three_mx_hosts_of_which_two_put_off(lab)
    lab.sender.cure.configure(smtp_mx_session_limit="3")

    mail = lab.sender.send(to="alice@three.example.org")
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("mx-greetings", "22e")
def test_behaviour_servers_that_never_let_it_in_do_not_count(lab: Lab) -> None:
    """A dead server and a 421 greeting do not count against the limit of two."""
    lab.primary.configure(mydestination=OF_THREE)
    lab.victim.stop()

    with lab.backup.faulty(BUSY):
        mail = lab.sender.send(to="alice@three.example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.primary, mailbox="alice")
    greeted, refused = lab.events(HopFailed, lab.sender)
    assert "refused to talk to me: 421 too busy" in greeted.text
    assert refused.text.endswith(":25: Connection refused")
