"""Each fault's example in its topology, and the state of a host that faults may change."""

from __future__ import annotations

from maillab.faults.registry import ENTRIES
from maillab.faults.settings import build
from maillab.hosts.host import Fault, Host
from maillab.hosts.postfix import PostfixHost
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology

# Counts the processes of a filter, and those that are stopped.
FILTER = "pgrep -c -x opendkim; ps -C opendkim -o stat= | grep -c T"


def lab_for(labs: Labs, name: str, postfix: str) -> Lab:
    """Return a lab of the topology that a fault's example needs."""
    return labs.get(topology.load(ENTRIES[name].topology), postfix)


def found(lab: Lab, name: str) -> tuple[Host, Fault]:
    """Return the host of a fault's example, and the fault."""
    entry = ENTRIES[name]
    addresses = {role: host.address for role, host in lab.hosts.items()}
    return lab.hosts[entry.host], build(entry.kind, entry.example, addresses)


def state(host: Host) -> list[str]:
    """Return links, routes, qdiscs, rules, sysctls, resolver, mounts, clock and limits.

    The network of the nameserver, where faults of names act, is part of it.
    """
    output = [
        host.agent.call("netstate")["text"],
        str(host.agent.call("read", path="/etc/resolv.conf")),
        host.nameserver.network.state(),
    ]
    if host.filters:
        output.append(host.filter("opendkim").run("sh", "-c", FILTER, check=False).stdout)
    if isinstance(host, PostfixHost):
        limits = "grep files /proc/$(tr -d ' ' </var/spool/postfix/pid/master.pid)/limits"
        output += [
            str(host.read(path))
            for path in ("/proc/self/mounts", "/etc/resolv.conf", "/etc/faketimerc")
        ]
        output += [host.run("sh", "-c", limits).stdout, str(host.channel.call("free_space"))]
    return output
