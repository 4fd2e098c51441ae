"""Faults of the path between two sites: what Postfix makes of them, and that they go again."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from maillab.errors import BadInput
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
from maillab.faults.partition import Direction
from maillab.host import Fault, Host
from maillab.lab import Lab
from maillab.maillog import Delivery

pytestmark = pytest.mark.topology("wan")

BIG_BYTES = 64_000


@pytest.fixture
def impatient(lab: Lab) -> Lab:
    """A lab whose hosts give up soon."""
    lab.receiver.configure(smtpd_timeout="5s")
    lab.sender.configure(
        smtp_connect_timeout="2s", smtp_data_xfer_timeout="3s", smtp_data_done_timeout="3s"
    )
    return lab


@pytest.fixture(autouse=True)
def without_a_trace(request: pytest.FixtureRequest, lab: Lab) -> Iterator[None]:
    """After each fault the network of every host is what it was before; cures stay."""
    if "_cure_" in request.node.name:
        yield
        return
    before = {host.name: host.agent.call("netstate") for host in lab.hosts.values()}
    yield
    after = {host.name: host.agent.call("netstate") for host in lab.hosts.values()}
    assert after == before


def flows_again(lab: Lab) -> bool:
    """Whether new mail, big enough to notice a bad path, arrives at once."""
    mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
    lab.settle(mail)
    return bool(mail.delivered_to(lab.receiver, "alice"))


def delays_s(lab: Lab) -> list[float]:
    """The sender's first attempt: before the queue, in it, connecting, sending."""
    return [float(one) for one in lab.events(Delivery, lab.sender)[0].delays.split("/")]


def tcp_counter(host: Host, name: str) -> int:
    """A counter of the host's TCP since it came up (nstat(8))."""
    shown = host.agent.call("run", argv=["nstat", "-asz", name])["stdout"]
    return int(shown.split()[-2])


def on_the_wire(host: Host, expression: str) -> list[str]:
    """The packets of the host's capture that tcpdump's expression is about."""
    argv = ["tcpdump", "-n", "-r", "/tmp/capture.pcap", expression]  # noqa: S108  # in the agent
    done = host.agent.call("run", argv=argv)
    assert done["status"] == 0, done["stderr"]
    return str(done["stdout"]).splitlines()


@pytest.mark.parametrize(
    ("fault", "saying"),
    [
        (Refused(), "Connection refused"),
        (Unreachable(), "No route to host"),
        (SilentDrop(), "Connection timed out"),
    ],
    ids=["refused", "unreachable", "silent-drop"],
)
@pytest.mark.parametrize("role", ["receiver", "router"])
def test_symptom_no_connection(impatient: Lab, role: str, fault: Fault, saying: str) -> None:
    """At the server itself or on the way, the client is told the same."""
    lab = impatient
    with lab.hosts[role].faulty(fault):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.1", saying=f"receiver.example.org[{lab.receiver.address}]:25")
    assert mail.deferred(saying=saying)
    lab.sender.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.receiver, "alice")


@pytest.mark.parametrize(
    ("fault", "refused"),
    [
        (Refused(first=2), [True, True, False, False, False, False]),
        (Refused(every=3), [False, False, True, False, False, True]),
        (Refused(after=4), [False, False, False, False, True, True]),
        (Refused(client="198.18.0.0/15"), [True] * 6),
    ],
    ids=["first", "every", "after", "client"],
)
def test_symptom_some_connections_are_refused(
    lab: Lab, fault: Refused, refused: list[bool]
) -> None:
    """Which ones is counted, not diced."""
    seen = []
    with lab.receiver.faulty(fault):
        for _ in refused:
            with lab.sender.session(lab.receiver) as session:
                seen.append(not session.open)

    assert seen == refused
    (witness,) = lab.record.witnesses
    assert witness.count == sum(refused)


def test_symptom_only_one_client_is_refused(lab: Lab) -> None:
    """The router, which connects from another address, is let in."""
    with (
        lab.receiver.faulty(Refused(client=lab.sender.address)),
        lab.router.session(lab.receiver) as other,
        lab.sender.session(lab.receiver) as ours,
    ):
        pass

    assert other.greeting.code == 220
    assert not ours.greeting.code


@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_symptom_partition(impatient: Lab, direction: Direction) -> None:
    """Nothing passes between two hosts, or nothing passes one way; names are found."""
    lab = impatient
    with lab.receiver.faulty(Partition(peer=lab.sender.address, direction=direction)):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.1", saying="Connection timed out")
    lab.sender.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.receiver, "alice")


