"""IP path MTU discovery.

The FAQ's answer: small mail arrives and large mail times out, because somewhere
on the way a link takes smaller packets only, and the ICMP messages that say so
are filtered. Let them through; or have the sending host not rely on them. That
is true today (RFC 2923), and the ways around have become better: routers clamp
the MSS of TCP sessions, and Linux probes for what passes (tcp_mtu_probing,
RFC 4821), if it is told to. What the FAQ says of Sendmail, that it is spared
since it cannot pipeline, is history. New is that a TLS handshake alone may be
too large for such a path.
"""

import pytest

from maillab.faults import MtuBlackHole
from maillab.lab import Lab
from maillab.maillog import Delivery, Disconnected, Event

pytestmark = pytest.mark.topology("wan")

ALICE = "alice@example.org"
BIG_BYTES = 64_000
FRAGMENTS = "src host {} and ip[6] & 0x20 != 0"


def give_up_soon(lab: Lab, sender_s: int = 2, receiver_s: int = 4) -> None:
    """Minutes of timeouts become seconds; the client gives up before its server does."""
    patience = f"{sender_s}s"
    lab.sender.configure(
        smtp_starttls_timeout=patience,
        smtp_data_xfer_timeout=patience,
        smtp_data_done_timeout=patience,
    )
    lab.receiver.configure(smtpd_timeout=f"{receiver_s}s", smtpd_starttls_timeout=f"{receiver_s}s")


def black_hole(lab: Lab, mtu_bytes: int = 576) -> MtuBlackHole:
    """The way to the receiver has a narrow leg, and nobody says so."""
    return MtuBlackHole(lab.receiver.address, mtu_bytes)


def way(lab: Lab) -> str:
    """What the sender's kernel knows of the way to the receiver."""
    argv = ["ip", "route", "get", lab.receiver.address]
    return str(lab.sender.agent.call("run", argv=argv)["stdout"])


@pytest.mark.faq("path-mtu", "21a")
@pytest.mark.parametrize(
    ("size_bytes", "doing"),
    [
        (20_000, "sending end of data -- message may be sent more than once"),
        (6_000_000, "sending message body"),
    ],
    ids=["fits-the-socket", "does-not"],
)
def test_symptom_large_mail_times_out(lab: Lab, size_bytes: int, doing: str) -> None:
    """Small mail arrives at once; of large mail the receiver gets not a byte after DATA."""
    give_up_soon(lab)

    with lab.router.faulty(black_hole(lab)):
        small = lab.sender.send(ALICE)
        lab.settle(small)
        large = lab.sender.send(ALICE, size_bytes=size_bytes)
        lab.settle(large)

    assert small.delivered_to(lab.receiver, mailbox="alice")
    receiver = f"receiver.example.org[{lab.receiver.address}]"
    saying = f"conversation with {receiver} timed out while {doing}"
    assert large.deferred(dsn="4.4.2", saying=saying)
    broken = [one.text for one in lab.events(Event, lab.receiver) if "timeout after" in one.text]
    sender = f"sender.example.net[{lab.sender.address}]"
    assert broken == [f"timeout after DATA (0 bytes) from {sender}"]
    (witness,) = lab.record.witnesses
    assert "too big, untold" in witness.source
    assert "0 too big, untold" not in witness.source


@pytest.mark.faq("path-mtu", "21b")
def test_cure_the_router_may_say_so(lab: Lab) -> None:
    """With its ICMP let through the sender learns what the path takes, and remembers it."""
    give_up_soon(lab)

    with lab.router.faulty(black_hole(lab)):
        lab.router.cure.let_icmp_through()
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)
        known = way(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "mtu 576" in known


@pytest.mark.faq("path-mtu", "21b")
def test_cure_the_router_clamps_the_mss(lab: Lab) -> None:
    """Both ends are told of segments that fit, and no packet is too big."""
    give_up_soon(lab)

    with lab.router.faulty(black_hole(lab)):
        lab.router.cure.clamp_mss()
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    (witness,) = lab.record.witnesses
    assert "0 too big, untold" in witness.source


@pytest.mark.faq("path-mtu", "21b")
def test_cure_the_sender_does_without_discovery(lab: Lab) -> None:
    """With ip_no_pmtu_disc its packets may be split on the way, and they are."""
    give_up_soon(lab)

    with lab.router.faulty(black_hole(lab)):
        lab.sender.cure.sysctl("net.ipv4.ip_no_pmtu_disc", "1")
        lab.capture()
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)
        lab.captured()

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert lab.receiver.packets(FRAGMENTS.format(lab.sender.address))


