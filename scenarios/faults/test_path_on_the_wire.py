"""Path faults in a packet capture: a second, independent witness."""

from dataclasses import replace

import pytest

from maillab import Fault, Lab
from maillab.faults import (
    MtuBlackHole,
    Netem,
    Partition,
    Refused,
    ResetInSession,
    SilentDrop,
    SmallMtu,
    Unreachable,
)

pytestmark = [pytest.mark.topology("wan"), pytest.mark.usefixtures("without_a_trace")]

BIG_BYTES = 64_000
RESET = "src port 25 and tcp[tcpflags] & tcp-rst != 0"
ANSWER = "src port 25 and tcp[tcpflags] & tcp-syn != 0"
SYN = "dst port 25 and tcp[tcpflags] == tcp-syn"
BIG = "dst port 25 and ip[2:2] > 576"


@pytest.mark.parametrize(
    ("fault", "role", "seen", "unseen"),
    [
        (Refused(), "router", RESET, ANSWER),
        (Unreachable(), "router", "icmp[0] == 3 and icmp[1] == 1", ANSWER),
        (SilentDrop(), "receiver", SYN, ANSWER),
        (Partition(), "receiver", SYN, ANSWER),
        (Partition(direction="out"), "receiver", SYN, ANSWER),
        (ResetInSession(bytes_before=9000), "router", RESET, "icmp"),
    ],
    ids=["refused", "unreachable", "silent-drop", "partition", "one-way", "reset"],
)
def test_symptom_a_capture_shows_what_the_server_does(
    impatient: Lab, fault: Fault, role: str, seen: str, unseen: str
) -> None:
    """A capture confirms the fault independently."""
    lab = impatient
    if isinstance(fault, Partition):
        fault = replace(fault, peer=lab.sender.address)
    lab.capture()
    with lab.receiver.faulty(fault):
        lab.settle(lab.sender.send("alice@example.org", size_bytes=BIG_BYTES))
        lab.captured()

    assert lab.hosts[role].network.packets(seen)
    assert not lab.sender.network.packets(unseen)


def test_symptom_a_capture_shows_the_black_hole(impatient: Lab) -> None:
    """Big packets leave the sender and never arrive; no ICMP comes back."""
    lab = impatient
    lab.capture()
    with lab.router.faulty(MtuBlackHole(lab.receiver.address)):
        lab.settle(lab.sender.send("alice@example.org", size_bytes=BIG_BYTES))
        lab.captured()

    assert lab.sender.network.packets(BIG)
    assert not lab.sender.network.packets("icmp")
    assert not lab.receiver.network.packets(BIG)


def test_symptom_a_capture_shows_the_small_mtu(lab: Lab) -> None:
    """The sender gets the ICMP message about the smaller MTU."""
    lab.capture()
    with lab.router.faulty(SmallMtu(lab.receiver.address)):
        lab.settle(lab.sender.send("alice@example.org", size_bytes=BIG_BYTES))
        lab.captured()

    assert lab.sender.network.packets("icmp[0] == 3 and icmp[1] == 4")


def test_symptom_a_capture_shows_packets_lost(impatient: Lab) -> None:
    """Packets reach the router and no host beyond it."""
    lab = impatient
    lab.capture()
    with lab.router.faulty(Netem(loss_percent=100, direction="out", peer=lab.receiver.address)):
        lab.settle(lab.sender.send("alice@example.org"))
        lab.captured()

    assert lab.router.network.packets(SYN)
    assert not lab.receiver.network.packets(SYN)