def test_symptom_partition_from_everybody(impatient: Lab) -> None:
    """Not even a name is found, and mail waits for that."""
    lab = impatient
    with lab.sender.faulty(Partition()):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.3", saying="Host or domain name not found")
    lab.sender.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.receiver, "alice")


@pytest.mark.parametrize(
    "fault", [ResetInSession(bytes_before=20_000), ResetInSession(packets_before=12)]
)
@pytest.mark.parametrize("role", ["receiver", "router"])
def test_symptom_a_session_is_reset_while_it_sends(
    lab: Lab, role: str, fault: ResetInSession
) -> None:
    """Small mail passes, big mail loses its connection in the message body."""
    with lab.hosts[role].faulty(fault):
        small = lab.sender.send("alice@example.org")
        lab.settle(small)
        big = lab.sender.send("alice@example.org", size_bytes=4_000_000)
        lab.settle(big)

    assert small.delivered_to(lab.receiver, "alice")
    assert big.deferred(dsn="4.4.2", saying="lost connection with receiver.example.org")
    assert big.deferred(saying="while sending message body")
    lab.sender.flush()
    lab.settle(big)
    assert big.delivered_to(lab.receiver, "alice")


def test_symptom_an_mtu_black_hole_swallows_big_mail(impatient: Lab) -> None:
    """Small mail passes; of big mail nothing arrives after DATA (RFC 2923 2.1)."""
    lab = impatient
    with lab.router.faulty(MtuBlackHole(lab.receiver.address)):
        small = lab.sender.send("alice@example.org")
        lab.settle(small)
        big = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(big)

    assert small.delivered_to(lab.receiver, "alice")
    assert big.deferred(dsn="4.4.2", saying="timed out while sending message body")
    lab.sender.flush()
    lab.settle(big)
    assert big.delivered_to(lab.receiver, "alice")


def test_cure_icmp_let_through(impatient: Lab) -> None:
    """The sender learns the path's MTU from the router, and big mail passes."""
    lab = impatient
    lab.router.cure.let_icmp_through()
    with lab.router.faulty(MtuBlackHole(lab.receiver.address)):
        mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")


def test_cure_mss_clamped(impatient: Lab) -> None:
    """Both ends agree on segments that fit, and nobody needs ICMP."""
    lab = impatient
    with lab.router.faulty(MtuBlackHole(lab.receiver.address)):
        lab.router.cure.clamp_mss()
        mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    (witness,) = lab.record.witnesses
    assert "0 too big, untold" in witness.source


def test_symptom_a_small_mtu_is_learned(lab: Lab) -> None:
    """With the router's ICMP the mail passes, in packets that fit."""
    with lab.router.faulty(SmallMtu(lab.receiver.address)):
        mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(mail)
        way = lab.sender.agent.call("run", argv=["ip", "route", "get", lab.receiver.address])[
            "stdout"
        ]

    assert mail.delivered_to(lab.receiver, "alice")
    assert "mtu 576" in way


def test_a_learned_mtu_is_forgotten_by_the_next_scenario(lab: Lab) -> None:
    """A reset makes the sender send big packets again."""
    with lab.router.faulty(SmallMtu(lab.receiver.address)):
        lab.settle(lab.sender.send("alice@example.org", size_bytes=BIG_BYTES))

    lab.reset()

    way = lab.sender.agent.call("run", argv=["ip", "route", "get", lab.receiver.address])
    assert "mtu" not in way["stdout"]


@pytest.mark.parametrize("role", ["receiver", "router"])
def test_symptom_a_slow_path_delays_every_step(lab: Lab, role: str) -> None:
    """Each way and each packet: two for the connection, two for greeting and EHLO."""
    with lab.hosts[role].faulty(Netem(delay_s=0.3, peer=lab.sender.address)):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert delays_s(lab)[2] >= 4 * 0.3


def test_symptom_one_way_is_slow(lab: Lab) -> None:
    """Only what the server hears comes late."""
    slow = Netem(delay_s=0.4, jitter_s=0.1, direction="in", peer=lab.sender.address)
    with lab.receiver.faulty(slow):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert delays_s(lab)[2] >= 2 * 0.3


