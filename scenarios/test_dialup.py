"""Running Postfix on a dialup machine.

The FAQ's answer: send by the provider (relayhost), keep mail in the queue while
the line is down (defer_transports), and say "sendmail -q" when it is up. It
still holds, word for word; who wants nothing on the line but calls must know
what else asks for names: the relay transport, which since 2.0 carries mail for
relay_domains, and the SMTP server, which looks for its clients' names. For mail
that waits at the provider Postfix knows ETRN; it keeps a list of what waits for
each of its relay_domains (fast_flush_domains, 1.0). One message alone is sent
by "postqueue -i", since 2.4. What no setting changes is the five days that mail
may wait at either end (maximal_queue_lifetime).
"""

import pytest

from maillab.faults import Dialup
from maillab.lab import Lab
from maillab.maillog import Connected, Delivery
from maillab.postfix import MailHost
from maillab.session import Reply

pytestmark = pytest.mark.topology("dialup")

LINE = Dialup(rate_bit_s=33_600)
ALICE, BOB = "alice@example.org", "bob@example.com"
NO_NAME = "Name service error for name=isp.example.net type=A: Host not found, try again"


def attempts(lab: Lab, to: str) -> list[str]:
    """What the machine tried for a recipient, each with its outcome."""
    return [one.status for one in lab.events(Delivery, lab.home) if one.to == to]


@pytest.mark.faq("dialup", "6a")
def test_symptom_new_mail_rings_the_phone(lab: Lab) -> None:
    """Postfix looks for the provider's address as soon as there is mail for it."""
    lab.home.configure(defer_transports="smtp")
    lab.home.misconfigure(defer_transports="")

    with lab.home.faulty(LINE):
        mail = lab.home.send(ALICE)
        lab.settle(mail)
        rang = LINE.rang(lab.home)

    assert rang
    assert mail.deferred(dsn="4.4.3", saying=NO_NAME)


@pytest.mark.faq("dialup", "6a")
def test_symptom_waiting_mail_rings_again_and_again(lab: Lab) -> None:
    """On default settings 5 minutes later, then after 10 more, and so on for five days."""
    lab.home.configure(defer_transports="smtp")
    lab.home.misconfigure(defer_transports="")

    rang = []
    with lab.home.faulty(LINE):
        mail = lab.home.send(ALICE)
        lab.settle(mail)
        for minutes in (6, 11):
            before = LINE.rang(lab.home)
            lab.clock.advance(minutes=minutes)
            lab.settle(mail)
            rang.append(LINE.rang(lab.home) > before)

    assert rang == [True, True]
    assert attempts(lab, ALICE) == ["deferred"] * 3


@pytest.mark.faq("dialup", "6b", "6c")
def test_cure_mail_waits_for_the_call(lab: Lab) -> None:
    """With defer_transports no packet leaves before the call, and a flush sends what waits."""
    lab.home.configure(defer_transports="")
    lab.home.cure.configure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        mail = lab.home.send(ALICE)
        lab.settle(mail)
        rang = LINE.rang(lab.home)
        waits = bool(mail.deferred(dsn="4.3.2", saying="deferred transport"))
        with LINE.call(lab.home) as call:
            lab.home.flush()
            lab.settle(mail)

    assert rang == 0
    assert waits
    first, second = lab.events(Delivery, lab.home)
    assert (first.relay, first.status) == ("none", "deferred")
    assert (second.relay_host, second.status) == ("isp.example.net", "sent")
    assert call.packets_out
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6b")
def test_cure_days_pass_in_silence(lab: Lab) -> None:
    """On default settings mail waits for four days, is looked at now and then, and never rings."""
    lab.home.configure(defer_transports="")
    lab.home.cure.configure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        mail = lab.home.send(ALICE)
        lab.settle(mail)
        for _ in range(4):
            lab.clock.advance(days=1)
            lab.settle(mail)
        rang = LINE.rang(lab.home)
        with LINE.call(lab.home):
            lab.home.flush()
            lab.settle(mail)

    assert rang == 0
    assert attempts(lab, ALICE) == ["deferred"] * 5 + ["sent"]
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6b")
def test_behaviour_local_mail_does_not_wait(lab: Lab) -> None:
    """Only the transports that are named are deferred; the queue shows which mail and why."""
    lab.home.configure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        away, here = lab.home.send(ALICE), lab.home.send("carol@example.com")
        lab.settle(away, here)
        rang = LINE.rang(lab.home)
        (waiting,) = lab.home.queue()
        with LINE.call(lab.home):
            lab.home.flush()
            lab.settle(away)

    assert rang == 0
    assert here.delivered_to(lab.home, mailbox="carol")
    assert waiting.recipients == (ALICE,)
    assert waiting.reasons == ("deferred transport",)


