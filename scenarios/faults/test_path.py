"""Faults of the path between two sites: their effect on Postfix, and their removal."""

from dataclasses import replace

import pytest

from maillab import Delivery, Fault, Host, Lab, Mail
from maillab.faults import (
    Direction,
    IcmpFilter,
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


def flows_again(lab: Lab) -> bool:
    """Return True if new mail, big enough to notice a bad path, arrives at once."""
    mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
    lab.settle(mail)
    return bool(mail.delivered_to(lab.receiver, "alice"))


def arrives_after_all(lab: Lab, mail: Mail) -> bool:
    """Return True if deferred mail is delivered after the fault."""
    lab.sender.flush()
    lab.settle(mail)
    return bool(mail.delivered_to(lab.receiver, "alice"))


def delays_s(lab: Lab) -> list[float]:
    """Return the first attempt's delays: before the queue, in it, connecting, sending."""
    return [float(event) for event in lab.events(Delivery, lab.sender)[0].delays.split("/")]


def tcp_counter(host: Host, name: str) -> int:
    """Return one of the host's TCP counters since it started (nstat(8))."""
    shown = host.network.run("nstat", "-asz", name).stdout
    return int(shown.split()[-2])


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
    """The client reports the same error, at the server itself or on the path."""
    lab = impatient
    with lab.hosts[role].faulty(fault):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.1", saying=f"receiver.example.org[{lab.receiver.address}]:25")
    assert mail.deferred(saying=saying)
    assert arrives_after_all(lab, mail)


@pytest.mark.parametrize(
    ("fault", "refused"),
    [
        (Refused(first=2), [True, True, False, False, False, False]),
        (Refused(every=3), [False, False, True, False, False, True]),
        (Refused(after=4), [False, False, False, False, True, True]),
        (Refused(after=1, every=2, first=2), [False, False, True, False, True, False]),
        (Refused(client="198.18.0.0/15"), [True] * 6),
    ],
    ids=["first", "every", "after", "all-three", "client"],
)
def test_symptom_some_connections_are_refused(
    lab: Lab, fault: Refused, refused: list[bool]
) -> None:
    """The fault counts connections and refuses exactly the configured ones."""
    seen = []
    with lab.receiver.faulty(fault):
        for _ in refused:
            with lab.sender.session(lab.receiver) as session:
                seen.append(not session.open)

    assert seen == refused
    (witness,) = lab.witnesses
    assert witness.count == sum(refused)


def test_symptom_only_one_client_is_refused(lab: Lab) -> None:
    """The router, at another address, is accepted."""
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
    """No packet passes between two hosts, or in one direction; DNS still works."""
    lab = impatient
    with lab.receiver.faulty(Partition(peer=lab.sender.address, direction=direction)):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.1", saying="Connection timed out")
    assert arrives_after_all(lab, mail)


def test_symptom_partition_from_everybody(impatient: Lab) -> None:
    """Not even DNS works, and mail waits for it."""
    lab = impatient
    with lab.sender.faulty(Partition()):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.3", saying="Host or domain name not found")
    assert arrives_after_all(lab, mail)


@pytest.mark.parametrize(
    "fault", [ResetInSession(bytes_before=20_000), ResetInSession(packets_before=12)]
)
@pytest.mark.parametrize("role", ["receiver", "router"])
def test_symptom_a_session_is_reset_while_it_sends(
    lab: Lab, role: str, fault: ResetInSession
) -> None:
    """Small mail passes; big mail loses its connection in the message body."""
    with lab.hosts[role].faulty(fault):
        small = lab.sender.send("alice@example.org")
        lab.settle(small)
        big = lab.sender.send("alice@example.org", size_bytes=4_000_000)
        lab.settle(big)

    assert small.delivered_to(lab.receiver, "alice")
    assert big.deferred(dsn="4.4.2", saying="lost connection with receiver.example.org")
    assert big.deferred(saying="while sending message body")
    assert arrives_after_all(lab, big)


def test_symptom_an_mtu_black_hole_swallows_big_mail(impatient: Lab) -> None:
    """Small mail passes; no byte of big mail arrives after DATA (RFC 2923 2.1)."""
    lab = impatient
    with lab.router.faulty(MtuBlackHole(lab.receiver.address)):
        small = lab.sender.send("alice@example.org")
        lab.settle(small)
        big = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(big)

    assert small.delivered_to(lab.receiver, "alice")
    assert big.deferred(dsn="4.4.2", saying="timed out while sending message body")
    assert arrives_after_all(lab, big)


def test_symptom_a_filter_on_the_path_makes_a_black_hole(impatient: Lab) -> None:
    """The sender never gets the report of a router behind the filter."""
    lab = impatient
    lab.capture()
    with lab.provider.faulty(IcmpFilter()), lab.router.faulty(SmallMtu(lab.receiver.address)):
        mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(mail)
        lab.captured()

    assert mail.deferred(dsn="4.4.2")
    dropping, _ = lab.witnesses
    assert " dropped" in dropping.source
    assert " 0 dropped" not in dropping.source
    report = "icmp[0] == 3 and icmp[1] == 4"
    assert lab.provider.network.packets(report)
    assert not lab.sender.network.packets(report)
    assert arrives_after_all(lab, mail)


def test_cure_icmp_let_through(impatient: Lab) -> None:
    """The sender learns the path MTU from the router, and big mail passes."""
    lab = impatient
    lab.router.cure.let_icmp_through()
    with lab.router.faulty(MtuBlackHole(lab.receiver.address)):
        mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")


def test_cure_mss_clamped(impatient: Lab) -> None:
    """Both ends agree on segments that fit, and need no ICMP."""
    lab = impatient
    with lab.router.faulty(MtuBlackHole(lab.receiver.address)):
        lab.router.cure.clamp_mss()
        mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    (witness,) = lab.witnesses
    assert ", 0 too big, untold" in witness.source


def test_symptom_a_small_mtu_is_learned(lab: Lab) -> None:
    """With the router's ICMP the mail passes, in packets that fit."""
    with lab.router.faulty(SmallMtu(lab.receiver.address)):
        mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(mail)
        way = lab.sender.network.run("ip", "route", "get", lab.receiver.address).stdout

    assert mail.delivered_to(lab.receiver, "alice")
    assert "mtu 576" in way


def test_a_learned_mtu_is_forgotten_by_the_next_scenario(lab: Lab) -> None:
    """A reset makes the sender send big packets again."""
    with lab.router.faulty(SmallMtu(lab.receiver.address)):
        lab.settle(lab.sender.send("alice@example.org", size_bytes=BIG_BYTES))

    lab.reset()

    way = lab.sender.network.run("ip", "route", "get", lab.receiver.address)
    assert "mtu" not in way.stdout


@pytest.mark.parametrize("role", ["receiver", "router"])
def test_symptom_a_slow_path_delays_every_step(lab: Lab, role: str) -> None:
    """Each packet is delayed: two for the connection, two for greeting and EHLO."""
    with lab.hosts[role].faulty(Netem(delay_s=0.3, peer=lab.sender.address)):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert delays_s(lab)[2] >= 4 * 0.3


def test_symptom_one_way_is_slow(lab: Lab) -> None:
    """Only packets to the server arrive late."""
    slow = Netem(delay_s=0.4, jitter_s=0.1, direction="in", peer=lab.sender.address)
    with lab.receiver.faulty(slow):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert delays_s(lab)[2] >= 2 * 0.3


def test_symptom_a_narrow_line_takes_its_time(lab: Lab) -> None:
    """A message of 8 kB has at least 64 kbit, sent at 33.6 kbit/s."""
    with lab.router.faulty(Netem(rate_bit_s=33_600, peer=lab.receiver.address)):
        mail = lab.sender.send("alice@example.org", size_bytes=8_000)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert delays_s(lab)[3] >= 64_000 / 33_600


def test_symptom_all_packets_lost(impatient: Lab) -> None:
    """Total loss has the effect of no path at all."""
    lab = impatient
    with lab.router.faulty(Netem(loss_percent=100, peer=lab.receiver.address)):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.1", saying="Connection timed out")
    assert arrives_after_all(lab, mail)


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
    """The mail arrives once and complete; TCP counts the losses."""
    fault = replace(fault, direction="out", peer=lab.receiver.address)
    before = tcp_counter(lab.hosts[role], counter)
    with lab.router.faulty(fault):
        mail = lab.sender.send("alice@example.org", size_bytes=BIG_BYTES)
        lab.settle(mail)

    assert mail.delivered_to(lab.receiver, "alice")
    assert tcp_counter(lab.hosts[role], counter) > before


def test_faults_nest_and_go_in_any_order(lab: Lab) -> None:
    """Each fault removes its own rules, in any order."""
    before = lab.router.network.state()
    peer = lab.receiver.address
    narrow, refused = MtuBlackHole(peer).on(lab.router), Refused(first=1).on(lab.router)
    cut = Partition(peer=lab.sender.address).on(lab.router)
    slow, lossy = Netem(delay_s=0.01).on(lab.router), Netem(loss_percent=5).on(lab.router)
    for fault in (narrow, slow, refused, lossy, cut):
        fault.__enter__()
    for fault in (slow, refused, narrow, cut, lossy):
        fault.__exit__(None, None, None)

    assert lab.router.network.state() == before
    assert flows_again(lab)


def test_what_was_never_lifted_goes_with_the_reset(lab: Lab) -> None:
    """A reset removes the faults of a scenario that broke off."""
    before = lab.router.network.state()
    faults = (SmallMtu(lab.receiver.address), Partition(), Netem(loss_percent=100))
    left = [fault.on(lab.router) for fault in faults]
    for fault in left:
        fault.__enter__()
    assert lab.router.network.state() != before

    lab.reset()

    assert lab.router.network.state() == before


def test_packets_pass_when_the_queues_program_is_gone(lab: Lab) -> None:
    """A dead agent is not a path fault; a reset removes its leftovers."""
    before = lab.router.network.state()
    lost = Netem(loss_percent=100).on(lab.router)
    lost.__enter__()

    lab.router.network.abandon()

    assert flows_again(lab)
    lab.router.network.regain()
    lab.reset()
    assert lab.router.network.state() == before
