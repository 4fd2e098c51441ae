"""A running topology: hosts by role, waiting until mail has settled, reset."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from maillab import assembly, ledger, topology
from maillab.clock import Clock
from maillab.engine import compose, images
from maillab.engine.container import set_network
from maillab.errors import LabError, TimedOut
from maillab.history import History
from maillab.host import Host
from maillab.journeys import Journeys
from maillab.load import Loading
from maillab.loadplan import Load
from maillab.loadreport import Report
from maillab.maillog import Event, Started
from maillab.postfix import UNDER_WAY, MailHost
from maillab.record import Mail, Record, Withheld
from maillab.stream import Stream
from maillab.tls import Authority
from maillab.topology import Topology
from maillab.verdict import Expected, Verdict

Kind = TypeVar("Kind", bound=Event)

_UP_WITHIN_S = 60.0
_MARKS_WITHIN_S = 20.0
# How long the mail under way at a scenario's end gets to come to rest.
_QUIET_WITHIN_S = 15.0
# Whose traces a fault leaves on hosts that had no part in it: path MTUs that were learned.
_LEFT_BY_OTHERS = ("packetfilter",)


class Lab:
    """The hosts of one topology, up and running; ``lab.<role>`` is a host."""

    def __init__(self, site: Topology, project: compose.Project, version: str) -> None:
        self.topology = site
        self.project = project
        self.version = version
        self.stream = Stream()
        containers = project.containers
        wanted = {role.agent_service for role in site.roles.values()}
        missing = (wanted | {one.name for one in site.roles.values() if one.has_mail}) - set(
            containers
        )
        if missing:
            raise LabError(
                f"{project.name} is not a whole lab: no {', '.join(sorted(missing))}; "
                f"remove it with 'maillab down {project.name}'"
            )
        addresses = {
            address: role.name
            for role in site.mail_hosts
            for address in role.addresses(project.net)
        }
        unlogged = {
            address: role.name
            for role in site.roles.values()
            if role.has_sendmail
            for address in role.addresses(project.net)
        }
        self.record = Record(self.stream, addresses, unlogged)
        self.hosts = assembly.hosts(site, containers, project.net, self.record)
        self.clock = Clock(lambda: self.mail_hosts)
        self.authority = Authority(lambda: self.mail_hosts)
        for host in self.mail_hosts:
            self.stream.follow(host.name, host.channel.container)

    def __getattr__(self, name: str) -> MailHost:
        # Typed as what most hosts are, so that scenarios need no casts.
        hosts = self.__dict__.get("hosts", {})
        if name not in hosts:
            raise AttributeError(
                f"{self.topology.name} has no host {name!r}; it has: {', '.join(hosts)}"
            )
        host: MailHost = hosts[name]
        return host

    @property
    def mail_hosts(self) -> list[MailHost]:
        """The hosts that run Postfix, or Sendmail."""
        return [host for host in self.hosts.values() if isinstance(host, MailHost)]

    @property
    def _present(self) -> list[MailHost]:
        return [host for host in self.mail_hosts if not host.away]

    def wait_until_up(self) -> None:
        """Wait until every Postfix listens; raises LabError with what its container said."""
        names = {host.name for host in self.mail_hosts}

        def all_started() -> bool:
            started = {event.host for event in self.stream.since() if isinstance(event, Started)}
            return started == names

        self.stream.wait(all_started, within_s=_UP_WITHIN_S, what="the start of every Postfix")
        self.record.begin()

    def keep(self) -> None:
        """Have every mail host remember what it is now, before mail can change it.

        The other side of a channel does so before its first answer. Left to the first
        use, mail that comes from another host would be part of what a reset puts back.
        """
        with ThreadPoolExecutor(len(self.mail_hosts)) as pool:
            for _ in pool.map(
                lambda host: host.channel.call("read", path="/etc/hostname"), self.mail_hosts
            ):
                pass

    # What a scenario says.

    def settle(
        self, *mails: Mail, until: Callable[[], object] | None = None, within_s: float = 30.0
    ) -> None:
        """Wait until nothing more happens to the mail by itself, or ``until`` is true.

        At rest is what was delivered, bounced (its notices, too), refused, put on
        hold, or deferred since the last flush. With no mail named, all of it. On
        return every host's log has been read up to now, so that "nothing reached
        it" is a fact. Raises TimedOut with the journeys and the logs' tails.
        """
        submissions = [mail.submission for mail in mails] or self.record.submissions

        def at_rest() -> bool:
            journeys = Journeys(self.record.history())
            return all(journeys.of(one).at_rest(self.record.flushed) for one in submissions)

        def state() -> str:
            journeys = Journeys(self.record.history())
            return "".join(journeys.of(one).text() + "\n" for one in submissions)

        def settled() -> bool:
            if until and until():
                return True
            if not (at_rest() and self._quiet()):
                return False
            # What a program handed in, on whatever host, was first heard of in a log.
            self.mark()
            return at_rest()

        self.stream.wait(
            settled,
            within_s=within_s,
            what="the mail's coming to rest",
            state=state,
            announced=False,
        )
        self.mark()

    def loading(self, server: MailHost, *clients: Host, **settings: Any) -> Loading:
        """A load on a server for a ``with`` block: it runs beside what the block does.

        From the hosts named, or the first of the others; for the settings see ``Load``.
        """
        others = clients or tuple(host for host in self.hosts.values() if host is not server)[:1]
        return Loading(Load(**settings), server, others, self.mail_hosts)

    def load(self, server: MailHost, *clients: Host, **settings: Any) -> Report:
        """Have a load on a server to its end, see ``loading``; queues may still be full then."""
        return self.loading(server, *clients, **settings).finish()

    def drain(self, within_s: float = 120.0) -> None:
        """Wait until no host has mail under way, however much there is; deferred mail stays."""

        def under_way() -> dict[str, int]:
            lengths = {host.name: host.queue_lengths() for host in self._present}
            return {
                name: sum(count for queue, count in of.items() if queue in UNDER_WAY)
                for name, of in lengths.items()
            }

        self.stream.wait(
            lambda: not any(under_way().values()),
            within_s=within_s,
            what="the end of all mail under way",
            state=lambda: f"{under_way()}\n",
            announced=False,
        )
        self.mark()

    def wait_for(
        self,
        kind: type[Kind],
        *,
        host: Host | None = None,
        saying: str = "",
        within_s: float = 30.0,
    ) -> Kind:
        """Wait for a log line of a kind since the scenario began; returns the first."""

        def logged() -> Kind | None:
            for event in self.stream.since(self.record.begun):
                here = host is None or event.host == host.name
                if here and isinstance(event, kind) and saying in event.text:
                    return event
            return None

        what = f"{kind.__name__} {saying!r} on {host.name if host else 'any host'}"
        return self.stream.wait(logged, within_s=within_s, what=what)

    def events(self, kind: type[Kind], host: Host | None = None) -> list[Kind]:
        """The events of a kind since the scenario began, all logs read up to now."""
        self.mark()
        return [
            event
            for event in self.stream.since(self.record.begun)
            if isinstance(event, kind) and (host is None or event.host == host.name)
        ]

    def expects(
        self, *, because: str, lost: int = 0, duplicated: int = 0, altered: int = 0
    ) -> None:
        """Declare a loss, duplicate or alteration that the scenario is about."""
        self.record.expected.append(
            Expected(lost=lost, duplicated=duplicated, altered=altered, because=because)
        )

    def mark(self) -> None:
        """Wait until all that any host logged by now has arrived."""
        with self._marks() as token:
            for answer in [host.begin_mark(token) for host in self._present]:
                answer.result()

    # What happens between scenarios.

    def conclude(self) -> tuple[History, Verdict]:
        """End a scenario: let mail come to rest, stop every Postfix, do the accounts.

        A host to which nothing happened may go on running; it has nothing to send.
        Raises LabError where mail of an earlier scenario came up in this one.
        """
        with contextlib.suppress(TimedOut):
            self.stream.wait(
                self._quiet,
                within_s=_QUIET_WITHIN_S,
                what="an empty active queue",
                announced=False,
            )
        # A stopped postlogd(8) loses what it was given and has not written yet.
        self.mark()
        halted = [host.channel.begin("halt", whole=self._broken) for host in self.mail_hosts]
        for answer in halted:
            answer.result()
        stored, queued = [], []
        with self._marks() as token:
            answers = [
                (host, host.channel.begin("conclude", token=token)) for host in self.mail_hosts
            ]
            for host, answer in answers:
                contents = host.contents(answer.result())
                stored += contents.stored
                queued += contents.queued
        history = self.record.history(stored, queued)
        if leftovers := self.record.leftovers(history):
            raise LabError(
                f"{self.topology.name}: mail of an earlier scenario came: {', '.join(leftovers)}; "
                "the reset has not put back all: run the tests before this one with --fresh-labs"
            )
        return history, ledger.judge(history, self.record.expected)

    def accounts(self) -> Verdict:
        """Do the accounts while Postfix runs; meant for when no mail is under way."""
        self.mark()
        found = [host.contents(host.channel.call("collect")) for host in self.mail_hosts]
        stored = [copy for contents in found for copy in contents.stored]
        queued = [file for contents in found for file in contents.queued]
        return ledger.judge(self.record.history(stored, queued), self.record.expected)

    def reset(self, withhold: Withheld = "") -> None:
        """Make every host what it was when the lab came up; raises LabError where it cannot."""
        with self._marks() as token:
            channels = {way for host in self.hosts.values() for way in (host.agent, host.channel)}
            broken = self._broken
            also = _LEFT_BY_OTHERS if broken else ()
            healed = [way.begin("heal", also=also) for way in channels if way.used or broken]
            answers = [
                (host, host.channel.begin("reset", token=token, whole=broken))
                for host in self.mail_hosts
            ]
            failed = [f"{host.name}: {f}" for host, a in answers for f in a.result()["failed"]]
            for answer in healed:
                answer.result()
            for host in self.hosts.values():
                if host.kernel_before:
                    set_network(host.agent.container, host.kernel_before)
                    host.kernel_before.clear()
        if failed:
            raise LabError(f"{self.topology.name} cannot be reset: {'; '.join(failed)}")
        self.record.withhold = withhold
        self.record.begin()

    def capture(self) -> None:
        """Begin to record every packet of every host, until the next reset."""
        for answer in [host.agent.begin("capture_start") for host in self.hosts.values()]:
            answer.result()

    def captured(self) -> dict[str, bytes]:
        """End the recording: a pcap file's content by host."""
        answers = {host.name: host.agent.begin("capture_stop") for host in self.hosts.values()}
        return {
            name: answer.result()["content"].encode("latin-1") for name, answer in answers.items()
        }

    def resume(self) -> None:
        """Start every Postfix again after ``conclude``, for somebody who wants to look."""
        for host in self.mail_hosts:
            host.start()

    def down(self) -> None:
        """Remove the lab from the engine."""
        self.detach()
        compose.remove(self.project.name)

    def detach(self) -> None:
        """Leave the lab as it is and close what leads into it."""
        self.stream.close()
        for host in self.hosts.values():
            host.channel.close()
            host.agent.close()

    @property
    def _broken(self) -> bool:
        """Whether there was a fault: it may leave traces on hosts that had no part in it."""
        return bool(self.record.witnesses)

    def _quiet(self) -> bool:
        """Whether no queue file is under way, or was made due by a moved clock.

        Hosts whose Postfix does not run have no say.
        """
        answers = [host.channel.begin("queue_files") for host in self._present]
        return not any(
            answer["due"] or any(queue in UNDER_WAY for queue, _, _ in answer["queued"])
            for answer in [answer.result() for answer in answers]
            if answer["running"]
        )

    @contextlib.contextmanager
    def _marks(self) -> Iterator[str]:
        """Give out a token for every mail host at hand to log, and wait for it in its log."""
        since, token = self.stream.position, self.stream.new_token()
        yield token
        tokens = {host.name: token for host in self._present}
        self.stream.wait_for_marks(tokens, since=since, within_s=_MARKS_WITHIN_S)


def start(site: Topology, version: str, *, by_hand: bool = False, pool: str = "") -> Lab:
    """Bring up a lab; images are made where missing, half a lab is never left behind."""
    images.ensure([version], site.own_images)
    project = compose.up(site, version, by_hand=by_hand, pool=pool)
    try:
        lab = Lab(site, project, version)
        lab.wait_until_up()
        lab.keep()
    except BaseException:
        compose.remove(project.name)
        raise
    return lab


def attach(project: compose.Project) -> Lab:
    """A lab that is up already, its whole log read."""
    site = topology.load(str(project.file))
    lab = Lab(site, project, version="")
    lab.wait_until_up()
    lab.record.begun = 0
    lab.mark()
    return lab
