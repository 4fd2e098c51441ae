"""A lab reaches nothing except itself, by address or by name. Needs an engine."""

from __future__ import annotations

import contextlib
import functools
import itertools
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from docker.errors import APIError
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from facts import of_this_process, wait_until
from maillab.engine import images
from maillab.engine.client import connect
from maillab.errors import NoSubnet
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology

WAYS_OUT = (Path(__file__).parents[1] / "support/ways_out.py").read_text()
# Addresses without a host: for documentation (RFC 5737, RFC 3849) and of any site (RFC 4193).
OUTSIDE = ("203.0.113.1", "2001:db8:ffff::1", "fd00::1")
# A name server that gives every question the same answer.
ANSWERS_ALL = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
while True:
    query, client = server.recvfrom(1000)
    question = query[12 : query.index(0, 12) + 5]
    head = query[:2] + bytes.fromhex("81800001000100000000")
    answer = bytes.fromhex("c00c000100010000003c0004") + bytes([198, 51, 100, 7])
    server.sendto(head + question + answer, client)
"""
# The first step of nft(8) to change a rule: begin a batch (NFNL_MSG_BATCH_BEGIN).
NETLINK = """
import socket, struct
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
netlink.send(struct.pack("=IHHIIBBH", 20, 0x10, 5, 1, 0, 0, 0, 0x0A00))
number = struct.unpack_from("=i", netlink.recv(1000), 16)[0]
print(OSError(-number, "not permitted" if number == -1 else "permitted"))
"""
# Two ranges for a network, of IPv4 (RFC 5737) and of IPv6 (RFC 4193); tests beside each other,
# of this run or another, take different ones.
SUBNETS = [
    (f"198.51.100.{16 * number}/28", f"fd9e:6c61:62{number:02x}::/64") for number in range(16)
]


@pytest.fixture
def open_network(request: pytest.FixtureRequest) -> Iterator[str]:
    """Create a network as the labs use, plus IPv6; remove it with its containers."""
    images.ensure([request.config.option.postfix])
    network = create_network()
    yield str(network.id)
    network.reload()
    for container in network.containers:
        container.remove(force=True)
    network.remove()


def create_network() -> Network:
    """Create the network in the first ranges that are free."""
    for ranges in SUBNETS:
        try:
            return connect().networks.create(
                f"maillab-test-{uuid.uuid4().hex[:8]}",
                internal=True,
                enable_ipv6=True,
                options={"com.docker.network.bridge.inhibit_ipv4": "true"},
                ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet) for subnet in ranges]),
            )
        except APIError as error:
            if "overlap" not in str(error.explanation):
                raise
    raise AssertionError(f"all of {SUBNETS} are in use")


# Makes nft(8) refuse features that older kernels lack: owned tables, the egress hook.
OLDER_KERNEL = r"""
cat >/usr/local/bin/nft <<'EOF'
#!/bin/sh
[ "$1" != -c ] || ! grep -qE "owner|egress" "$3" || exit 1
exec /usr/sbin/nft "$@"
EOF
chmod +x /usr/local/bin/nft
exec bash /opt/maillab/agent-init.sh
"""


def guest(network: str, *, closed: bool, dns: str = "", entrypoint: Sequence[str] = ()) -> str:
    """Start a separate agent, closed as in a lab or open as the engine leaves it."""
    image = next(image for image in images.needed("3.10") if image.kind == "agent")
    client = connect()
    subnet = client.api.inspect_network(network)["IPAM"]["Config"][0]["Subnet"]
    container = client.containers.run(
        image.tag,
        entrypoint=list(entrypoint) or (None if closed else ["sleep", "infinity"]),
        network=network,
        cap_add=["NET_ADMIN"],
        cap_drop=["NET_RAW", "MKNOD"] if closed else [],
        dns=[dns] if dns else None,
        environment={"LAB": subnet, "NAMESERVER": "127.0.0.1"},
        detach=True,
    )
    if closed:
        wait_until(lambda: container.exec_run("grep ^#.maillab /etc/resolv.conf").exit_code == 0)
    return str(container.id)


def address_of(container: str) -> str:
    """Return a guest's address."""
    (settings,) = connect().api.inspect_container(container)["NetworkSettings"]["Networks"].values()
    return str(settings["IPAddress"])


def test_two_labs_of_one_topology_never_meet(lab: Lab) -> None:
    """Mail of one lab does not appear in the other, though all names are equal."""
    other = labs.start(lab.topology, lab.requested_version)
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