@pytest.mark.faq("dialup", "6b")
def test_symptom_mail_for_a_relay_domain_rings_all_the_same(lab: Lab) -> None:
    """It leaves by the transport relay, not by smtp, which alone is deferred."""
    lab.home.configure(relay_domains="example.org", defer_transports="smtp, relay")
    lab.home.misconfigure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        mail = lab.home.send(ALICE)
        lab.settle(mail)
        rang = LINE.rang(lab.home)

    assert rang
    assert mail.deferred(dsn="4.4.3", saying=NO_NAME)


@pytest.mark.faq("dialup", "6b")
def test_cure_both_transports_are_deferred(lab: Lab) -> None:
    """With smtp and relay in defer_transports mail for a relay domain waits, too."""
    lab.home.configure(relay_domains="example.org", defer_transports="smtp")
    lab.home.cure.configure(defer_transports="smtp, relay")

    with lab.home.faulty(LINE):
        mail = lab.home.send(ALICE)
        lab.settle(mail)
        rang = LINE.rang(lab.home)
        with LINE.call(lab.home):
            lab.home.flush()
            lab.settle(mail)

    assert rang == 0
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6b")
def test_symptom_an_smtp_client_rings_for_its_name(lab: Lab) -> None:
    """Whoever submits mail by SMTP has its name looked for, in the DNS beyond the line."""
    lab.home.configure(defer_transports="smtp", smtpd_peername_lookup="no")
    lab.home.misconfigure(smtpd_peername_lookup="yes")

    with lab.home.faulty(LINE):
        mail = lab.home.submit("carol@example.com", server=lab.home)
        lab.settle(mail)
        rang = LINE.rang(lab.home)

    assert rang
    assert mail.delivered_to(lab.home, mailbox="carol")


@pytest.mark.faq("dialup", "6b")
def test_cure_clients_go_by_their_addresses(lab: Lab) -> None:
    """With smtpd_peername_lookup off mail comes in by SMTP without a packet on the line."""
    lab.home.configure(defer_transports="smtp", smtpd_peername_lookup="yes")
    lab.home.cure.configure(smtpd_peername_lookup="no")

    with lab.home.faulty(LINE):
        mail = lab.home.submit(ALICE, server=lab.home, sender=BOB)
        lab.settle(mail)
        rang = LINE.rang(lab.home)
        with LINE.call(lab.home):
            lab.home.flush()
            lab.settle(mail)

    assert rang == 0
    assert {one.client_name for one in lab.events(Connected, lab.home)} == {"unknown"}
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6c")
def test_behaviour_sendmail_q_sends_what_waits(lab: Lab) -> None:
    """The FAQ's command overrides defer_transports, for this run through the queue."""
    lab.home.configure(defer_transports="smtp")
    mail = lab.home.send(ALICE)
    lab.settle(mail)

    lab.home.run("sendmail", "-q")
    lab.wait_for(Delivery, host=lab.home, saying="status=sent")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6c")
