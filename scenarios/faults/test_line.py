"""A line that is down but for calls, and what a call carries."""

import pytest

from maillab.faults import Dialup
from maillab.lab import Lab
from maillab.maillog import Delivery

pytestmark = pytest.mark.topology("dialup")

LINE = Dialup(rate_bit_s=33_600)


def state(lab: Lab) -> str:
    """The home's network as it is."""
    return str(lab.home.agent.call("netstate")["text"])


def test_symptom_the_phone_rings_for_each_message(lab: Lab) -> None:
    """Without defer_transports Postfix looks for the provider as soon as mail is there."""
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
    """With defer_transports no packet leaves until somebody calls and says sendmail -q."""
    lab.home.configure(defer_transports="smtp")

    with lab.home.faulty(LINE):
        mail = lab.home.send("alice@example.org", size_bytes=8_000)
        home = lab.home.send("bob@example.com")
        lab.settle(mail, home)
        waits = bool(mail.deferred(dsn="4.3.2", saying="deferred transport"))
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
    sent = [one for one in lab.events(Delivery, lab.home) if one.status == "sent"][-1]
    transmission_s = float(sent.delays.split("/")[-1])
    # What tbf(8) lets through at once, its burst, costs no time.
    assert transmission_s > (8_000 - 1_600) * 8 / LINE.rate_bit_s


def test_symptom_a_hang_up_in_mid_message_defers_it(lab: Lab) -> None:
    """It goes with the next call, once: of a message without its end nothing is kept."""
    lab.home.configure(smtp_data_xfer_timeout="3s")

    with lab.home.faulty(LINE), LINE.call(lab.home, hang_up_after_bytes=10_000) as call:
        # Larger than what a socket takes at once, so that its end is not under way.
        mail = lab.home.send("alice@example.org", size_bytes=3_000_000)
        lab.wait_for(Delivery, host=lab.home)
    saying = f"isp.example.net[{lab.isp.address}] timed out while sending message body"

    assert mail.deferred(dsn="4.4.2", saying=saying)
    assert 0 < call.bytes_out <= 10_000
    assert call.lost_packets
    lab.home.flush()
    lab.settle(mail, until=mail.delivered_to(lab.remote, "alice"))
    assert len(lab.remote.mailbox("alice")) == 1