class EngineHost:
    """The engine's host, listening on a port for all traffic from a lab."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._stream = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port = self._stream.getsockname()[1]
        self._datagrams = [
            socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)
        ]
        self._datagrams[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        threading.Thread(target=self._accept, daemon=True).start()
        for receiver in self._datagrams:
            receiver.bind(("", self.port))
            threading.Thread(target=self._receive, args=(receiver,), daemon=True).start()

    @property
    def addresses(self) -> list[str]:
        """Return all its addresses except those of its loopback interface."""
        found = [address for some in psutil.net_if_addrs().values() for address in some]
        return [
            address.address.partition("%")[0]
            for address in found
            if (address.family == socket.AF_INET and not address.address.startswith("127."))
            or (address.family == socket.AF_INET6 and address.address != "::1")
        ]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, client = self._stream.accept()
                connection.close()
                self.heard.append(f"TCP from {client[0]}")

    def _receive(self, receiver: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.heard.append(receiver.recv(1000).decode(errors="replace"))

    def everything(self) -> list[str]:
        """Return all that was heard of the traffic sent so far."""
        for receiver, address in zip(self._datagrams, ("127.0.0.1", "::1"), strict=True):
            end = uuid.uuid4().hex
            with socket.socket(receiver.family, socket.SOCK_DGRAM) as ours:
                ours.sendto(end.encode(), (address, self.port))
            wait_until(functools.partial(self.heard.__contains__, end))
            self.heard.remove(end)
        return self.heard

    def close(self) -> None:
        for listener in (self._stream, *self._datagrams):
            listener.close()


@pytest.fixture
def engine_host() -> Iterator[EngineHost]:
    host = EngineHost()
    yield host
    host.close()


def tried(container: str, kind: str, name: str, port: int, addresses: Iterable[str]) -> list[str]:
    """Return the ways out that a container's programs find open."""
    argv = ["python3", "-c", WAYS_OUT, kind, name, str(port), *addresses]
    api = connect().api
    started = api.exec_create(container, argv)["Id"]
    output = api.exec_start(started).decode()
    assert api.exec_inspect(started)["ExitCode"] == 0, output
    return output.split("\n")[:-1] if output.strip() else []


def tried_by_frames(container: str, name: str, port: int, addresses: Iterable[str]) -> list[str]:
    """Return the ways out that raw frames find, from a guest in its network with NET_RAW."""
    client = connect()
    output: bytes = client.containers.run(
        client.api.inspect_container(container)["Image"],
        entrypoint=["python3", "-c", WAYS_OUT, "frames", name, str(port), *addresses],
        network_mode=f"container:{container}",
        remove=True,
    )
    return output.decode().split("\n")[:-1] if output.strip() else []


@pytest.mark.parametrize("name", topology.names())
def test_nothing_in_a_lab_reaches_anything_outside(
    name: str, some_labs: Labs, engine_host: EngineHost, request: pytest.FixtureRequest
) -> None:
    """A lab reaches neither the engine's host, at any address, nor hosts beyond it."""
    lab = some_labs.get(topology.load(name), request.config.option.postfix)
    containers = lab.project.containers
    gateways = {f"{lab.project.net}.{number}" for number in (1, 129)}
    gateways6 = {
        f"{prefix}{gateway}" for prefix in ("2001:db8::", "fe80::") for gateway in gateways
    }
    addresses = [*engine_host.addresses, *gateways, *gateways6, *OUTSIDE]

    def sockets(service: str) -> list[str]:
        return tried(containers[service], "sockets", service, engine_host.port, addresses)

    def frames(service: str) -> list[str]:
        return tried_by_frames(containers[service], service, engine_host.port, addresses)

    owners = [s for s in containers if s == "dns" or s.endswith("-net")]
    with ThreadPoolExecutor(4) as pool:
        open_ways = dict(zip(containers, pool.map(sockets, containers), strict=True))
        open_frames = dict(zip(owners, pool.map(frames, owners), strict=True))

    assert open_ways == {service: [] for service in containers}
    assert open_frames == {service: [] for service in owners}
    assert engine_host.everything() == []
    for service, version in itertools.product(owners, ("-4", "-6")):
        shown = connect().containers.get(containers[service])
        route = shown.exec_run(f"ip {version} route show default")
        assert (route.exit_code, route.output) == (0, b"")


def test_the_ways_out_work_outside_a_lab(engine_host: EngineHost, open_network: str) -> None:
    """From a container beside the labs, all ways except TCP over IPv4 reach the host."""
    container = guest(open_network, closed=False)

    ways = tried(container, "sockets", "open", engine_host.port, engine_host.addresses)
    frames = tried_by_frames(container, "open", engine_host.port, engine_host.addresses)

    heard = engine_host.everything()
    assert any(line.startswith("open: UDP 255.255.255.255 eth0") for line in heard)
    assert any(line.startswith("open: UDP 224.0.0.1 eth0") for line in heard)
    assert "open: frame eth0" in heard
    assert "eth0: a frame of type 86dd came back" in frames
    assert "eth0: a frame of type 0806 came back" in frames
    assert [way for way in ways if way.startswith("raw socket")]
    assert "resolver listens" in ways