def test_behaviour_a_call_alone_sends_nothing(lab: Lab) -> None:
    """Postfix does not know that the line is up; and what comes behind the flush waits."""
    lab.home.configure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        first = lab.home.send(ALICE)
        lab.settle(first)
        with LINE.call(lab.home) as unused:
            lab.settle(first)
        with LINE.call(lab.home):
            lab.home.flush()
            lab.settle(first)
            second = lab.home.send(ALICE)
            lab.settle(second)

    assert unused.packets_out == 0
    assert first.delivered_to(lab.remote, mailbox="alice")
    assert second.deferred(dsn="4.3.2", saying="deferred transport")


@pytest.mark.faq("dialup", "6b", "6c")
@pytest.mark.parametrize(
    ("provider", "dsn", "saying"),
    [
        ("by DNS", "4.4.3", NO_NAME),
        ("by its address", "4.4.1", "Connection timed out"),
        ("by /etc/hosts", "4.4.1", "Connection timed out"),
    ],
)
def test_behaviour_a_flush_while_the_line_is_down(
    lab: Lab, provider: str, dsn: str, saying: str
) -> None:
    """The mail is tried, and waits; without DNS it gets as far as a connection's timeout."""
    lab.home.configure(defer_transports="smtp", smtp_connect_timeout="1s")
    if provider == "by its address":
        lab.home.configure(relayhost=f"[{lab.isp.address}]")
    elif provider == "by /etc/hosts":
        hosts = f"127.0.0.1 localhost\n{lab.isp.address} isp.example.net\n"
        lab.home.write("/etc/hosts", hosts)
        lab.home.configure(smtp_dns_support_level="disabled")

    with lab.home.faulty(LINE):
        mail = lab.home.send(ALICE)
        lab.settle(mail)
        lab.home.flush()
        lab.settle(mail)
        failed = mail.deferred(dsn=dsn, saying=saying)
        waits = bool(failed)
        with LINE.call(lab.home):
            lab.home.flush()
            lab.settle(mail)

    assert waits, failed
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6c")
def test_behaviour_postqueue_i_sends_one_message(lab: Lab) -> None:
    """Urgent mail goes with the call, and the rest waits on."""
    lab.home.configure(defer_transports="smtp")
    urgent, other = lab.home.send(ALICE), lab.home.send(ALICE)
    lab.settle(urgent, other)

    lab.home.flush(queue_id=urgent.journey.legs[0].queue_id)
    lab.settle(urgent)

    assert urgent.delivered_to(lab.remote, mailbox="alice")
    assert other.deferred(dsn="4.3.2", saying="deferred transport")


@pytest.mark.faq("dialup", "6c")
def test_behaviour_mail_is_returned_after_five_days_without_a_call(lab: Lab) -> None:
    """A transport's being deferred does not stop the clock (maximal_queue_lifetime)."""
    lab.home.configure(defer_transports="smtp")
    mail = lab.home.send(ALICE)
    lab.settle(mail)

    lab.clock.advance(days=5, minutes=1)
    lab.settle(mail)

    assert mail.bounced(dsn="4.3.2", saying="deferred transport")
    assert not mail.reached(lab.isp)
    (notice,) = lab.home.mailbox("bob")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"
    assert "Diagnostic-Code: X-Postfix; deferred transport" in str(notice)


@pytest.mark.faq("dialup", "6c")
def test_historic_a_wake_up_no_longer_writes_to_the_disk(lab: Lab) -> None:
    """What wakes pickup and qmgr was a FIFO, whose times kept disks awake; now it is a socket."""
    public = [f"/var/spool/postfix/public/{name}" for name in ("pickup", "qmgr")]

    assert lab.home.run("stat", "--format=%F", *public).stdout.split("\n") == [
        "socket",
        "socket",
        "",
    ]


# The provider's side.


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


def ask(who: MailHost, provider: MailHost, domain: str = "example.com") -> Reply:
    """Have a machine ask the provider for the mail of a domain."""
    with who.session(provider) as session:
        session.ehlo()
        return session.etrn(domain)


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
