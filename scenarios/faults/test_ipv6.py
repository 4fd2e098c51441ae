"""Faults over IPv6: their effect on Postfix, and their removal."""

import pytest

from maillab import Delivery, Fault, HopFailed, Lab
from maillab.faults import (
    NoRoute,
    Partition,
    Refused,
    ResetInSession,
    SilentDrop,
    SmtpStage,
    StaleAnswer,
    Unreachable,
)

pytestmark = [
    pytest.mark.topology("wan"),
    pytest.mark.ipv6,
    pytest.mark.usefixtures("without_a_trace"),
]


@pytest.fixture
def dual(impatient: Lab) -> Lab:
    """Provide a lab in which mail goes by IPv6, and by IPv4 if that fails."""
    lab = impatient
    lab.sender.configure(inet_protocols="all", smtp_address_preference="ipv6")
    lab.receiver.configure(inet_protocols="all")
    return lab


def failed_by(lab: Lab, saying: str) -> set[str]:
    """Return the addresses of the receiver that failed with these words."""
    return {event.relay_address for event in lab.events(HopFailed) if saying in event.text}


def arrived_by(lab: Lab) -> list[str]:
    """Return the addresses by which the sender's mail was delivered, in order."""
    events = lab.events(Delivery, lab.sender)
    return [event.relay_address for event in events if event.status == "sent"]


def test_symptom_an_address_without_a_route_is_unreachable(dual: Lab) -> None:
    """A host with an IPv6 address and no route gets "Network is unreachable" at once."""
    lab = dual
    lab.sender.configure(inet_protocols="ipv6")

    with lab.sender.faulty(NoRoute()):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(
        dsn="4.4.1", saying=f"[{lab.receiver.address6}]:25: Network is unreachable"
    )
    lab.sender.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.receiver, "alice")


@pytest.mark.parametrize(
    ("role", "fault", "saying"),
    [
        ("receiver", Refused(over="ipv6"), "Connection refused"),
        ("receiver", SilentDrop(over="ipv6"), "Connection timed out"),
        ("router", Unreachable(over="ipv6"), "No route to host"),
        ("receiver", Partition(over="ipv6"), "Connection timed out"),
        ("router", Partition(over="ipv6", direction="in"), "Connection timed out"),
        ("sender", NoRoute(), "Network is unreachable"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else type(value).__name__,
)
def test_symptom_a_fault_of_ipv6_leaves_ipv4(
    dual: Lab, role: str, fault: Fault, saying: str
) -> None:
    """Postfix logs what failed by IPv6, and delivers the message by IPv4 in the same try."""
    lab = dual
    with lab.hosts[role].faulty(fault):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert failed_by(lab, saying) == {lab.receiver.address6}
    assert arrived_by(lab) == [lab.receiver.address]


@pytest.mark.parametrize("fault", [Refused(first=2), SilentDrop(first=2), Unreachable(first=2)])
def test_symptom_both_versions_count_as_sessions(dual: Lab, fault: Fault) -> None:
    """Of the first two sessions, one comes by IPv6 and the next by IPv4."""
    lab = dual
    with lab.receiver.faulty(fault):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)
        assert mail.deferred(dsn="4.4.1")
        lab.sender.flush()
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert failed_by(lab, "connect to") == {lab.receiver.address6, lab.receiver.address}
    assert arrived_by(lab) == [lab.receiver.address6]


@pytest.mark.parametrize(
    "fault",
    [
        SmtpStage("DATA", reply="451 4.3.0 not now"),
        SmtpStage("greeting", then="close"),
        ResetInSession(bytes_before=2000),
    ],
    ids=["reply", "close", "reset"],
)
def test_symptom_a_session_by_ipv6_breaks(dual: Lab, fault: Fault) -> None:
    """A fault that breaks sessions breaks those over IPv6, too."""
    lab = dual
    lab.sender.configure(inet_protocols="ipv6")

    with lab.receiver.faulty(fault):
        mail = lab.sender.send("alice@example.org", size_bytes=64_000)
        lab.settle(mail)

    assert mail.deferred(saying=f"[{lab.receiver.address6}]")
    lab.sender.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.receiver, "alice")


def test_symptom_a_greeting_for_clients_by_ipv6(dual: Lab) -> None:
    """A server that turns away one client's IPv6 address takes the mail by IPv4."""
    lab = dual
    away = SmtpStage("greeting", reply="421 4.3.2 not by IPv6", client=lab.sender.address6)

    with lab.receiver.faulty(away):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert failed_by(lab, "refused to talk to me: 421 4.3.2") == {lab.receiver.address6}
    assert arrived_by(lab) == [lab.receiver.address]


def test_symptom_a_name_has_the_ipv6_address_of_the_past(dual: Lab) -> None:
    """A stale AAAA record leads to a host that is no more."""
    lab = dual
    nobody = lab.receiver.address6[:-2] + "fe"
    lab.sender.configure(inet_protocols="ipv6")

    with lab.sender.faulty(StaleAnswer("receiver.example.org", "AAAA", address=nobody)):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.1", saying=f"connect to receiver.example.org[{nobody}]:25")