def test_a_network_with_ipv6_stays_closed(engine_host: EngineHost, open_network: str) -> None:
    """The host's bridge answers by link-local address, but not to a lab's host."""
    port, addresses = engine_host.port, engine_host.addresses
    beside, closed = (guest(open_network, closed=closed) for closed in (False, True))

    ways = tried(beside, "sockets", "beside", port, addresses)
    closed_ways = tried(closed, "sockets", "closed", port, addresses)
    closed_ways += tried_by_frames(closed, "closed", port, addresses)

    assert [way for way in ways if way.startswith("TCP fe80:")]
    assert "beside: UDP ff02::1 eth0" in engine_host.everything()
    assert closed_ways == []
    assert not [line for line in engine_host.heard if line.startswith("closed")]


def test_an_older_kernel_closes_what_sockets_can_reach(
    engine_host: EngineHost, open_network: str
) -> None:
    """Without owned tables and the egress hook no socket reaches the engine's host."""
    older = guest(open_network, closed=True, entrypoint=["bash", "-c", OLDER_KERNEL])
    rules = connect().containers.get(older).exec_run("nft list ruleset").output

    assert b"table inet closed" in rules
    assert b"owner" not in rules
    assert b"egress" not in rules
    assert not tried(older, "sockets", "older", engine_host.port, engine_host.addresses)
    assert engine_host.everything() == []


def test_no_query_leaves_by_the_engines_resolver(open_network: str) -> None:
    """The resolver answers no query from a lab, even with an upstream that would."""
    upstream = guest(open_network, closed=False)
    address = address_of(upstream)
    connect().containers.get(upstream).exec_run(["python3", "-c", ANSWERS_ALL], detach=True)

    def asked(container: str) -> list[str]:
        ways = tried(container, "sockets", "asker", 9, [])
        return [way for way in ways if way.startswith("resolver")]

    beside, closed = (guest(open_network, closed=closed, dns=address) for closed in (False, True))
    # The upstream's container may need time before it listens.
    wait_until(lambda: "resolver answers www.debian.org: 1 records" in asked(beside))
    assert asked(closed) == []


def test_the_labs_own_programs_cannot_open_it(lab: Lab, engine_host: EngineHost) -> None:
    """The rules belong to the agent's PID 1, which outlives every other program."""
    containers = lab.project.containers
    for service in ("dns", "sender-net"):
        container = connect().containers.get(containers[service])
        rules = container.exec_run("nft --stateless list table inet closed").output
        assert b"drop" in rules
        for lift in (
            "nft flush ruleset",
            "nft delete table inet closed",
            "nft delete table netdev closed",
            "nft insert rule inet closed output accept",
        ):
            container.exec_run(lift)
        assert container.exec_run("nft --stateless list table inet closed").output == rules
        assert container.exec_run("nft list table netdev closed").exit_code == 0
    program = connect().containers.get(containers["sender"])
    assert b"not permitted" in program.exec_run(["python3", "-c", NETLINK]).output


@pytest.mark.parametrize("name", topology.names())
def test_names_come_from_the_labs_dns_forward_and_reverse(
    name: str, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """Every host finds every other by name and address; other names do not exist."""
    lab = some_labs.get(topology.load(name), request.config.option.postfix)
    asker = lab.mail_hosts[0]
    for host in lab.hosts.values():
        versions = {"ahostsv4": host.addresses, "ahostsv6": host.addresses6}
        for database, addresses in versions.items():
            forward = asker.run("getent", database, host.fqdn).stdout.split()
            assert forward[0] in addresses
            for address in addresses:
                backward = asker.run("getent", "hosts", address).stdout.split()
                assert backward[1].endswith(host.fqdn)
    assert asker.run("getent", "ahostsv4", "debian.org", check=False).status == 2
    assert asker.run("getent", "ahostsv4", "primary-net", check=False).status == 2


def test_a_taken_subnet_makes_a_lab_take_the_next(lab: Lab) -> None:
    """A lab tries each subnet of the pool; a full pool is an error and leaves nothing."""
    net = lab.project.net
    # A small pool, with more subnets than parallel runs may take.
    pool_of_eight = f"{net.rsplit('.', 1)[0]}.{int(net.rsplit('.', 1)[1]) & ~7}.0/21"
    other = labs.start(lab.topology, lab.requested_version, pool=pool_of_eight)
    try:
        before = of_this_process()
        with pytest.raises(NoSubnet, match="maillab sweep"):
            labs.start(lab.topology, lab.requested_version, pool=f"{other.project.net}.0/24")
        assert of_this_process() == before
    finally:
        other.down()
