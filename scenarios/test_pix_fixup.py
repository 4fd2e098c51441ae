"""Cisco PIX fixup protocol smtp bug.

An old Cisco PIX firewall with "fixup protocol smtp" loses the end of a message whose final
dot and line end come in separate packets (bug CSCds90792), so mail of certain sizes fails at
the end of data each time. Leave smtp_pix_workarounds at its default: Postfix recognizes the
firewall by the asterisks in its greeting, does not use ESMTP, and pauses before it sends the
final dot if mail has waited for 500 seconds. If asterisks alone cost TLS, exempt the server
in smtp_pix_workaround_maps, by address.

The boxes are gone; the workarounds are on by default all the same.

Postfix writes four TCP segments at once, and the bug needs a final dot that ends such a
write. The box in these scenarios has that bug: the packet filter drops the packet with the
line end, and the server, too, waits until its own timeout. One scenario has a stricter box as
well, which loses each end of data that does not come in a packet of its own.

Since the FAQ:
- 2.4: smtp_pix_workarounds for all servers, smtp_pix_workaround_maps for some.
"""

import pytest

from maillab import Active, Delivery, Disconnected, Event, Lab
from maillab.faults import Pix

pytestmark = pytest.mark.topology("wan")

ALICE = "alice@example.org"
ALL = "disable_esmtp, delay_dotcrlf"
# These timeouts run in real time, whatever the lab's clock says.
SOON = {"smtp_data_done_timeout": "1s", "smtp_pix_workaround_delay_time": "1s"}
# A TCP payload of three bytes, the dot and its line end; no SMTP command is that short.
PAYLOAD = "ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2)"
DOT_ALONE = f"dst port 25 and {PAYLOAD} = 3"
# One of two bytes, the line end alone.
LINE_END_ALONE = f"dst port 25 and {PAYLOAD} = 2"
# The MTU of the sender's route, and the bytes of a message that smtp(8) then writes at once:
# four segments without the 52 bytes of IP and TCP headers. (Versions 3.5 and 3.10, by strace.)
MTU_BYTES = 1400
WRITE_BYTES = 4 * (MTU_BYTES - 52)
LINE_BYTES = 64


def receiver(lab: Lab) -> str:
    """Return the server as the sender's Postfix logs it."""
    return f"receiver.example.org[{lab.receiver.address}]"


def timed_out(lab: Lab) -> str:
    """Return the log text for a message whose end the box has lost."""
    return (
        f"conversation with {receiver(lab)} timed out while sending end of data "
        "-- message may be sent more than once"
    )


def workarounds(lab: Lab) -> list[str]:
    """Return the workarounds logged for each attempt."""
    before, after = "enabling PIX workarounds: ", f" for {receiver(lab)}:25"
    texts = [event.text for event in lab.events(Event, lab.sender)]
    return [
        text.removeprefix(before).removesuffix(after) for text in texts if text.startswith(before)
    ]


def both(lab: Lab) -> str:
    """Return both workarounds as smtp(8) logs them."""
    separator = ", " if lab.has("PIX workarounds with commas") else " "
    return separator.join(("disable_esmtp", "delay_dotcrlf"))


def attempts(lab: Lab) -> list[str]:
    """Return the status of each of the sender's attempts."""
    return [event.status for event in lab.events(Delivery, lab.sender) if event.to == ALICE]


def prepare_split_dot(lab: Lab, beyond: int = 0, *, server_timeout_s: int = 6) -> str:
    """Return a body whose final dot ends a write of smtp(8); ``beyond`` moves the dot.

    The server's timeout ends a session that lost the line end: the server does not see its
    client leave. A message to a local user measures what the body does not contain:
    qmgr(8) logs the size as SMTP sends it, with line ends of two bytes.
    """
    lab.receiver.configure(smtpd_timeout=f"{server_timeout_s}s")
    lab.sender.limit_mtu(lab.receiver.address, MTU_BYTES)
    lab.settle(lab.sender.send("carol@example.net", body="x"))
    size = lab.events(Active, lab.sender)[0].size
    missing = WRITE_BYTES - len(".") + beyond - size
    whole, rest = divmod(missing, LINE_BYTES)
    lines = [LINE_BYTES] * (whole - 1) + [LINE_BYTES + rest]
    return "\n".join(["x", *("y" * (line - len("\r\n")) for line in lines)])