@pytest.mark.faq("path-mtu", "21b")
def test_cure_the_sender_knows_the_way(lab: Lab) -> None:
    """With the MTU in its route to the receiver it sends nothing larger."""
    give_up_soon(lab)

    with lab.router.faulty(black_hole(lab)):
        lab.sender.cure.limit_mtu(lab.receiver.address, 576)
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    (witness,) = lab.record.witnesses
    assert "0 too big, untold" in witness.source


@pytest.mark.faq("path-mtu", "21b")
@pytest.mark.parametrize(
    ("probing", "mtu_bytes", "patience_s", "takes_s"),
    [("1", 576, (22, 24), 5), ("2", 1280, (2, 4), 0)],
    ids=["when-it-looks-like-a-black-hole", "always"],
)
def test_cure_the_sender_probes(
    lab: Lab, probing: str, mtu_bytes: int, patience_s: tuple[int, int], takes_s: int
) -> None:
    """With tcp_mtu_probing TCP finds out by itself what passes.

    "1" waits until it looks like a black hole, after four retransmissions, then
    tries 1024 bytes (tcp_base_mss), then half of that, each with the doubled
    pauses of a connection that gets no answer: thirteen seconds for a leg of 576
    bytes. The timeout must leave it that time; Postfix's own, minutes, do. "2"
    begins with 1024, and needs no time on a leg that takes those.
    """
    give_up_soon(lab, *patience_s)

    with lab.router.faulty(black_hole(lab, mtu_bytes)):
        lab.sender.cure.sysctl("net.ipv4.tcp_mtu_probing", probing)
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    (attempt,) = lab.events(Delivery, lab.sender)
    assert attempt.delay >= takes_s


def tls_with_a_narrow_way_back(lab: Lab, level: str) -> MtuBlackHole:
    """The receiver offers TLS, and its part of a handshake is more than fits."""
    give_up_soon(lab)
    lab.receiver.configure(smtpd_tls_security_level="may", smtpd_tls_cert_file="none")
    lab.sender.configure(smtp_tls_security_level=level)
    return MtuBlackHole(lab.sender.address)


@pytest.mark.faq("path-mtu", "21a")
def test_symptom_tls_fails_for_mail_of_any_size(lab: Lab) -> None:
    """The server's large packets are lost on the way back, which are those of the handshake."""
    fault = tls_with_a_narrow_way_back(lab, "encrypt")

    with lab.router.faulty(fault):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)

    assert mail.deferred(dsn="4.7.5", saying="Cannot start TLS: handshake failure")
    (broken,) = [one.text for one in lab.events(Event, lab.sender) if "SSL_connect" in one.text]
    receiver = f"receiver.example.org[{lab.receiver.address}]"
    assert broken.startswith(f"SSL_connect error to {receiver}:25: Connection timed out")


@pytest.mark.faq("path-mtu", "21b")
def test_cure_tls_with_a_clamped_mss(lab: Lab) -> None:
    """Once the receiver knows of small segments its part of the handshake arrives."""
    fault = tls_with_a_narrow_way_back(lab, "encrypt")

    with lab.router.faulty(fault):
        lab.router.cure.clamp_mss()
        mail = lab.sender.send(ALICE)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    (session,) = lab.events(Disconnected, lab.receiver)
    assert session.counts["starttls"] == (1, 1)


@pytest.mark.faq("path-mtu", "21a")
def test_behaviour_opportunistic_tls_falls_back_to_clear_text(lab: Lab) -> None:
    """With the level may small mail waits for its first retry, and then goes unencrypted.

    Postfix does without TLS only once mail is older than minimal_backoff_time.
    """
    fault = tls_with_a_narrow_way_back(lab, "may")

    with lab.router.faulty(fault):
        mail = lab.sender.send(ALICE)
        lab.settle(mail)
        failed = mail.deferred(dsn="4.7.5", saying="Cannot start TLS: handshake failure")
        waits = bool(failed)
        lab.clock.advance(minutes=6)
        lab.settle(mail)

    assert waits, failed
    assert mail.delivered_to(lab.receiver, mailbox="alice")
    (served,) = [one for one in lab.events(Disconnected, lab.receiver) if "data" in one.counts]
    assert "starttls" not in served.counts
