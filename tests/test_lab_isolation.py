"""A lab reaches nothing but itself, by address or by name. Needs an engine."""

from __future__ import annotations

import contextlib
import socket
import threading

import psutil
import pytest
from facts import of_this_process

from maillab import lab as labs
from maillab import topology
from maillab.errors import NoSubnet
from maillab.lab import Lab
from maillab.labs import Labs

pytestmark = pytest.mark.xdist_group("labs")


def test_two_labs_of_one_topology_never_meet(lab: Lab) -> None:
    """Mail of one lab is not seen in the other, though all names are the same."""
    other = labs.start(lab.topology, lab.version)
    try:
        ours = lab.sender.send("alice@example.org")
        theirs = other.sender.send("bob@example.org")
        lab.settle(ours)
        other.settle(theirs)

        assert ours.delivered_to(lab.primary, "alice")
        assert theirs.delivered_to(other.primary, "bob")
        assert not lab.primary.mailbox("bob")
        assert not other.primary.mailbox("alice")
    finally:
        other.down()


@pytest.mark.parametrize("name", topology.names())
def test_nothing_in_a_lab_reaches_anything_outside(
    name: str, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """Neither the engine's host, at any of its addresses, nor anything beyond it."""
    reached = threading.Event()
    with socket.create_server(("0.0.0.0", 0)) as listener:  # noqa: S104  # the attempt must be able to succeed
        port = listener.getsockname()[1]
        threading.Thread(target=_accept, args=(listener, reached), daemon=True).start()
        lab = some_labs.get(topology.load(name), request.config.option.postfix)
        own = {
            address.address
            for interface in psutil.net_if_addrs().values()
            for address in interface
            if address.family == socket.AF_INET and not address.address.startswith("127.")
        }
        gateways = {f"{lab.project.net}.{number}" for number in (1, 129)}
        outside = "192.0.2.1"
        for host in lab.hosts.values():
            assert not host.agent.call("run", argv=["ip", "route", "show", "default"])["stdout"]
            for address in {*own, *gateways, outside}:
                tried = host.agent.call(
                    "run",
                    argv=["python3", "-c", _CONNECT, address, str(port)],
                )
                assert tried["stdout"].strip() != "connected", (host.name, address)
        assert not reached.is_set()


_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.3)
    print("connected")
except OSError as error:
    print(error)
"""


def _accept(listener: socket.socket, reached: threading.Event) -> None:
    with contextlib.suppress(OSError):
        listener.accept()
        reached.set()


@pytest.mark.parametrize("name", topology.names())
def test_names_come_from_the_labs_dns_forward_and_reverse(
    name: str, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """Every host finds every other by name and by address; other names do not exist."""
    lab = some_labs.get(topology.load(name), request.config.option.postfix)
    asker = lab.mail_hosts[0]
    for host in lab.hosts.values():
        forward = asker.run("getent", "ahostsv4", host.fqdn).stdout.split()
        assert forward[0] in host.addresses
        for address in host.addresses:
            backward = asker.run("getent", "hosts", address).stdout.split()
            assert backward[1].endswith(host.fqdn)
    assert asker.run("getent", "ahostsv4", "debian.org", check=False).status == 2
    assert asker.run("getent", "ahostsv4", "primary-net", check=False).status == 2


def test_a_taken_subnet_makes_a_lab_take_the_next(lab: Lab) -> None:
    """The pool is walked; only when all of it is taken there is an error, and nothing left."""
    net = lab.project.net
    # Few, but more than the labs of runs beside this one may take of them.
    pool_of_eight = f"{net.rsplit('.', 1)[0]}.{int(net.rsplit('.', 1)[1]) & ~7}.0/21"
    other = labs.start(lab.topology, lab.version, pool=pool_of_eight)
    try:
        before = of_this_process()
        with pytest.raises(NoSubnet, match="maillab sweep"):
            labs.start(lab.topology, lab.version, pool=f"{other.project.net}.0/24")
        assert of_this_process() == before
    finally:
        other.down()