@pytest.mark.faq("pix-fixup", "20a")
@pytest.mark.parametrize(
    ("beyond", "held_up"),
    [(-len("\r\n"), False), (0, True), (1, False)],
    ids=["with-the-message", "split", "on-its-own"],
)
def test_symptom_only_mail_of_one_size_is_held_up(lab: Lab, beyond: int, *, held_up: bool) -> None:
    """The end of a message is lost only where a packet ends between the dot and its line end."""
    lab.sender.configure(**SOON)
    text = prepare_split_dot(lab, beyond)

    with lab.router.faulty(Pix()):
        lab.capture()
        mail = lab.sender.send(ALICE, body=text)
        lab.settle(mail)
        lab.captured()

    assert workarounds(lab) == ["disable_esmtp"]
    assert attempts(lab) == ["deferred" if held_up else "sent"]
    assert bool(lab.sender.network.packets(LINE_END_ALONE)) is held_up


@pytest.mark.faq("pix-fixup", "20a")
def test_symptom_fresh_mail_is_held_up(lab: Lab) -> None:
    """The end of a message never arrives; Postfix sees the asterisks and uses HELO."""
    lab.sender.configure(**SOON)
    text = prepare_split_dot(lab)

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE, body=text)
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
@pytest.mark.parametrize(
    "box", [Pix(), Pix(swallows_dot=True)], ids=["as-the-faq-tells", "stricter"]
)
def test_cure_older_mail_ends_in_a_packet_of_its_own(lab: Lab, box: Pix) -> None:
    """Past the threshold Postfix pauses before the dot, and the box forwards it."""
    lab.sender.configure(**SOON, smtp_pix_workarounds="")
    lab.sender.cure.configure(smtp_pix_workarounds=ALL)
    text = prepare_split_dot(lab)
    lab.capture()

    with lab.router.faulty(box):
        mail = lab.sender.send(ALICE, body=text)
        lab.settle(mail)
        lab.clock.advance(minutes=10)
        lab.settle(mail)
        lab.captured()

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert workarounds(lab) == ["disable_esmtp", both(lab)]
    assert len(lab.sender.network.packets(DOT_ALONE)) == 1
    assert len(lab.receiver.mailbox("alice")) == 1


@pytest.mark.faq("pix-fixup", "20a")
def test_behaviour_on_default_settings_the_third_attempt_gets_through(lab: Lab) -> None:
    """The first retry is within the threshold of 500 seconds; the next one is past it.

    The test takes over eleven seconds: Postfix pauses for ten before the dot. Only the
    ten-minute timeout for the final reply is not the default.
    """
    lab.sender.configure(smtp_data_done_timeout="1s")
    # Longer than the client pauses.
    text = prepare_split_dot(lab, server_timeout_s=12)

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE, body=text)
        lab.settle(mail)
        for minutes in (6, 11):
            lab.clock.advance(minutes=minutes)
            lab.settle(mail)

    assert attempts(lab) == ["deferred", "deferred", "sent"]
    assert workarounds(lab) == ["disable_esmtp"] * 2 + [both(lab)]
    transmission_s = float(lab.events(Delivery, lab.sender)[-1].delays.split("/")[-1])
    assert transmission_s >= 10
    assert mail.delivered_to(lab.receiver, mailbox="alice")


