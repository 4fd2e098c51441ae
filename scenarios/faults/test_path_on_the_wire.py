"""Faults of the path as a capture shows them: a second witness, which had no part in them."""

from dataclasses import replace

import pytest

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
from maillab.host import Fault, Host
from maillab.lab import Lab

pytestmark = [pytest.mark.topology("wan"), pytest.mark.usefixtures("without_a_trace")]

BIG_BYTES = 64_000
RESET = "src port 25 and tcp[tcpflags] & tcp-rst != 0"
ANSWER = "src port 25 and tcp[tcpflags] & tcp-syn != 0"
SYN = "dst port 25 and tcp[tcpflags] == tcp-syn"
BIG = "dst port 25 and ip[2:2] > 576"


def on_the_wire(host: Host, expression: str) -> list[str]:
    """The packets of the host's capture that tcpdump's expression is about."""
    argv = ["tcpdump", "-n", "-r", "/tmp/capture.pcap", expression]  # noqa: S108  # in the agent
    done = host.agent.call("run", argv=argv)
    assert done["status"] == 0, done["stderr"]
    return str(done["stdout"]).splitlines()


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
    """A second witness, which had no part in it."""
    lab = impatient
    if isinstance(fault, Partition):
        fault = replace(fault, peer=lab.sender.address)
    lab.capture()
    with lab.receiver.faulty(fault):
        lab.settle(lab.sender.send("alice@example.org", size_bytes=BIG_BYTES))
        lab.captured()

    assert on_the_wire(lab.hosts[role], seen)
    assert not on_the_wire(lab.sender, unseen)


def test_symptom_a_capture_shows_the_black_hole(impatient: Lab) -> None:
    """Big packets leave the sender and never arrive; no complaint comes back."""
    lab = impatient
    lab.capture()
    with lab.router.faulty(MtuBlackHole(lab.receiver.address)):
        lab.settle(lab.sender.send("alice@example.org", size_bytes=BIG_BYTES))
        lab.captured()

    assert on_the_wire(lab.sender, BIG)
    assert not on_the_wire(lab.sender, "icmp")
    assert not on_the_wire(lab.receiver, BIG)


def test_symptom_a_capture_shows_the_small_mtu(lab: Lab) -> None:
    """The sender is told, and what arrives is small."""
    lab.capture()
    with lab.router.faulty(SmallMtu(lab.receiver.address)):
        lab.settle(lab.sender.send("alice@example.org", size_bytes=BIG_BYTES))
        lab.captured()

    assert on_the_wire(lab.sender, "icmp[0] == 3 and icmp[1] == 4")


def test_symptom_a_capture_shows_packets_lost(impatient: Lab) -> None:
    """They reach the router, and nobody beyond it."""
    lab = impatient
    lab.capture()
    with lab.router.faulty(Netem(loss_percent=100, direction="out", peer=lab.receiver.address)):
        lab.settle(lab.sender.send("alice@example.org"))
        lab.captured()

    assert on_the_wire(lab.router, SYN)
    assert not on_the_wire(lab.receiver, SYN)
