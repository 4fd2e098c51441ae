"""Running Postfix on a dialup machine.

Send mail through the provider (relayhost), keep it in the queue while the line is down
(defer_transports = smtp, relay), and run "sendmail -q" when the line is up. To keep the
line silent between calls, also set smtpd_peername_lookup = no: the SMTP server looks up
its clients' names. Raise maximal_queue_lifetime if calls are days apart: mail returns to
its sender after five.

For fetching mail that waits at the provider see test_dialup_provider.py.

Since the FAQ:
- 2.0: the transport relay carries mail for relay_domains, so defer it, too.
- 2.4: "postqueue -i" sends a single message.
"""

import pytest

from maillab import Connected, Delivery, Lab
from maillab.faults import Dialup

pytestmark = pytest.mark.topology("dialup")

LINE = Dialup(rate_bit_s=33_600)
ALICE, BOB = "alice@example.org", "bob@example.com"
NO_NAME = "Name service error for name=isp.example.net type=A: Host not found, try again"


def attempts(lab: Lab, to: str) -> list[str]:
    """Return the outcome of each attempt to deliver to a recipient."""
    return [event.status for event in lab.events(Delivery, lab.home) if event.to == to]


@pytest.mark.faq("dialup", "6a")
def test_symptom_new_mail_rings_the_phone(lab: Lab) -> None:
    """Postfix looks up the provider's address as soon as there is mail for it."""
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
    """By default Postfix retries after 5 minutes, then each time the mail's age has doubled."""
    lab.home.configure(defer_transports="smtp")
    lab.home.misconfigure(defer_transports="")

    rang = []
    with lab.home.faulty(LINE):
        mail = lab.home.send(ALICE)
        lab.settle(mail)
        # At an age of 4, 6, 11 and 13 minutes.
        for minutes in (4, 2, 5, 2):
            before = LINE.rang(lab.home)
            lab.clock.advance(minutes=minutes)
            lab.settle(mail)
            rang.append(LINE.rang(lab.home) > before)

    assert rang == [False, True, False, True]
    assert attempts(lab, ALICE) == ["deferred"] * 3


@pytest.mark.faq("dialup", "6b", "6c")
def test_cure_mail_waits_for_the_call(lab: Lab) -> None:
    """With defer_transports no packet leaves before the call; a flush sends the queue."""
    lab.home.configure(defer_transports="")
    lab.home.cure.configure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        mail = lab.home.send(ALICE)
        lab.settle(mail)
        rang = LINE.rang(lab.home)
        waits = mail.deferred(dsn="4.3.2", saying="deferred transport").now()
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
    """On default settings mail waits for four days, is retried now and then and never dials."""
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
    """Only the named transports are deferred; the queue shows which mail, and why."""
    lab.home.cure.configure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        away, here = lab.home.send(ALICE), lab.home.send("carol@example.com")
        lab.settle(away, here)
        rang = LINE.rang(lab.home)
        (waiting,) = lab.home.queue()
        with LINE.call(lab.home) as call:
            lab.home.flush()
            lab.settle(away)

    assert rang == 0
    assert call.packets_out
    assert here.delivered_to(lab.home, mailbox="carol")
    assert waiting.recipients == (ALICE,)
    assert waiting.reasons == ("deferred transport",)


@pytest.mark.faq("dialup", "6b")
def test_symptom_mail_for_a_relay_domain_rings_all_the_same(lab: Lab) -> None:
    """Mail for a relay domain uses the transport relay; only smtp is deferred."""
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
    """Postfix looks up the name of each SMTP client, in DNS across the line."""
    lab.home.configure(defer_transports="smtp", smtpd_peername_lookup="no")
    lab.home.misconfigure(smtpd_peername_lookup="yes")

    with lab.home.faulty(LINE):
        mail = lab.home.smtp("carol@example.com", server=lab.home)
        lab.settle(mail)
        rang = LINE.rang(lab.home)

    assert rang
    assert mail.delivered_to(lab.home, mailbox="carol")


