"""Running Postfix on a dialup machine: mail that waits at its provider.

The FAQ's answer: the provider keeps it, and the customer asks for it by ETRN when
the line is up (RFC 1985). Postfix answers ETRN for its relay_domains, of whose
mail it keeps lists (fast_flush_domains, 1.0); "postqueue -s" is the same by hand.
Whoever may ask is the provider's to say (smtpd_etrn_restrictions). The customer's
own side is in test_dialup.py.
"""

import pytest

from maillab.faults import Dialup
from maillab.lab import Lab
from maillab.maillog import Delivery
from maillab.postfix import MailHost
from maillab.session import Reply

pytestmark = pytest.mark.topology("dialup")

LINE = Dialup(rate_bit_s=33_600)
ALICE, BOB = "alice@example.org", "bob@example.com"


def ask(who: MailHost, provider: MailHost, domain: str = "example.com") -> Reply:
    """Have a machine ask the provider for the mail of a domain."""
    with who.session(provider) as session:
        session.ehlo()
        return session.etrn(domain)


@pytest.mark.faq("dialup", "6d")
def test_symptom_mail_stays_at_the_provider_while_the_line_is_up(lab: Lab) -> None:
    """It tries when its own time has come, which is not when the customer calls."""
    lab.isp.configure(smtp_connect_timeout="1s")

    with lab.home.faulty(LINE):
        mail = lab.remote.send(BOB)
        lab.settle(mail)
        # The attempt that is due by then fails, and on default settings none follows for 4000 s.
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
    """ETRN has the provider send all it holds for the domain, at once."""
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
    """Outside of fast_flush_domains there is no ETRN, and no "postqueue -s" either."""
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
    """With fast_flush_domains as it is by default, ETRN finds the domain's mail."""
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
    """For the provider's own administrator ETRN is "postqueue -s"; other mail waits on."""
    lab.home.stop()
    lab.remote.stop()
    theirs, other = lab.isp.send(BOB), lab.isp.send(ALICE)
    lab.settle(theirs, other)
    lab.home.start()
    lab.remote.start()

    lab.isp.flush(site="example.com")
    lab.settle(theirs)

    assert theirs.delivered_to(lab.home, mailbox="bob")
    assert other.held_by(lab.isp)
    assert not lab.remote.mailbox("alice")


@pytest.mark.faq("dialup", "6d")
def test_behaviour_there_is_no_etrn_for_other_peoples_domains(lab: Lab) -> None:
    """The provider flushes for its relay domains only, whoever asks."""
    reply = ask(lab.home, lab.isp, "example.org")
    by_hand = lab.isp.run("postqueue", "-s", "example.org", check=False)

    assert (reply.code, reply.text) == (459, "<example.org>: service unavailable")
    assert by_hand.stderr.endswith(
        'fatal: Flush service is not configured for destination "example.org"\n'
    )


@pytest.mark.faq("dialup", "6d")
def test_symptom_strangers_have_the_provider_call(lab: Lab) -> None:
    """By default everybody may say ETRN for anybody's domain, and cause attempts at will."""
    lab.isp.configure(smtpd_etrn_restrictions="permit_mynetworks, reject")
    lab.isp.misconfigure(smtpd_etrn_restrictions="")
    lab.home.stop()
    mail = lab.remote.send(BOB)
    lab.settle(mail)

    reply = ask(lab.remote, lab.isp)
    lab.settle(mail)

    assert (reply.code, reply.text) == (250, "Queuing started")
    tried = [one.status for one in lab.events(Delivery, lab.isp)]
    assert tried == ["deferred", "deferred"]


@pytest.mark.faq("dialup", "6d")
def test_cure_etrn_is_for_customers(lab: Lab) -> None:
    """With smtpd_etrn_restrictions a stranger is refused and the customer is served."""
    lab.isp.configure(smtpd_etrn_restrictions="")
    lab.isp.cure.configure(smtpd_etrn_restrictions="permit_mynetworks, reject")
    lab.home.stop()
    mail = lab.remote.send(BOB)
    lab.settle(mail)

    stranger = ask(lab.remote, lab.isp)
    lab.settle(mail)
    tried = [one.status for one in lab.events(Delivery, lab.isp)]
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
    """After five days on default settings the sender gets it back, from the provider."""
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
    """So a provider need not try at all between the customer's calls."""
    lab.isp.configure(defer_transports="relay")
    mail = lab.remote.send(BOB)
    lab.settle(mail)
    waits = bool(mail.deferred(dsn="4.3.2", saying="deferred transport"))

    ask(lab.home, lab.isp)
    lab.settle(mail)

    assert waits
    assert mail.delivered_to(lab.home, mailbox="bob")
