"""Running Postfix on a dialup machine: mail that waits at its provider.

The provider keeps the mail, and the customer requests it with ETRN when the line is up
(RFC 1985). Postfix accepts ETRN for its relay_domains; "postqueue -s" does the same by
hand. The provider decides which clients may use ETRN (smtpd_etrn_restrictions).

Since the FAQ:
- 1.0: fast_flush_domains, the domains for which Postfix keeps lists of their mail.
"""

import pytest

from maillab import Delivery, Lab, PostfixHost, Reply
from maillab.faults import Dialup

pytestmark = pytest.mark.topology("dialup")

LINE = Dialup(rate_bit_s=33_600)
ALICE, BOB = "alice@example.org", "bob@example.com"


def ask(who: PostfixHost, provider: PostfixHost, domain: str = "example.com") -> Reply:
    """Send ETRN for a domain from a machine to the provider."""
    with who.session(provider) as session:
        session.ehlo()
        return session.etrn(domain)


@pytest.mark.faq("dialup", "6d")
def test_symptom_mail_stays_at_the_provider_while_the_line_is_up(lab: Lab) -> None:
    """The provider retries on its own schedule, not when the customer calls."""
    lab.isp.configure(smtp_connect_timeout="1s")

    with lab.home.faulty(LINE):
        mail = lab.remote.send(BOB)
        lab.settle(mail)
        # This attempt fails, and by default the next one is 4000 s later.
        lab.clock.advance(hours=6)
        lab.settle(mail)
        with LINE.call(lab.home):
            lab.clock.advance(minutes=60)
            lab.settle(mail)
            arrived = lab.home.mailbox("bob")

    assert not arrived
    assert mail.held_by(lab.isp)
    assert mail.deferred(
        dsn="4.4.1",
        saying=f"connect to home.example.com[{lab.home.address}]:25: Connection timed out",
    )


@pytest.mark.faq("dialup", "6d")
def test_cure_the_customer_asks_for_its_mail(lab: Lab) -> None:
    """ETRN makes the provider send all mail for the domain at once."""
    lab.isp.configure(smtp_connect_timeout="1s")

    with lab.home.faulty(LINE):
        mail = lab.remote.send(BOB)
        lab.settle(mail)
        with LINE.call(lab.home):
            with lab.home.cure.session(lab.isp) as session:
                session.ehlo()
                reply = session.etrn("example.com")
            lab.settle(mail)

    assert (reply.code, reply.text) == (250, "Queuing started")
    assert mail.delivered_to(lab.home, mailbox="bob")


@pytest.mark.faq("dialup", "6d")
@pytest.mark.parametrize(
    ("flushed", "setting"),
    [("", "nothing"), ("example.net", "another domain")],
    ids=["nothing", "another-domain"],
)
def test_symptom_the_provider_keeps_no_list_for_the_domain(
    lab: Lab, flushed: str, setting: str
) -> None:
    """Outside fast_flush_domains both ETRN and "postqueue -s" are refused."""
    lab.isp.configure(fast_flush_domains="$relay_domains")
    lab.isp.misconfigure(fast_flush_domains=flushed)
    lab.home.stop()
    mail = lab.remote.send(BOB)
    lab.settle(mail)
    lab.home.start()

    reply = ask(lab.home, lab.isp)
    by_hand = lab.isp.run("postqueue", "-s", "example.com", check=False)
    lab.settle(mail)

    assert (reply.code, reply.text) == (459, "<example.com>: service unavailable"), setting
    assert by_hand.stderr.endswith(
        'fatal: Flush service is not configured for destination "example.com"\n'
    )
    assert mail.deferred(dsn="4.4.1", saying="Connection refused")
    assert not lab.home.mailbox("bob")


@pytest.mark.faq("dialup", "6d")
def test_cure_the_provider_keeps_lists_for_its_relay_domains(lab: Lab) -> None:
    """With the default fast_flush_domains ETRN finds the domain's mail."""
    lab.isp.configure(fast_flush_domains="")
    lab.isp.cure.configure(fast_flush_domains="$relay_domains")
    lab.home.stop()
    mail = lab.remote.send(BOB)
    lab.settle(mail)
    lab.home.start()

    reply = ask(lab.home, lab.isp)
    lab.settle(mail)

    assert (reply.code, reply.text) == (250, "Queuing started")
    assert mail.delivered_to(lab.home, mailbox="bob")


