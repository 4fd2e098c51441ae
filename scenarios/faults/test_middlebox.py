"""Middleboxes that alter SMTP, in front of a host or on a router."""

from collections.abc import Iterator

import pytest

from maillab import Accepted, Delivery, Disconnected, Event, Lab, PostfixHost
from maillab.faults import ExtensionRewriter, Pix, StarttlsStripper

# The host with the box, the sender and the receiver, in each topology.
BEFORE_THE_HOST = pytest.param("remote", marks=pytest.mark.topology("standalone"))
ON_A_ROUTER = pytest.param("router", marks=pytest.mark.topology("wan"))
anywhere = pytest.mark.parametrize("where", [BEFORE_THE_HOST, ON_A_ROUTER])


class Scene:
    """Sender, receiver, and the host with the box."""

    def __init__(self, lab: Lab, where: str) -> None:
        self.lab = lab
        self.box: PostfixHost = getattr(lab, where)
        self.sender, self.receiver = (
            (lab.sender, lab.receiver) if where == "router" else (lab.mail, lab.remote)
        )
        self.to = "alice@" + self.receiver.fqdn.partition(".")[2]

    @property
    def server(self) -> str:
        """Return the receiver as the sender's Postfix logs it."""
        return f"{self.receiver.fqdn}[{self.receiver.address}]"

    def workarounds(self) -> list[str]:
        """Return the logged PIX workarounds, without the commas of 3.11."""
        return [
            event.text.replace(",", "")
            for event in self.lab.events(Event, self.sender)
            if "PIX workarounds" in event.text
        ]


@pytest.fixture
def scene(lab: Lab, where: str) -> Iterator[Scene]:
    """Check that each box leaves its host's network unchanged."""
    scene_ = Scene(lab, where)
    before = scene_.box.network.state()
    yield scene_
    assert scene_.box.network.state() == before


@anywhere
def test_symptom_a_pix_holds_mail_up_until_postfix_works_around_it(scene: Scene) -> None:
    """The end of data is lost until the mail is older than the threshold, then delayed."""
    scene.sender.configure(
        smtp_data_done_timeout="1s",
        smtp_pix_workaround_threshold_time="1h",
        smtp_pix_workaround_delay_time="1s",
    )
    server = f"{scene.server}:25"

    with scene.box.faulty(Pix(swallows_dot=True)):
        mail = scene.sender.send(scene.to)
        scene.lab.settle(mail)
        held_up = mail.deferred(
            dsn="4.4.2",
            saying=f"conversation with {scene.server} timed out while sending end of data "
            "-- message may be sent more than once",
        )
        assert held_up
        # Now the mail is old enough.
        scene.sender.configure(smtp_pix_workaround_threshold_time="1s")
        scene.sender.flush()
        scene.lab.settle(mail)

    assert mail.delivered_to(scene.receiver, "alice")
    assert [text for text in scene.workarounds() if text.endswith(server)] == [
        f"enabling PIX workarounds: disable_esmtp for {server}",
        f"enabling PIX workarounds: disable_esmtp delay_dotcrlf for {server}",
    ]
    (accepted,) = {event.client_address for event in scene.lab.events(Accepted, scene.receiver)}
    assert accepted == scene.sender.address


@anywhere
def test_symptom_a_pix_without_workarounds_holds_mail_up_for_good(scene: Scene) -> None:
    """EHLO arrives as XXXX, Postfix falls back to HELO, and every attempt fails at the dot."""
    scene.sender.configure(
        smtp_data_done_timeout="1s",
        smtp_pix_workaround_threshold_time="1s",
        smtp_pix_workarounds="",
    )

    with scene.box.faulty(Pix(swallows_dot=True)):
        mail = scene.sender.send(scene.to)
        scene.lab.settle(mail)
        scene.sender.flush()
        scene.lab.settle(mail)

    assert mail.deferred(saying="timed out while sending end of data")
    assert not scene.workarounds()
    first, second = scene.lab.events(Disconnected, scene.receiver)
    assert first.counts["unknown"] == second.counts["unknown"] == (0, 1)
    assert first.counts["helo"] == (1, 1)
    assert first.client_address == scene.sender.address
    scene.sender.flush()
    scene.lab.settle(mail)
    assert mail.delivered_to(scene.receiver, "alice")


