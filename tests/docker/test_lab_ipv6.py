"""IPv6 of a lab: on any engine, taken and given back, and missing. Needs an engine."""

from __future__ import annotations

import pytest
from docker.types import IPAMConfig, IPAMPool

from facts import wait_until
from maillab.engine import compose, images
from maillab.engine.client import connect
from maillab.engine.container import set_network
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.site import topology

# What an engine leaves that turns IPv6 off on the interface (28 and later): the agent begins then.
WHEN_OFF = """
until [ "$(</proc/sys/net/ipv6/conf/eth0/disable_ipv6)" = 1 ]; do sleep 0.01; done
exec bash /opt/maillab/agent-init.sh
"""
# A kernel parameter of an interface that is never there: the engine's words are those about
# a kernel without IPv6.
ABSENT = {"IPV6_SYSCTL": "net.ipv6.conf.absent.disable_ipv6=0"}


def test_a_scenarios_changes_of_addresses_end_with_it(lab: Lab) -> None:
    """Addresses, routes, records and the resolver of each host are as before."""
    assert lab.no_ipv6 == ""
    before = {name: host.network.state() for name, host in lab.hosts.items()}
    resolver = lab.sender.read("/etc/resolv.conf")

    lab.sender.ipv6_only()
    lab.primary.ipv4_only()
    lab.backup.ipv6_off()
    lab.victim.add_address6(99)
    lab.sender.configure(inet_protocols="all")
    assert (
        lab.sender.run("getent", "hosts", lab.victim.fqdn).stdout.split()[0] == lab.victim.address6
    )
    assert "2001:db8" not in lab.sender.run("getent", "ahostsv6", lab.primary.fqdn).stdout
    assert lab.victim.run("getent", "ahostsv4", lab.sender.fqdn, check=False).status == 2
    lab.reset()

    assert {name: host.network.state() for name, host in lab.hosts.items()} == before
    assert lab.sender.read("/etc/resolv.conf") == resolver
    assert lab.victim.run("getent", "ahostsv4", lab.sender.fqdn).stdout.startswith(
        lab.sender.address
    )


def test_programs_that_may_use_both_versions_try_ipv4_first(lab: Lab) -> None:
    """So a site's other parts go on as before it had IPv6."""
    found = lab.sender.run("getent", "ahosts", lab.primary.fqdn).stdout.split()

    assert found[0] == lab.primary.address
    assert lab.primary.address6 in found


def test_an_engine_that_turns_ipv6_off_on_interfaces() -> None:
    """The agent turns it on again, although it cannot write in /proc/sys."""
    images.ensure(["3.10"])
    image = next(image for image in images.needed("3.10") if image.kind == "agent")
    client = connect()
    network = client.networks.create(
        "maillab-test-off",
        internal=True,
        options={"com.docker.network.bridge.inhibit_ipv4": "true"},
        ipam=IPAMConfig(pool_configs=[IPAMPool(subnet="198.51.100.240/28")]),
    )
    try:
        agent = client.containers.run(
            image.tag,
            entrypoint=["bash", "-c", WHEN_OFF],
            network=network.id,
            cap_add=["NET_ADMIN"],
            sysctls={"net.ipv6.conf.all.disable_ipv6": "0"},
            environment={"LAB": "198.51.100.240/28", "NAMESERVER": "127.0.0.1"},
            detach=True,
        )
        try:
            set_network(str(agent.id), {"net.ipv6.conf.eth0.disable_ipv6": "1"})
            wait_until(lambda: agent.exec_run("grep ^#.maillab /etc/resolv.conf").exit_code == 0)
            shown = agent.exec_run("ip -6 -o address show dev eth0").output
            assert b"inet6 2001:db8::c633:64f" in shown
            assert b"inet6 fe80::c633:64f" in shown
            assert b"mtu 1500" in agent.exec_run("ip -o link show dev eth0").output
        finally:
            agent.remove(force=True)
    finally:
        network.remove()


def test_a_kernel_without_ipv6_has_labs_of_ipv4(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lab starts, has no address, no record and no rule of IPv6, and says why."""
    left_out = compose.kernel_parameters
    monkeypatch.setattr(compose, "_kernel_lacks_ipv6", False)
    monkeypatch.setattr(
        compose, "kernel_parameters", lambda: left_out() if compose.no_ipv6() else ABSENT
    )

    lab = labs.start(topology.load("backup-mx"), request.config.option.postfix)
    try:
        assert lab.no_ipv6 == "the kernel of the engine's machine has no IPv6"
        assert lab.sender.network.run("ip", "-6", "address").stdout == ""
        asked = lab.sender.run("getent", "ahostsv6", lab.primary.fqdn, check=False)
        assert "2001:db8" not in asked.stdout
        # Postfix's own way to do without.
        lab.sender.configure(inet_protocols="all")
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail)
        assert mail.delivered_to(lab.primary, "alice")
    finally:
        lab.down()
