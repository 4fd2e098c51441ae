"""Cisco PIX fixup protocol smtp bug.

The FAQ's answer: a Cisco PIX firewall of old software, with "fixup protocol
smtp", loses the end of a message whose final dot and line end do not come in a
packet of their own; Postfix knows it by the stars in its greeting, speaks no
ESMTP to it, and once mail has waited for 500 seconds, sends the dot alone after
a pause of 10. All of that is still so, and still on by default, though the boxes
are gone; 2.4 made it a choice, for all servers (smtp_pix_workarounds) or for some
(smtp_pix_workaround_maps, by address). What it costs today: a greeting of stars
is enough to lose TLS.
"""

import pytest

from maillab.faults import Pix
from maillab.lab import Lab
from maillab.maillog import Delivery, Disconnected, Event

pytestmark = pytest.mark.topology("wan")

ALICE = "alice@example.org"
ALL = "disable_esmtp, delay_dotcrlf"
# How long a message is held up is a matter of real time, whatever the lab's clock says.
SOON = {"smtp_data_done_timeout": "1s", "smtp_pix_workaround_delay_time": "1s"}
# A TCP payload of three bytes, the dot and its line end; no SMTP command is that short.
DOT_ALONE = "dst port 25 and ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) = 3"


def receiver(lab: Lab) -> str:
    """The server as the sender's Postfix logs it."""
    return f"receiver.example.org[{lab.receiver.address}]"


def timed_out(lab: Lab) -> str:
    """What becomes of a message whose end the box has swallowed."""
    return (
        f"conversation with {receiver(lab)} timed out while sending end of data "
        "-- message may be sent more than once"
    )


def workarounds(lab: Lab) -> list[str]:
    """What Postfix did about a PIX, attempt by attempt; 3.11 has commas in its lines."""
    before, after = "enabling PIX workarounds: ", f" for {receiver(lab)}:25"
    texts = [one.text.replace(",", "") for one in lab.events(Event, lab.sender)]
    return [
        text.removeprefix(before).removesuffix(after) for text in texts if text.startswith(before)
    ]


def attempts(lab: Lab) -> list[str]:
    """How the sender's attempts ended."""
    return [one.status for one in lab.events(Delivery, lab.sender) if one.to == ALICE]


@pytest.mark.faq("pix-fixup", "20a")
def test_symptom_fresh_mail_is_held_up(lab: Lab) -> None:
    """The end of a message never arrives; Postfix has seen the stars, and uses HELO."""
    lab.sender.configure(**SOON)

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)
        lab.sender.flush()
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.2", saying=timed_out(lab))
    assert attempts(lab) == ["deferred", "deferred"]
    assert workarounds(lab) == ["disable_esmtp", "disable_esmtp"]
    for session in lab.events(Disconnected, lab.receiver):
        assert session.counts["helo"] == (1, 1)
        assert "ehlo" not in session.counts
    assert not lab.receiver.mailbox("alice")


@pytest.mark.faq("pix-fixup", "20a")
def test_cure_older_mail_ends_in_a_packet_of_its_own(lab: Lab) -> None:
    """Past the threshold Postfix pauses before the dot, and the box lets it pass."""
    lab.sender.configure(**SOON, smtp_pix_workarounds="")
    lab.sender.cure.configure(smtp_pix_workarounds=ALL)
    lab.capture()

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)
        lab.clock.advance(minutes=10)
        lab.settle(mail)
        lab.captured()

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert workarounds(lab) == ["disable_esmtp", "disable_esmtp delay_dotcrlf"]
    assert len(lab.sender.packets(DOT_ALONE)) == 1
    assert len(lab.receiver.mailbox("alice")) == 1


@pytest.mark.faq("pix-fixup", "20a")
def test_behaviour_on_default_settings_the_third_attempt_gets_through(lab: Lab) -> None:
    """The retry after 5 minutes is within the threshold of 500 seconds, the next beyond it.

    Eleven seconds and more: Postfix pauses for ten before the dot. Only the
    timeout of ten minutes for the final reply is not left as it is.
    """
    lab.sender.configure(smtp_data_done_timeout="1s")

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)
        for minutes in (6, 11):
            lab.clock.advance(minutes=minutes)
            lab.settle(mail)

    assert attempts(lab) == ["deferred", "deferred", "sent"]
    assert workarounds(lab) == ["disable_esmtp"] * 2 + ["disable_esmtp delay_dotcrlf"]
    transmission_s = float(lab.events(Delivery, lab.sender)[-1].delays.split("/")[-1])
    assert transmission_s >= 10
    assert mail.delivered_to(lab.receiver, mailbox="alice")