@pytest.mark.faq("dialup", "6b")
def test_cure_clients_go_by_their_addresses(lab: Lab) -> None:
    """With smtpd_peername_lookup off SMTP mail arrives without a packet on the line."""
    lab.home.configure(defer_transports="smtp", smtpd_peername_lookup="yes")
    lab.home.cure.configure(smtpd_peername_lookup="no")

    with lab.home.faulty(LINE):
        mail = lab.home.smtp(ALICE, server=lab.home, sender=BOB)
        lab.settle(mail)
        rang = LINE.rang(lab.home)
        with LINE.call(lab.home):
            lab.home.flush()
            lab.settle(mail)

    assert rang == 0
    assert {event.client_name for event in lab.events(Connected, lab.home)} == {"unknown"}
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6c")
def test_behaviour_sendmail_q_sends_what_waits(lab: Lab) -> None:
    """The FAQ's command overrides defer_transports for one queue run."""
    lab.home.configure(defer_transports="smtp")
    mail = lab.home.send(ALICE)
    lab.settle(mail)

    lab.home.run("sendmail", "-q")
    lab.wait_for(Delivery, host=lab.home, saying="status=sent")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6c")
def test_behaviour_a_call_alone_sends_nothing(lab: Lab) -> None:
    """Postfix cannot see that the line is up; mail that arrives after the flush waits."""
    lab.home.cure.configure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        first = lab.home.send(ALICE)
        lab.settle(first)
        with LINE.call(lab.home) as unused:
            lab.settle(first)
        with LINE.call(lab.home) as used:
            lab.home.flush()
            lab.settle(first)
            second = lab.home.send(ALICE)
            lab.settle(second)

    assert unused.packets_out == 0
    assert used.packets_out
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
    """A flush tries the mail, which stays deferred; without DNS the connection times out."""
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
        waits = mail.deferred(dsn=dsn, saying=saying).now()
        with LINE.call(lab.home):
            lab.home.flush()
            lab.settle(mail)

    assert waits
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6c")
def test_behaviour_postqueue_i_sends_one_message(lab: Lab) -> None:
    """Urgent mail leaves with this call, and the rest waits."""
    lab.home.configure(defer_transports="smtp")
    urgent, other = lab.home.send(ALICE), lab.home.send(ALICE)
    lab.settle(urgent, other)

    lab.home.cure.flush(queue_id=urgent.journey.legs[0].queue_id)
    lab.settle(urgent)

    assert urgent.delivered_to(lab.remote, mailbox="alice")
    assert other.deferred(dsn="4.3.2", saying="deferred transport")


@pytest.mark.faq("dialup", "6c")
def test_behaviour_mail_is_returned_after_five_days_without_a_call(lab: Lab) -> None:
    """Deferring a transport does not extend maximal_queue_lifetime."""
    lab.home.misconfigure(defer_transports="smtp")
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
def test_cure_mail_waits_longer_for_a_call(lab: Lab) -> None:
    """With maximal_queue_lifetime=30d mail still waits after a month less a day."""
    lab.home.configure(defer_transports="smtp", maximal_queue_lifetime="5d")
    lab.home.cure.configure(maximal_queue_lifetime="30d")
    mail = lab.home.send(ALICE)
    lab.settle(mail)

    lab.clock.advance(days=29)
    lab.settle(mail)
    waits = mail.held_by(lab.home).now()
    lab.home.flush()
    lab.settle(mail)

    assert waits
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("dialup", "6c")
def test_historic_a_wake_up_no_longer_writes_to_the_disk(lab: Lab) -> None:
    """Postfix wakes pickup and qmgr by socket now; the FIFOs' timestamps kept disks awake."""
    public = [f"/var/spool/postfix/public/{name}" for name in ("pickup", "qmgr")]

    assert lab.home.run("stat", "--format=%F", *public).stdout.split("\n") == [
        "socket",
        "socket",
        "",
    ]
