"""A host's network: commands in its namespace, and the namespace's state."""

from __future__ import annotations

import uuid
from typing import Any

from maillab.engine.channel import Channel
from maillab.engine.container import helper_with_raw_sockets
from maillab.hosts import command
from maillab.hosts.command import Done

_PCAP = "/tmp/capture.pcap"  # noqa: S108  # in the agent


class Network:
    """The network namespace of a host, which its agent owns."""

    def __init__(self, host: str, agent: Channel) -> None:
        self._host = host
        self._agent = agent

    def run(self, *argv: str, check: bool = True, **options: Any) -> Done:
        """Run a command of the agent, such as ip(8), nft(8) or tcpdump(8).

        Raise CommandFailed if ``check`` is set and the command fails.
        """
        return command.run(self._agent, self._host, argv, check=check, **options)

    def state(self) -> str:
        """Return links, addresses, routes, rules, qdiscs, packet filter and sysctls as text.

        Two texts are equal if nothing but time and traffic has changed the namespace.
        """
        return str(self._agent.call("netstate")["text"])

    def packets(self, expression: str) -> list[str]:
        """Return the packets of the host's capture that match pcap-filter(7), one a line.

        Call it after ``lab.capture()`` and ``lab.captured()``.
        """
        return self.run("tcpdump", "-n", "-r", _PCAP, expression).stdout.splitlines()

    def raw_socket_helper(self) -> str:
        """Start the helper that the agent's next raw socket needs; return its token."""
        token = uuid.uuid4().hex
        self._agent.call("helper_expect", token=token)
        helper_with_raw_sockets(self._agent.container, token)
        return token

    def abandon(self) -> None:
        """Close the channel to the agent, as a harness that is killed does."""
        self._agent.close()

    def regain(self) -> None:
        """Open the channel again."""
        self._agent.open()
