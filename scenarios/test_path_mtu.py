"""IP path MTU discovery.

Small mail arrives and large mail times out, because a link on the path takes only smaller
packets, and a router closer to the sender drops the ICMP messages that report it (RFC 2923).
Let these messages through (ICMP type 3, code 4), or clamp the MSS of TCP sessions on the
router at the link. Otherwise make the sending host independent of them:
net.ipv4.tcp_mtu_probing = 1 probes for the usable size.

Since the FAQ:
- Linux, if configured, probes for the usable size (RFC 4821).
- A TLS handshake alone may be too large for such a path, so small mail fails, too.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from maillab import Delivery, Disconnected, Event, Host, Lab
from maillab.faults import IcmpFilter, SmallMtu

pytestmark = pytest.mark.topology("wan")

ALICE = "alice@example.org"
BIG_BYTES = 64_000
FRAGMENTS = "src host {} and ip[6] & 0x20 != 0"
# Packets that no router may fragment and that do not fit a link of 576 bytes.
LARGE_DONT_FRAGMENT = "src host {} and ip[6] & 0x40 != 0 and ip[2:2] > 576"
# Packets that routers may fragment.
MAY_FRAGMENT = "tcp and src host {} and ip[6] & 0x40 == 0"
# "Fragmentation needed": a router dropped a packet that was too big.
TOO_BIG_REPORTS = "icmp[0] == 3 and icmp[1] == 4"
# TCP suspects a black hole after this many (net.ipv4.tcp_retries1, plus one).
RETRANSMISSIONS_BEFORE_PROBING = 4


def give_up_soon(lab: Lab, sender_s: int = 2, receiver_s: int = 4) -> None:
    """Shorten the timeouts to seconds; the client gives up before its server."""
    patience = f"{sender_s}s"
    lab.sender.configure(
        smtp_starttls_timeout=patience,
        smtp_data_xfer_timeout=patience,
        smtp_data_done_timeout=patience,
    )
    lab.receiver.configure(smtpd_timeout=f"{receiver_s}s", smtpd_starttls_timeout=f"{receiver_s}s")


@contextlib.contextmanager
def narrow(router: Host, nearer: Host, peer: Host, mtu_bytes: int = 576) -> Iterator[None]:
    """Narrow a router's link to a peer; a router nearer to the other end drops its ICMP.

    The filter comes first and goes last: a session of an earlier mail may still repeat a packet.
    """
    with nearer.faulty(IcmpFilter()), router.faulty(SmallMtu(peer.address, mtu_bytes)):
        yield


def black_hole(lab: Lab, mtu_bytes: int = 576) -> AbstractContextManager[None]:
    """Narrow the router's link to the receiver; the sender's provider drops the router's ICMP."""
    return narrow(lab.router, lab.provider, lab.receiver, mtu_bytes)


def too_big(lab: Lab) -> bool:
    """Return True if a packet was too big for the narrow link, and its router reported that."""
    _, at_the_link = lab.witnesses
    return ", 0 too big, reported" not in at_the_link.source


def way(lab: Lab) -> str:
    """Return the sender's route to the receiver as the kernel knows it."""
    argv = ["ip", "route", "get", lab.receiver.address]
    return lab.sender.network.run(*argv).stdout


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
    """Small mail arrives at once; no byte of large mail arrives after DATA."""
    give_up_soon(lab)

    with black_hole(lab):
        small = lab.sender.send(ALICE)
        lab.settle(small)
        large = lab.sender.send(ALICE, size_bytes=size_bytes)
        lab.settle(large)

    assert small.delivered_to(lab.receiver, mailbox="alice")
    receiver = f"receiver.example.org[{lab.receiver.address}]"
    saying = f"conversation with {receiver} timed out while {doing}"
    assert large.deferred(dsn="4.4.2", saying=saying)
    broken = [
        event.text for event in lab.events(Event, lab.receiver) if "timeout after" in event.text
    ]
    sender = f"sender.example.net[{lab.sender.address}]"
    assert broken == [f"timeout after DATA (0 bytes) from {sender}"]
    assert too_big(lab)


@pytest.mark.faq("path-mtu", "21a")
def test_symptom_a_router_closer_to_the_sender_drops_the_report(lab: Lab) -> None:
    """Large packets have "don't fragment" set; the report about them does not get to the sender."""
    give_up_soon(lab)

    with black_hole(lab):
        lab.capture()
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)
        lab.captured()

    assert mail.deferred(dsn="4.4.2")
    sender = lab.sender.address
    assert lab.sender.network.packets(LARGE_DONT_FRAGMENT.format(sender))
    assert not lab.sender.network.packets(MAY_FRAGMENT.format(sender))
    assert lab.router.network.packets(TOO_BIG_REPORTS)
    assert lab.provider.network.packets(TOO_BIG_REPORTS)
    assert not lab.sender.network.packets(TOO_BIG_REPORTS)
    assert not lab.receiver.network.packets(LARGE_DONT_FRAGMENT.format(sender))


