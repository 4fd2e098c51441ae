"""The hosts of a lab, made of its containers: which program each channel finds there."""

from __future__ import annotations

from collections.abc import Mapping

from maillab.engine.channel import LATER, Channel
from maillab.host import Host
from maillab.postfix import MailHost
from maillab.record import Record
from maillab.sendmail import SendmailHost
from maillab.topology import Topology

# Loaded when first asked for something, those sooner that are used the most.
_AGENT_PROGRAMS = (
    LATER,
    "smtpclient",
    "smtpserver",
    "packetfilter",
    "addresses",
    "crowd",
    "capture",
    "datagrams",
    "pop3client",
    "line",
    "netstate",
    "netqueue",
    "middlebox",
    "load",
    "dnsproxy",
)
_POSTFIX_PROGRAMS = ("machine", "processes", "disk")
_SENDMAIL_PROGRAMS = ("sendmailhost",)


def hosts(
    site: Topology, containers: Mapping[str, str], net: str, record: Record
) -> dict[str, Host]:
    """Each role's host, by name; ``containers`` by service."""
    made: dict[str, Host] = {}
    for role in site.roles.values():
        agent = Channel(containers[role.agent_service], role.name, _AGENT_PROGRAMS)
        if role.has_mail:
            kind = SendmailHost if role.has_sendmail else MailHost
            programs = _SENDMAIL_PROGRAMS if role.has_sendmail else _POSTFIX_PROGRAMS
            mail = Channel(containers[role.name], role.name, programs)
            made[role.name] = kind(role, net, agent, mail, record)
        else:
            made[role.name] = Host(role, net, agent, record)
    return made
