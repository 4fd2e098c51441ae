"""Running Postfix on a dialup machine.

The FAQ's answer: send by the provider (relayhost), keep mail in the queue while
the line is down (defer_transports), and say "sendmail -q" when it is up. It
still holds, word for word; who wants nothing on the line but calls must know
what else asks for names: the relay transport, which since 2.0 carries mail for
relay_domains, and the SMTP server, which looks for its clients' names. One message
alone is sent by "postqueue -i", since 2.4. What no setting changes is the five days
that mail may wait at either end (maximal_queue_lifetime). How mail that waits at the
provider is asked for is in test_dialup_provider.py.
"""

import pytest

from maillab.faults import Dialup
from maillab.lab import Lab
from maillab.maillog import Connected, Delivery

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
