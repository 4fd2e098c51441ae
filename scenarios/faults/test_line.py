"""A line that is down except for calls, and the traffic of a call."""

import pytest

from maillab import Delivery, Lab
from maillab.faults import Dialup

pytestmark = pytest.mark.topology("dialup")

LINE = Dialup(rate_bit_s=33_600)


def state(lab: Lab) -> str:
    """Return the home's network state."""
    return lab.home.network.state()


def test_symptom_the_phone_rings_for_each_message(lab: Lab) -> None:
    """Without defer_transports Postfix looks up the provider as soon as there is mail."""
    before = state(lab)

    with lab.home.faulty(LINE):
        mail = lab.home.send("alice@example.org")
        lab.settle(mail)
        rang = LINE.rang(lab.home)

    assert rang
    assert mail.deferred(
        dsn="4.4.3", saying="Name service error for name=isp.example.net type=A: Host not found"
    )
    assert state(lab) == before
    lab.home.flush()
    lab.settle(mail, until=mail.delivered_to(lab.remote, "alice"))
    assert mail.delivered_to(lab.remote, "alice")


def test_symptom_mail_waits_for_the_call_and_goes_at_the_lines_pace(lab: Lab) -> None:
    """With defer_transports no packet leaves before a call and sendmail -q."""
    lab.home.configure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        mail = lab.home.send("alice@example.org", size_bytes=8_000)
        home = lab.home.send("bob@example.com")
        lab.settle(mail, home)
        waits = mail.deferred(dsn="4.3.2", saying="deferred transport").now()
        rang = LINE.rang(lab.home)
        with LINE.call(lab.home) as call:
            lab.home.flush()
            lab.settle(mail, until=mail.delivered_to(lab.remote, "alice"))

    assert waits
    assert rang == 0
    assert home.delivered_to(lab.home, "bob")
    assert mail.delivered_to(lab.remote, "alice")
    assert call.bytes_out > 8_000
    assert call.packets_in
    assert not call.lost_packets
    sent = [event for event in lab.events(Delivery, lab.home) if event.status == "sent"][-1]
    transmission_s = float(sent.delays.split("/")[-1])
    # The burst of tbf(8) passes without delay.
    assert transmission_s > (8_000 - 1_600) * 8 / LINE.rate_bit_s


def test_symptom_a_hang_up_in_mid_message_defers_it(lab: Lab) -> None:
    """The next call sends the message once: the server keeps no incomplete message."""
    lab.home.configure(smtp_data_xfer_timeout="3s")

    with lab.home.faulty(LINE), LINE.call(lab.home, hang_up_after_bytes=10_000) as call:
        # Larger than a socket buffer, so that the end is not in transit yet.
        mail = lab.home.send("alice@example.org", size_bytes=3_000_000)
        lab.wait_for(Delivery, host=lab.home)
    saying = f"isp.example.net[{lab.isp.address}] timed out while sending message body"

    assert mail.deferred(dsn="4.4.2", saying=saying)
    assert 0 < call.bytes_out <= 10_000
    assert call.lost_packets
    lab.home.flush()
    lab.settle(mail, until=mail.delivered_to(lab.remote, "alice"))
    assert len(lab.remote.mailbox("alice")) == 1
