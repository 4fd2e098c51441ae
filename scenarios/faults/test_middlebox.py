"""Boxes on the way that meddle with SMTP, before the host or on a router."""

from collections.abc import Iterator

import pytest

from maillab.faults import ExtensionRewriter, Pix, StarttlsStripper
from maillab.lab import Lab
from maillab.maillog import Accepted, Delivery, Disconnected, Event
from maillab.postfix import MailHost

# The host in whose way the box stands, the sender and the receiver, in each topology.
BEFORE_THE_HOST = pytest.param("remote", marks=pytest.mark.topology("standalone"))
ON_A_ROUTER = pytest.param("router", marks=pytest.mark.topology("wan"))
anywhere = pytest.mark.parametrize("where", [BEFORE_THE_HOST, ON_A_ROUTER])


class Scene:
    """Who sends, who receives, and where the box is."""

    def __init__(self, lab: Lab, where: str) -> None:
        self.lab = lab
        self.box: MailHost = getattr(lab, where)
        self.sender, self.receiver = (
            (lab.sender, lab.receiver) if where == "router" else (lab.mail, lab.remote)
        )
        self.to = "alice@" + self.receiver.fqdn.partition(".")[2]

    @property
    def server(self) -> str:
        """The receiver as the sender's Postfix logs it."""
        return f"{self.receiver.fqdn}[{self.receiver.address}]"

    def workarounds(self) -> list[str]:
        """What Postfix said it does about a PIX; only 3.11 has commas in it."""
        return [
            event.text.replace(",", "")
            for event in self.lab.events(Event, self.sender)
            if "PIX workarounds" in event.text
        ]


@pytest.fixture
def scene(lab: Lab, where: str) -> Iterator[Scene]:
    """Each box leaves the network where it stood as it was."""
    it = Scene(lab, where)
    before = it.box.agent.call("netstate")["text"]
    yield it
    assert it.box.agent.call("netstate")["text"] == before


@anywhere
def test_symptom_a_pix_holds_mail_up_until_postfix_works_around_it(scene: Scene) -> None:
    """The end of data is lost until the mail is older than the threshold; then it is delayed."""
    scene.sender.configure(
        smtp_data_done_timeout="1s",
        smtp_pix_workaround_threshold_time="1h",
        smtp_pix_workaround_delay_time="1s",
    )
    server = f"{scene.server}:25"

    with scene.box.faulty(Pix()):
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
    (accepted,) = {one.client_address for one in scene.lab.events(Accepted, scene.receiver)}
    assert accepted == scene.sender.address


@anywhere
def test_symptom_a_pix_without_workarounds_holds_mail_up_for_good(scene: Scene) -> None:
    """EHLO comes out as XXXX, so it is HELO then, and every attempt ends at the dot."""
    scene.sender.configure(
        smtp_data_done_timeout="1s",
        smtp_pix_workaround_threshold_time="1s",
        smtp_pix_workarounds="",
    )

    with scene.box.faulty(Pix()):
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
def test_symptom_a_masked_banner_alone_costs_esmtp(scene: Scene) -> None:
    """Postfix greets with HELO who shows stars."""
    with scene.box.faulty(Pix(blocks_esmtp=False, swallows_dot=False)):
        mail = scene.sender.send(scene.to)
        scene.lab.settle(mail)

    assert mail.delivered_to(scene.receiver, "alice")
    (left,) = scene.lab.events(Disconnected, scene.receiver)
    assert "ehlo" not in left.counts


def tls_is_a_must(scene: Scene) -> None:
    """The sender insists on TLS; the receiver does it without a certificate."""
    scene.receiver.configure(smtpd_tls_security_level="may", smtpd_tls_cert_file="none")
    scene.sender.configure(smtp_tls_security_level="encrypt")


@anywhere
def test_symptom_starttls_is_not_offered(scene: Scene) -> None:
    """Mail waits rather than go in clear text."""
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
    """The server's 500 to the command it got instead is final, so the mail is returned."""
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
    """Mail that the server would take is returned before it is sent (RFC 1870)."""
    with scene.box.faulty(ExtensionRewriter("SIZE", becomes="SIZE 1000")):
        mail = scene.sender.send(scene.to, size_bytes=5000)
        scene.lab.settle(mail)

    assert mail.bounced(dsn="5.3.4", saying="exceeds size limit 1000 of server")
    again = scene.sender.send(scene.to, size_bytes=5000)
    scene.lab.settle(again)
    assert again.delivered_to(scene.receiver, "alice")


@pytest.mark.parametrize("where", [BEFORE_THE_HOST])
def test_symptom_one_extension_is_dropped(scene: Scene) -> None:
    """Without DSN there is no notice of a delivery from the receiver (RFC 3461)."""
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