@pytest.mark.parametrize("where", [BEFORE_THE_HOST])
def test_symptom_a_pix_loses_the_line_end_of_a_dot_before_it(scene: Scene) -> None:
    """The end of data is lost only if a packet ends between the final dot and its line end."""
    codes = []
    with scene.box.faulty(Pix(masks_banner=False, blocks_esmtp=False)):
        for first, second in (("text", "\r\n."), ("text\r\n", "."), ("text\r\n.", "")):
            with scene.sender.session(scene.receiver, timeout_s=5) as session:
                session.ehlo()
                session.mail("bob@example.com")
                session.rcpt(scene.to)
                session.command("DATA")
                session.say(first)
                codes.append(session.command(second).code)

    assert codes == [250, 250, 0]


@pytest.mark.parametrize("where", [BEFORE_THE_HOST])
def test_symptom_a_masked_banner_alone_costs_esmtp(scene: Scene) -> None:
    """Postfix sends HELO to a server whose banner has asterisks."""
    with scene.box.faulty(Pix(blocks_esmtp=False, swallows_split_dot=False)):
        mail = scene.sender.send(scene.to)
        scene.lab.settle(mail)

    assert mail.delivered_to(scene.receiver, "alice")
    (left,) = scene.lab.events(Disconnected, scene.receiver)
    assert "ehlo" not in left.counts


def tls_is_a_must(scene: Scene) -> None:
    """Make the sender require TLS; the receiver offers it without a certificate."""
    scene.receiver.configure(smtpd_tls_security_level="may", smtpd_tls_cert_file="none")
    scene.sender.configure(smtp_tls_security_level="encrypt")


@anywhere
def test_symptom_starttls_is_not_offered(scene: Scene) -> None:
    """Mail waits and is not sent in clear text."""
    tls_is_a_must(scene)

    with scene.box.faulty(StarttlsStripper()):
        mail = scene.sender.send(scene.to)
        scene.lab.settle(mail)

    saying = f"TLS is required, but was not offered by host {scene.server}"
    assert mail.deferred(dsn="4.7.4", saying=saying)
    scene.sender.flush()
    scene.lab.settle(mail)
    assert mail.delivered_to(scene.receiver, "alice")


@pytest.mark.parametrize("where", [BEFORE_THE_HOST])
def test_symptom_starttls_is_offered_and_unknown(scene: Scene) -> None:
    """The server's 50x reply to the altered command is final, and the mail is returned."""
    tls_is_a_must(scene)

    with scene.box.faulty(StarttlsStripper(offers=True)):
        mail = scene.sender.send(scene.to)
        scene.lab.settle(mail)

    assert mail.bounced(saying=f"TLS is required, but host {scene.server} refused to start TLS: 50")
    again = scene.sender.send(scene.to)
    scene.lab.settle(again)
    assert again.delivered_to(scene.receiver, "alice")


@anywhere
def test_symptom_size_reads_otherwise(scene: Scene) -> None:
    """Postfix returns mail that the server would accept before sending it (RFC 1870)."""
    with scene.box.faulty(ExtensionRewriter("SIZE", becomes="SIZE 1000")):
        mail = scene.sender.send(scene.to, size_bytes=5000)
        scene.lab.settle(mail)

    assert mail.bounced(dsn="5.3.4", saying="exceeds size limit 1000 of server")
    again = scene.sender.send(scene.to, size_bytes=5000)
    scene.lab.settle(again)
    assert again.delivered_to(scene.receiver, "alice")


@pytest.mark.parametrize("where", [BEFORE_THE_HOST])
def test_symptom_one_extension_is_dropped(scene: Scene) -> None:
    """Without DSN the receiver sends no delivery notice (RFC 3461)."""
    with (
        scene.box.faulty(ExtensionRewriter("DSN")),
        scene.lab.client.session(scene.receiver) as session,
    ):
        offered = session.ehlo().text.splitlines()
    mail = scene.sender.send(scene.to)
    scene.lab.settle(mail)

    assert "DSN" not in offered
    assert "8BITMIME" in offered
    assert [attempt.status for attempt in scene.lab.events(Delivery, scene.sender)] == ["sent"]