@pytest.mark.faq("dialup", "6d")
def test_behaviour_only_the_domains_mail_is_sent(lab: Lab) -> None:
    """The provider's own "postqueue -s" sends the domain's mail; other mail waits."""
    lab.home.stop()
    lab.remote.stop()
    theirs, other = lab.isp.send(BOB), lab.isp.send(ALICE)
    lab.settle(theirs, other)
    lab.home.start()
    lab.remote.start()

    lab.isp.cure.flush(site="example.com")
    lab.settle(theirs)

    assert theirs.delivered_to(lab.home, mailbox="bob")
    assert other.held_by(lab.isp)
    assert not lab.remote.mailbox("alice")


@pytest.mark.faq("dialup", "6d")
def test_behaviour_there_is_no_etrn_for_other_peoples_domains(lab: Lab) -> None:
    """The provider refuses ETRN and "postqueue -s" outside its relay domains."""
    reply = ask(lab.home, lab.isp, "example.org")
    by_hand = lab.isp.run("postqueue", "-s", "example.org", check=False)

    assert (reply.code, reply.text) == (459, "<example.org>: service unavailable")
    assert by_hand.stderr.endswith(
        'fatal: Flush service is not configured for destination "example.org"\n'
    )


@pytest.mark.faq("dialup", "6d")
def test_symptom_strangers_have_the_provider_call(lab: Lab) -> None:
    """By default any client may send ETRN for any customer and trigger attempts."""
    lab.isp.configure(smtpd_etrn_restrictions="permit_mynetworks, reject")
    lab.isp.misconfigure(smtpd_etrn_restrictions="")
    lab.home.stop()
    mail = lab.remote.send(BOB)
    lab.settle(mail)

    reply = ask(lab.remote, lab.isp)
    lab.settle(mail)

    assert (reply.code, reply.text) == (250, "Queuing started")
    tried = [event.status for event in lab.events(Delivery, lab.isp)]
    assert tried == ["deferred", "deferred"]


@pytest.mark.faq("dialup", "6d")
def test_cure_etrn_is_for_customers(lab: Lab) -> None:
    """With smtpd_etrn_restrictions strangers are refused and the customer is served."""
    lab.isp.configure(smtpd_etrn_restrictions="")
    lab.isp.cure.configure(smtpd_etrn_restrictions="permit_mynetworks, reject")
    lab.home.stop()
    mail = lab.remote.send(BOB)
    lab.settle(mail)

    stranger = ask(lab.remote, lab.isp)
    lab.settle(mail)
    tried = [event.status for event in lab.events(Delivery, lab.isp)]
    lab.home.start()
    customer = ask(lab.home, lab.isp)
    lab.settle(mail)

    refusal = "5.7.1 <example.com>: Etrn command rejected: Access denied"
    assert (stranger.code, stranger.text) == (554, refusal)
    assert tried == ["deferred"]
    assert customer.code == 250
    assert mail.delivered_to(lab.home, mailbox="bob")


@pytest.mark.faq("dialup", "6d")
def test_behaviour_the_provider_returns_mail_nobody_called_for(lab: Lab) -> None:
    """After five days on default settings the provider returns the mail to the sender."""
    lab.isp.configure(smtp_connect_timeout="1s")

    with lab.home.faulty(LINE):
        mail = lab.remote.send(BOB)
        lab.settle(mail)
        lab.clock.advance(days=5, minutes=1)
        lab.settle(mail)

    assert mail.bounced(dsn="4.4.1", saying="Connection timed out")
    (notice,) = lab.remote.mailbox("bob")
    assert "MAILER-DAEMON@isp.example.net" in notice["From"]
    assert f"connect to home.example.com[{lab.home.address}]:25: Connection timed out" in (
        " ".join(str(notice).split())
    )


@pytest.mark.faq("dialup", "6d")
def test_behaviour_etrn_overrides_deferred_transports(lab: Lab) -> None:
    """ETRN sends mail even when its transport is deferred between calls."""
    lab.isp.cure.configure(defer_transports="relay")
    mail = lab.remote.send(BOB)
    lab.settle(mail)
    waits = mail.deferred(dsn="4.3.2", saying="deferred transport").now()

    ask(lab.home, lab.isp)
    lab.settle(mail)

    assert waits
    assert mail.delivered_to(lab.home, mailbox="bob")
