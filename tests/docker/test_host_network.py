"""Changes to a host's network, and their removal by a reset. Needs an engine."""

from __future__ import annotations

import pytest

from maillab.errors import CommandFailed, HostGone
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology

NO_DISCOVERY = "net.ipv4.ip_no_pmtu_disc"


@pytest.fixture
def lab(some_labs: Labs) -> Lab:
    return some_labs.get(topology.load("backup-mx"), "3.10")


def kernel(lab: Lab) -> str | None:
    """Return the sender's value of the parameter."""
    content: str | None = lab.sender.agent.call(
        "read", path=f"/proc/sys/{NO_DISCOVERY.replace('.', '/')}"
    )["content"]
    return content


def test_a_kernel_parameter_is_the_hosts_own_until_the_reset(lab: Lab) -> None:
    before = lab.sender.agent.call("netstate"), lab.primary.agent.call("netstate")

    lab.sender.sysctl(NO_DISCOVERY, "1")
    lab.sender.sysctl(NO_DISCOVERY, "3")

    assert kernel(lab) == "3\n"
    assert lab.primary.agent.call("netstate") == before[1]
    lab.reset()
    assert lab.sender.agent.call("netstate") == before[0]


def test_a_withheld_kernel_parameter_is_not_set(lab: Lab) -> None:
    lab.scenario.withhold = "cures"

    lab.sender.cure.sysctl(NO_DISCOVERY, "1")

    assert kernel(lab) == "0\n"


def test_a_parameter_of_the_whole_machine_is_refused(lab: Lab) -> None:
    with pytest.raises(HostGone, match=r"kernel\.panic"):
        lab.sender.sysctl("kernel.panic", "0")


def test_a_path_with_small_packets_ends_with_the_reset(lab: Lab) -> None:
    before = lab.sender.agent.call("netstate")

    lab.sender.limit_mtu(lab.primary.address, 600)

    way = lab.sender.agent.call("run", argv=["ip", "route", "get", lab.primary.address])
    assert "mtu 600" in way["stdout"]
    lab.reset()
    assert lab.sender.agent.call("netstate") == before


def test_a_capture_is_asked_for_packets(lab: Lab) -> None:
    lab.capture()
    with lab.sender.session(lab.primary):
        pass
    lab.captured()

    asked = f"tcp port 25 and src host {lab.sender.address} and tcp[tcpflags] == tcp-syn"
    assert len(lab.primary.network.packets(asked)) == 1
    assert not lab.primary.network.packets("tcp port 26")
    with pytest.raises(CommandFailed, match="syntax error"):
        lab.primary.network.packets("no such thing")


def test_one_message_a_site_or_everything_is_flushed(lab: Lab) -> None:
    lab.backup.configure(defer_transports="relay, local")
    urgent, other = lab.backup.send("alice@example.org"), lab.backup.send("alice@example.org")
    local = lab.backup.send("bob@backup.example.org")
    lab.settle(urgent, other, local)

    lab.backup.flush(queue_id=urgent.journey.legs[0].queue_id)
    lab.settle(urgent)
    after_one = [bool(mail.delivered_to(lab.primary)) for mail in (urgent, other)]
    lab.backup.flush(site="example.org")
    lab.settle(other)
    waits = bool(local.held_by(lab.backup))
    lab.backup.flush()
    lab.settle(local)

    assert after_one == [True, False]
    assert other.delivered_to(lab.primary, "alice")
    assert waits
    assert local.delivered_to(lab.backup, "bob")
    with pytest.raises(CommandFailed, match="not configured"):
        lab.backup.flush(site="nowhere.test")


def test_etrn_is_waited_for_when_it_was_agreed_to(lab: Lab) -> None:
    lab.primary.stop()
    mail = lab.sender.smtp("alice@example.org", server=lab.backup)
    lab.settle(mail)
    lab.primary.start()

    with lab.primary.session(lab.backup) as session:
        session.ehlo()
        refused = session.etrn("nowhere.test")
        lab.settle(mail)
        waits = bool(mail.held_by(lab.backup))
        agreed = session.etrn("example.org")
        lab.settle(mail)

    assert (refused.code, agreed.code) == (459, 250)
    assert waits
    assert mail.delivered_to(lab.primary, "alice")


def test_a_withheld_session_sends_nothing(lab: Lab) -> None:
    lab.scenario.withhold = "cures"

    with lab.primary.cure.session(lab.backup) as session:
        session.ehlo()
        reply = session.etrn("example.org")
        session.say("anything")

    assert not session.open
    assert (reply.code, reply.text) == (0, "")