@pytest.mark.faq("path-mtu", "21b")
def test_cure_the_filter_lets_the_report_through(lab: Lab) -> None:
    """With ICMP let through the sender learns the path MTU and remembers it."""
    give_up_soon(lab)

    with black_hole(lab):
        lab.provider.cure.let_icmp_through()
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)
        known = way(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "mtu 576" in known


@pytest.mark.faq("path-mtu", "21b")
def test_cure_the_router_clamps_the_mss(lab: Lab) -> None:
    """Both ends negotiate segments that fit, and no packet is too big."""
    give_up_soon(lab)

    with black_hole(lab):
        lab.router.cure.clamp_mss()
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert not too_big(lab)


@pytest.mark.faq("path-mtu", "21b")
def test_cure_the_sender_does_without_discovery(lab: Lab) -> None:
    """With ip_no_pmtu_disc routers may fragment the sender's packets, and do."""
    give_up_soon(lab)

    with black_hole(lab):
        lab.sender.cure.sysctl("net.ipv4.ip_no_pmtu_disc", "1")
        lab.capture()
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)
        lab.captured()

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert lab.receiver.network.packets(FRAGMENTS.format(lab.sender.address))


@pytest.mark.faq("path-mtu", "21b")
def test_cure_the_sender_knows_the_way(lab: Lab) -> None:
    """With the MTU in its route to the receiver the sender sends no larger packet."""
    give_up_soon(lab)

    with black_hole(lab):
        lab.sender.cure.limit_mtu(lab.receiver.address, 576)
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert not too_big(lab)


@pytest.mark.faq("path-mtu", "21b")
@pytest.mark.parametrize(
    ("probing", "mtu_bytes", "patience_s", "at_least_s", "suspects_first"),
    [("1", 576, (22, 24), 5, True), ("1", 1280, (22, 24), 1, True), ("2", 1280, (2, 4), 0, False)],
    ids=["when-it-looks-like-a-black-hole", "the-same-on-a-wider-link", "always"],
)
def test_cure_the_sender_probes(
    lab: Lab,
    probing: str,
    mtu_bytes: int,
    patience_s: tuple[int, int],
    at_least_s: int,
    *,
    suspects_first: bool,
) -> None:
    """With tcp_mtu_probing TCP itself finds the usable packet size.

    With "1" TCP waits for signs of a black hole, four retransmissions. Then it tries
    1024 bytes (tcp_base_mss), and half of that, with the doubling pauses of an
    unanswered connection: thirteen seconds for a link of 576 bytes. The timeout must
    allow for that; Postfix's own timeouts are minutes. With "2" TCP starts at 1024
    bytes, so on a link that takes them it waits for no such signs: at most a probe for a
    larger size is lost.
    """
    give_up_soon(lab, *patience_s)

    with black_hole(lab, mtu_bytes):
        lab.sender.cure.sysctl("net.ipv4.tcp_mtu_probing", probing)
        lab.capture()
        mail = lab.sender.send(ALICE, size_bytes=BIG_BYTES)
        lab.settle(mail)
        lab.captured()

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    (attempt,) = lab.events(Delivery, lab.sender)
    assert attempt.delay >= at_least_s
    reports = lab.router.network.packets(TOO_BIG_REPORTS)
    assert (len(reports) > RETRANSMISSIONS_BEFORE_PROBING) is suspects_first


def tls_with_a_narrow_way_back(lab: Lab, level: str) -> AbstractContextManager[None]:
    """Make the receiver offer TLS with a handshake too large for the way back."""
    give_up_soon(lab)
    lab.receiver.configure(smtpd_tls_security_level="may", smtpd_tls_cert_file="none")
    lab.sender.configure(smtp_tls_security_level=level)
    return narrow(lab.provider, lab.router, lab.sender)


@pytest.mark.faq("path-mtu", "21a")
def test_symptom_tls_fails_for_mail_of_any_size(lab: Lab) -> None:
    """The path drops the server's large packets: those of the handshake."""
    fault = tls_with_a_narrow_way_back(lab, "encrypt")

    with fault:
        mail = lab.sender.send(ALICE)
        lab.settle(mail)

    assert mail.deferred(dsn="4.7.5", saying="Cannot start TLS: handshake failure")
    (broken,) = [
        event.text for event in lab.events(Event, lab.sender) if "SSL_connect" in event.text
    ]
    receiver = f"receiver.example.org[{lab.receiver.address}]"
    assert broken.startswith(f"SSL_connect error to {receiver}:25: Connection timed out")


@pytest.mark.faq("path-mtu", "21b")
def test_cure_tls_with_a_clamped_mss(lab: Lab) -> None:
    """With a clamped MSS the receiver's part of the handshake arrives."""
    fault = tls_with_a_narrow_way_back(lab, "encrypt")

    with fault:
        lab.provider.cure.clamp_mss()
        mail = lab.sender.send(ALICE)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    (session,) = lab.events(Disconnected, lab.receiver)
    assert session.counts["starttls"] == (1, 1)


@pytest.mark.faq("path-mtu", "21a")
def test_behaviour_opportunistic_tls_falls_back_to_clear_text(lab: Lab) -> None:
    """At level "may" small mail waits for its first retry, then goes unencrypted.

    Postfix falls back only for mail older than minimal_backoff_time.
    """
    fault = tls_with_a_narrow_way_back(lab, "may")

    with fault:
        mail = lab.sender.send(ALICE)
        lab.settle(mail)
        waits = mail.deferred(dsn="4.7.5", saying="Cannot start TLS: handshake failure").now()
        lab.clock.advance(minutes=6)
        lab.settle(mail)

    assert waits
    assert mail.delivered_to(lab.receiver, mailbox="alice")
    (served,) = [
        event for event in lab.events(Disconnected, lab.receiver) if "data" in event.counts
    ]
    assert "starttls" not in served.counts
