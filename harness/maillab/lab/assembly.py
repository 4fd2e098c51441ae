"""The hosts of a lab, made from its containers, and the programs that each channel loads."""

from __future__ import annotations

from collections.abc import Mapping

from maillab.engine.channel import LATER, Channel
from maillab.engine.starts import Starts
from maillab.hosts.dovecot import DovecotHost
from maillab.hosts.front import FrontHost
from maillab.hosts.host import Host
from maillab.hosts.postfix import PostfixHost
from maillab.hosts.sendmail import SendmailHost
from maillab.hosts.serverhost import ServerHost
from maillab.hosts.tables import TablesHost
from maillab.scenario.state import ScenarioState
from maillab.site.ipv6 import behind_prefix
from maillab.site.topology import Topology

# Loaded on first use, except those before LATER; the most used come first.
_AGENT_PROGRAMS = (
    # First, so that the baseline is taken before any other program changes the container.
    "baseline",
    LATER,
    "smtpclient",
    "smtpserver",
    "packetfilter",
    "addresses",
    "connections",
    "rawsockets",
    "capture",
    "datagrams",
    "pop3client",
    "imapclient",
    "line",
    "netstate",
    "netqueue",
    "middlebox",
    "slowanswers",
    "load",
    "resolver",
    "routes",
)
_NAME_SERVER_PROGRAMS = ("baseline", LATER, "packetfilter", "netstate", "dnsproxy", "records")
_FILTER_PROGRAMS = ("supervised", "filters")
_POSTFIX_PROGRAMS = ("machine", "processes", "disk")
# By the kind of server: the class of its host, and the programs in its container.
_SERVERS: dict[str, tuple[type[ServerHost], tuple[str, ...]]] = {
    "dovecot": (DovecotHost, ("dovecothost",)),
    "front": (FrontHost, ("fronthost",)),
    "postfix": (PostfixHost, _POSTFIX_PROGRAMS),
    "sendmail": (SendmailHost, ("sendmailhost",)),
    "tables": (TablesHost, ("supervised", "tableshost")),
}


def hosts(
    site: Topology,
    containers: Mapping[str, str],
    net: str,
    scenario: ScenarioState,
    starts: Starts,
) -> dict[str, Host]:
    """Return each role's host by name; ``containers`` are ids by service."""
    made: dict[str, Host] = {}
    for role in site.roles.values():
        agent = Channel(containers[role.agent_service], role.name, _AGENT_PROGRAMS, starts)
        if role.server:
            kind, programs = _SERVERS[role.server]
            server = Channel(containers[role.name], role.name, programs, starts)
            made[role.name] = kind(role, net, agent, server, scenario)
        else:
            made[role.name] = Host(role, net, agent, scenario)
    return made


def others(site: Topology, containers: Mapping[str, str], starts: Starts) -> dict[str, Channel]:
    """Return the channel into each container that belongs to no host, by service."""
    programs: dict[str, tuple[str, ...]] = {}
    programs |= dict.fromkeys(site.name_servers, _NAME_SERVER_PROGRAMS)
    programs |= dict.fromkeys(site.filters.values(), _FILTER_PROGRAMS)
    return {
        name: Channel(containers[name], name, programs.get(name, ("baseline",)), starts)
        for name in site.others
        if name in containers
    }


def name_servers(site: Topology, others: Mapping[str, Channel], net: str) -> dict[str, Channel]:
    """Return the channel into each name server's container, by its addresses."""
    return {
        address: others[name]
        for name, numbers in site.name_servers.items()
        if name in others
        for number in numbers
        for address in (f"{net}.{number}", behind_prefix(f"{net}.{number}"))
    }