@pytest.mark.faq("pix-fixup", "20b")
def test_symptom_without_workarounds_no_attempt_gets_through(lab: Lab) -> None:
    """Mail is tried for five days on default settings, and returned."""
    lab.sender.configure(smtp_data_done_timeout="1s", smtp_pix_workarounds=ALL)
    lab.sender.misconfigure(smtp_pix_workarounds="")

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)
        for minutes in (6, 11):
            lab.clock.advance(minutes=minutes)
            lab.settle(mail)
        lab.clock.advance(days=5)
        lab.settle(mail)

    assert mail.bounced(dsn="4.4.2", saying=timed_out(lab))
    assert attempts(lab) == ["deferred"] * 4
    assert not workarounds(lab)
    (notice,) = lab.sender.mailbox("bob")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"
    for session in lab.events(Disconnected, lab.receiver):
        # The box makes XXXX of EHLO, so that Postfix falls back by itself.
        assert session.counts["unknown"] == (0, 1)
        assert session.counts["helo"] == (1, 1)


@pytest.mark.faq("pix-fixup", "20c")
def test_cure_workarounds_for_one_server(lab: Lab) -> None:
    """A server's entry in smtp_pix_workaround_maps, by address, counts before the setting."""
    lab.sender.configure(**SOON, smtp_pix_workarounds="")
    pixes = lab.sender.cure.table("pixes", {lab.receiver.address: ALL})
    lab.sender.cure.configure(smtp_pix_workaround_maps=pixes)

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)
        lab.clock.advance(minutes=10)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert workarounds(lab) == ["disable_esmtp", "disable_esmtp delay_dotcrlf"]


@pytest.mark.faq("pix-fixup", "20c")
def test_symptom_one_server_is_left_out(lab: Lab) -> None:
    """An entry may take workarounds away, too, and mail is held up for good."""
    lab.sender.configure(**SOON)
    pixes = lab.sender.table("pixes", {lab.receiver.address: "disable_esmtp"})
    lab.sender.misconfigure(smtp_pix_workaround_maps=pixes)

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)
        lab.clock.advance(minutes=10)
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.2", saying=timed_out(lab))
    assert workarounds(lab) == ["disable_esmtp", "disable_esmtp"]


@pytest.mark.faq("pix-fixup", "20c")
@pytest.mark.parametrize("key", ["receiver.example.org", "example.org"])
def test_behaviour_names_are_not_looked_up(lab: Lab, key: str) -> None:
    """Neither the server's name nor the mail's domain finds an entry."""
    pixes = lab.sender.table("pixes", {key: "delay_dotcrlf"})
    lab.sender.configure(smtp_pix_workaround_maps=pixes)

    with lab.router.faulty(Pix(blocks_esmtp=False, swallows_dot=False)):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert workarounds(lab) == ["disable_esmtp"]


# The box of which only the stars are left.
STARS = Pix(blocks_esmtp=False, swallows_dot=False)


@pytest.mark.faq("pix-fixup", "20c")
def test_symptom_stars_alone_cost_tls(lab: Lab) -> None:
    """Without ESMTP there is no STARTTLS, and mail that needs it waits for good."""
    lab.receiver.configure(smtpd_tls_security_level="may", smtpd_tls_cert_file="none")
    lab.sender.configure(smtp_tls_security_level="encrypt", smtp_pix_workarounds="")
    lab.sender.misconfigure(smtp_pix_workarounds=ALL)

    with lab.router.faulty(STARS):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)

    saying = f"TLS is required, but was not offered by host {receiver(lab)}"
    assert mail.deferred(dsn="4.7.4", saying=saying)
    assert workarounds(lab) == ["disable_esmtp"]


@pytest.mark.faq("pix-fixup", "20c")
def test_cure_no_workarounds_for_stars_alone(lab: Lab) -> None:
    """With an entry of its own that server is spoken to in ESMTP, and so in TLS."""
    lab.receiver.configure(smtpd_tls_security_level="may", smtpd_tls_cert_file="none")
    lab.sender.configure(smtp_tls_security_level="encrypt")
    stars = lab.sender.cure.table("stars", {lab.receiver.address: "delay_dotcrlf"})
    lab.sender.cure.configure(smtp_pix_workaround_maps=stars)

    with lab.router.faulty(STARS):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    # It says so and does nothing, the message being fresh.
    assert workarounds(lab) == [""]
    (session,) = lab.events(Disconnected, lab.receiver)
    assert session.counts["starttls"] == (1, 1)


@pytest.mark.faq("pix-fixup", "20a")
def test_behaviour_the_workarounds_are_still_the_default(lab: Lab) -> None:
    """Twenty years on every version looks out for stars."""
    assert lab.sender.postconf("smtp_pix_workarounds") == "disable_esmtp,delay_dotcrlf"
    assert lab.sender.postconf("smtp_pix_workaround_threshold_time") == "500s"
    assert lab.sender.postconf("smtp_pix_workaround_delay_time") == "10s"