def test_symptom_a_narrow_line_takes_its_time(lab: Lab) -> None:
    """A mail of 8 kB has 64 kbit and more, at 33.6 kbit/s."""
    with lab.router.faulty(Netem(rate_bit_s=33_600, peer=lab.receiver.address)):
        mail = lab.sender.send("alice@example.org", size_bytes=8_000)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert delays_s(lab)[3] >= 64_000 / 33_600


def test_symptom_all_packets_lost(impatient: Lab) -> None:
    """As good as no path at all."""
    lab = impatient
    with lab.router.faulty(Netem(loss_percent=100, peer=lab.receiver.address)):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.1", saying="Connection timed out")
    lab.sender.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.receiver, "alice")


@pytest.mark.parametrize(
    ("fault", "counter", "role"),
    [
        (Netem(loss_percent=10), "TcpRetransSegs", "sender"),
        (Netem(delay_s=0.02, reorder_percent=30), "TcpExtTCPOFOQueue", "receiver"),
        (Netem(duplicate_percent=30), "TcpExtTCPDSACKOldSent", "receiver"),
    ],
    ids=["loss", "reordering", "duplication"],
)
def test_symptom_tcp_makes_good_what_the_path_spoils(
    lab: Lab, fault: Netem, counter: str, role: str
) -> None:
    """The mail arrives, once and whole; TCP has noticed."""
    fault = replace(fault, direction="out", peer=lab.receiver.address)
    before = tcp_counter(lab.hosts[role], counter)
    with lab.router.faulty(fault):
        mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert tcp_counter(lab.hosts[role], counter) > before


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


def test_faults_nest_and_go_in_any_order(lab: Lab) -> None:
    """Each takes its own rules away, whatever came after it."""
    before = lab.router.agent.call("netstate")
    peer = lab.receiver.address
    one, two = MtuBlackHole(peer).on(lab.router), Refused(first=1).on(lab.router)
    three = Partition(peer=lab.sender.address).on(lab.router)
    four, five = Netem(delay_s=0.01).on(lab.router), Netem(loss_percent=5).on(lab.router)
    for fault in (one, four, two, five, three):
        fault.__enter__()
    for fault in (four, two, one, three, five):
        fault.__exit__(None, None, None)

    assert lab.router.agent.call("netstate") == before
    assert flows_again(lab)


def test_what_was_never_lifted_goes_with_the_reset(lab: Lab) -> None:
    """As after a scenario that broke off."""
    before = lab.router.agent.call("netstate")
    faults = (SmallMtu(lab.receiver.address), Partition(), Netem(loss_percent=100))
    left = [fault.on(lab.router) for fault in faults]
    for fault in left:
        fault.__enter__()
    assert lab.router.agent.call("netstate") != before

    lab.reset()

    assert lab.router.agent.call("netstate") == before


def test_packets_pass_when_the_queues_program_is_gone(lab: Lab) -> None:
    """A dead agent is no fault of the path; what it left goes with the reset."""
    before = lab.router.agent.call("netstate")
    lost = Netem(loss_percent=100).on(lab.router)
    lost.__enter__()

    lab.router.agent.close()

    assert flows_again(lab)
    lab.router.agent.open()
    lab.reset()
    assert lab.router.agent.call("netstate") == before


@pytest.mark.parametrize(
    ("fault", "settings", "words"),
    [
        (SmallMtu, {"peer": "198.18.0.1", "mtu_bytes": 10}, "mtu_bytes: from 552"),
        (MtuBlackHole, {"peer": "receiver"}, "write an IPv4 address"),
        (Partition, {"peer": "::1"}, "write an IPv4 address"),
        (Partition, {"direction": "up"}, "one of both, in, out"),
        (Refused, {"port": 0}, "1 to 65535"),
        (Refused, {"first": 1, "every": 2}, "one of first, every and after"),
        (SilentDrop, {"after": -1}, "one of first, every and after"),
        (Netem, {}, "impairs nothing"),
        (Netem, {"loss_percent": 140}, "from 0 to 100"),
        (Netem, {"delay_s": -1}, "impairs nothing"),
        (Netem, {"delay_s": 0.1, "jitter_s": 0.2}, "at most delay_s"),
        (Netem, {"loss_percent": 1, "reorder_percent": 5}, "needs delay_s"),
        (ResetInSession, {}, "needs bytes_before or packets_before"),
    ],
)
def test_impossible_settings_are_refused(
    fault: type[Fault], settings: dict[str, object], words: str
) -> None:
    """Before anything is touched, with what would work."""
    with pytest.raises(BadInput, match=words):
        fault(**settings)
