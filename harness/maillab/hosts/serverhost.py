"""A host with a server whose log the lab reads and whose mailboxes it counts."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maillab.engine.channel import Answer, Channel
from maillab.errors import TimedOut
from maillab.hosts import command
from maillab.hosts.command import Done
from maillab.hosts.host import Host
from maillab.hosts.withheld import WithheldChannel
from maillab.mail import message
from maillab.mail.comparison import Rewriting
from maillab.mail.history import Queued, Stored
from maillab.scenario.state import ScenarioState
from maillab.site.topology import Role

_MARK_WITHIN_S = 10.0


@dataclass(frozen=True)
class Contents:
    """The contents of a host's mailboxes and queue directories, and its address rewriting."""

    stored: list[Stored]
    queued: list[Queued]
    rewriting: Rewriting


class ServerHost(Host, abc.ABC):
    """A host with a server in a container of its own: log, mailboxes, start and stop.

    `MailServer` is a host with an MTA, `DovecotHost` one with mailboxes alone.
    """

    # The configuration files that go into the evidence.
    configuration: tuple[str, ...]

    def __init__(
        self, role: Role, net: str, agent: Channel, server: Channel, scenario: ScenarioState
    ) -> None:
        super().__init__(role, net, agent, scenario)
        self._server = server
        self._withheld = False
        # True while the container is killed or paused and cannot answer.
        self.away = False

    @property
    def channel(self) -> Channel:
        """The channel into the server's container."""
        return self._server

    def _withhold(self) -> None:
        super()._withhold()
        self._server = WithheldChannel(self._server)
        self._withheld = True

    @property
    @abc.abstractmethod
    def version(self) -> str:
        """The version that the server reports."""

    def run_tool(self, *argv: str, stdin: str = "", check: bool = True) -> Done:
        """Run a command that works on files alone, such as openssl(1).

        Unlike ``run``, do not restart the server before it, even if settings have changed.
        """
        self._record(argv, stdin)
        return self._run_tool(*argv, stdin=stdin, check=check)

    def _run_tool(self, *argv: str, stdin: str = "", check: bool = True) -> Done:
        """Run a command as ``run_tool`` does, without recording it as an instruction."""
        return command.run_tool(self.channel, self.name, argv, stdin=stdin, check=check)

    # The server's processes.

    def start(self) -> None:
        """Start the server; it accepts connections on return."""
        self.channel.call("start")

    def stop(self) -> None:
        """Stop the server; none of its processes is left on return."""
        self.channel.call("stop")

    def restart(self) -> None:
        """Stop and start; a stopped server stays stopped."""
        self.channel.call("restart")

    # Mail that arrived.

    def stored(self) -> list[Stored]:
        """Return every message in every mailbox of the host."""
        return self.contents(self.channel.call("collect")).stored

    def mailbox(self, user: str) -> list[message.EmailMessage]:
        """Return a user's messages, mbox or maildir, parsed; oldest first.

        For a virtual domain, give the full address, such as "info@example.org".
        """
        return [message.parse(copy.raw) for copy in self.stored() if copy.is_in(self.name, user)]

    # For the lab.

    def begin_mark(self, token: str) -> Answer:
        """Ask the host to log a sentinel line after everything logged so far."""
        if self.filters is not None:
            self.filters.call("flush_log")
        return self.channel.begin("mark", text=f"mark {token}")

    def catch_up(self) -> None:
        """Wait until every line logged so far has arrived."""
        stream = self.scenario.stream
        since, token = stream.position, stream.new_token()
        for last in (False, True):
            self.begin_mark(token).result()
            try:
                stream.wait_for_marks({self.name: token}, since=since, within_s=_MARK_WITHIN_S)
            except TimedOut:
                # A postlogd(8) that is killed loses the lines that it holds.
                if last:
                    raise
            else:
                return

    # Its name in 0.1.0.
    mark = catch_up

    def contents(self, collected: Mapping[str, Any]) -> Contents:
        """Return mailboxes and queue from the host's answer."""
        stored = [
            _stored(self.name, self.fqdn, owner, raw, path)
            for owner, form, content, path in collected["mailboxes"]
            for raw in _messages(content.encode("latin-1"), form)
        ]
        rewriting = _rewriting(**collected["rewriting"])
        return Contents(stored, queue_files(self.name, collected["queued"]), rewriting)


def _rewriting(*, mapped: bool = False, reordered: bool = False, **names: list[str]) -> Rewriting:
    sets = {name: frozenset(words) for name, words in names.items()}
    return Rewriting(mapped=mapped, reordered=reordered, **sets)


def queue_files(host: str, found: list[list[str]]) -> list[Queued]:
    """Return the queue files of a host from its answer."""
    return [Queued(host, queue_id, queue, message_id) for queue, queue_id, message_id in found]


def _messages(content: bytes, form: str) -> list[bytes]:
    """Split an mbox where Postfix separates messages: at a From line after an empty line.

    procmail(1) quotes the From line of its input if it does not trust its caller.
    """
    if form == "maildir":
        return [content]
    parts = re.split(rb"(?m)(?:\A|(?<=\n\n))From [^\n]*\n(?:>From [^\n]*\n)?", content)
    return [part for part in parts if part.strip()]


def _stored(host: str, fqdn: str, owner: str, raw: bytes, path: str) -> Stored:
    headers = message.parse_headers(raw)
    received = headers.get("received", "")
    # Dovecot's LMTP server writes its session id there.
    way = r"(?:\(.{0,998}?\bid (\w+)|with LMTPS?\s+id ([^\s;]+))"
    by = re.search(rf"by {re.escape(fqdn)} {way}", received, re.DOTALL)
    return Stored(
        host=host,
        mailbox=owner,
        message_id=headers.get("message-id", "").strip(),
        queue_id=(by[1] or by[2]) if by else "",
        delivered_to=headers.get("delivered-to", "").strip(),
        original_to=headers.get("x-original-to", "").strip(),
        raw=raw,
        path=path,
        marker=headers.get(message.MARKER.lower(), ""),
    )