@pytest.mark.faq("pix-fixup", "20b")
def test_symptom_without_workarounds_no_attempt_gets_through(lab: Lab) -> None:
    """With default retry times Postfix tries for five days, then returns the mail."""
    lab.sender.configure(smtp_data_done_timeout="1s", smtp_pix_workarounds=ALL)
    lab.sender.misconfigure(smtp_pix_workarounds="")
    text = prepare_split_dot(lab)

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE, body=text)
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
        # The box turns EHLO into XXXX, so Postfix falls back to HELO.
        assert session.counts["unknown"] == (0, 1)
        assert session.counts["helo"] == (1, 1)


@pytest.mark.faq("pix-fixup", "20c")
def test_cure_workarounds_for_one_server(lab: Lab) -> None:
    """A server's entry in smtp_pix_workaround_maps, by address, overrides the setting."""
    lab.sender.configure(**SOON, smtp_pix_workarounds="")
    pixes = lab.sender.cure.table("pixes", {lab.receiver.address: ALL})
    lab.sender.cure.configure(smtp_pix_workaround_maps=pixes)
    text = prepare_split_dot(lab)

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE, body=text)
        lab.settle(mail)
        lab.clock.advance(minutes=10)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert workarounds(lab) == ["disable_esmtp", both(lab)]


@pytest.mark.faq("pix-fixup", "20c")
def test_symptom_one_server_is_left_out(lab: Lab) -> None:
    """An entry can also remove workarounds, and mail is then never delivered."""
    lab.sender.configure(**SOON)
    pixes = lab.sender.table("pixes", {lab.receiver.address: "disable_esmtp"})
    lab.sender.misconfigure(smtp_pix_workaround_maps=pixes)
    text = prepare_split_dot(lab)

    with lab.router.faulty(Pix()):
        mail = lab.sender.send(ALICE, body=text)
        lab.settle(mail)
        lab.clock.advance(minutes=10)
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.2", saying=timed_out(lab))
    assert workarounds(lab) == ["disable_esmtp", "disable_esmtp"]


@pytest.mark.faq("pix-fixup", "20c")
@pytest.mark.parametrize("key", ["receiver.example.org", "example.org"])
def test_behaviour_names_are_not_looked_up(lab: Lab, key: str) -> None:
    """Neither the server's name nor the mail's domain matches an entry."""
    pixes = lab.sender.table("pixes", {key: "delay_dotcrlf"})
    lab.sender.configure(smtp_pix_workaround_maps=pixes)

    with lab.router.faulty(Pix(blocks_esmtp=False, swallows_split_dot=False)):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert workarounds(lab) == ["disable_esmtp"]


# A box that only masks the banner.
STARS = Pix(blocks_esmtp=False, swallows_split_dot=False)


@pytest.mark.faq("pix-fixup", "20c")
def test_symptom_stars_alone_cost_tls(lab: Lab) -> None:
    """Without ESMTP there is no STARTTLS, and mail that requires TLS waits."""
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
    """With an entry for the server Postfix uses ESMTP and TLS with it."""
    lab.receiver.configure(smtpd_tls_security_level="may", smtpd_tls_cert_file="none")
    lab.sender.configure(smtp_tls_security_level="encrypt")
    stars = lab.sender.cure.table("stars", {lab.receiver.address: "delay_dotcrlf"})
    lab.sender.cure.configure(smtp_pix_workaround_maps=stars)

    with lab.router.faulty(STARS):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    # Postfix logs an empty list: the message is too new for a delay.
    assert workarounds(lab) == [""]
    (session,) = lab.events(Disconnected, lab.receiver)
    assert session.counts["starttls"] == (1, 1)


@pytest.mark.faq("pix-fixup", "20a")
def test_behaviour_the_workarounds_are_still_the_default(lab: Lab) -> None:
    """Every version still looks for asterisks by default."""
    assert lab.sender.postconf("smtp_pix_workarounds") == "disable_esmtp,delay_dotcrlf"
    assert lab.sender.postconf("smtp_pix_workaround_threshold_time") == "500s"
    assert lab.sender.postconf("smtp_pix_workaround_delay_time") == "10s"
