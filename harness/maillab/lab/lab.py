"""A running topology: its hosts by role, waits for mail to settle, and the reset."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from maillab.engine import byhand, compose, container, images
from maillab.engine.container import set_network
from maillab.engine.starts import Starts
from maillab.errors import LabError, TimedOut
from maillab.hosts.dovecot import DovecotHost
from maillab.hosts.host import Host
from maillab.hosts.mailserver import UNDER_WAY, MailServer
from maillab.hosts.postfix import PostfixHost
from maillab.hosts.serverhost import ServerHost
from maillab.hosts.tables import TablesHost
from maillab.hosts.tls import Authority
from maillab.lab import assembly
from maillab.lab.clock import Clock
from maillab.lab.lookups import Lookup, lookups
from maillab.load.plan import Load
from maillab.load.report import Report
from maillab.load.running import Loading
from maillab.mail import hostlog, ledger, logsearch
from maillab.mail.history import History
from maillab.mail.maillog import Event, NotStarted, Started
from maillab.mail.verdict import Expected, Verdict
from maillab.scenario.state import Mail, ScenarioState, Withheld, Witness
from maillab.scenario.stream import Stream
from maillab.site import changes, topology, versions
from maillab.site.ipv6 import is_ipv6
from maillab.site.topology import Topology
from maillab.site.versions import Version

Kind = TypeVar("Kind", bound=Event)

_UP_WITHIN_S = 60.0
_MARKS_WITHIN_S = 20.0
_IPV6_WITHIN_S = 5
_MUCH_MAIL_LINES = 2000
# More lines than a host logs while the engine starts to follow its log.
_LAST_LINES = 2000
# How long mail may take to settle at a scenario's end.
_QUIET_WITHIN_S = 15.0
# Programs that also reset hosts without a fault: those hosts may have learned a path MTU.
_LEFT_BY_OTHERS = ("packetfilter",)
# Files that a server shares with its agent, and restores.
_SHARED = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


class Lab:
    """The hosts of one topology, up and running; ``lab.<role>`` is a host.

    ``requested_version`` is that of ``--postfix``, such as 3.10; see ``version``.
    """

    def __init__(
        self,
        site: Topology,
        project: compose.Project,
        version: str,
        *,
        last_lines: int | None = None,
    ) -> None:
        self.topology = site
        self.project = project
        self.requested_version = version
        self.stream = Stream()
        containers = project.containers
        wanted = {role.agent_service for role in site.roles.values()}
        wanted |= {role.name for role in site.roles.values() if role.server}
        missing = wanted - set(containers)
        if missing:
            raise LabError(
                f"{project.name} is incomplete: no {', '.join(sorted(missing))}; "
                f"remove it with 'maillab down {project.name}'"
            )
        addresses = {
            address: role.name
            for role in site.roles.values()
            if role.server in ("postfix", "dovecot")
            for address in (*role.addresses(project.net), *role.addresses6(project.net))
        }
        # What arrives at a front's public address arrives at the mail server behind it.
        addresses |= {
            role.addresses(project.net)[0]: role.publishes
            for role in site.roles.values()
            if role.server == "front"
        }
        unlogged = {
            address: role.name
            for role in site.roles.values()
            if role.server == "sendmail"
            for address in (*role.addresses(project.net), *role.addresses6(project.net))
        }
        mailbox_servers = frozenset(
            role.name for role in site.roles.values() if role.server == "dovecot"
        )
        self.scenario = ScenarioState(self.stream, addresses, unlogged, mailbox_servers)
        # Servers that are (re)started before their lab is used (engine/starts.py).
        self.starts = Starts()
        self.hosts = assembly.hosts(site, containers, project.net, self.scenario, self.starts)
        self._others = assembly.others(site, containers, self.starts)
        name_servers = assembly.name_servers(site, self._others, project.net)
        for host in self.hosts.values():
            host.name_servers = name_servers
            host.filters = self._others.get(site.filters.get(host.name, ""))
            host.resolvers = [self._others[name] for name in site.resolvers if name in self._others]
        self._opening: list[threading.Thread] = []
        self.clock = Clock(lambda: self.servers)
        self.authority = Authority(lambda: self.postfix_hosts)
        for host in self.servers:
            self.stream.follow(host.name, host.channel.container, last_lines)

    def __getattr__(self, name: str) -> PostfixHost:
        # Typed as the most common kind of host, so that scenarios need no casts.
        hosts = self.__dict__.get("hosts", {})
        if name not in hosts:
            raise AttributeError(
                f"unknown host {name!r} of {self.topology.name} (choose from {', '.join(hosts)})"
            )
        host: PostfixHost = hosts[name]
        return host

    @property
    def servers(self) -> list[ServerHost]:
        """The hosts that run a server: the lab reads their logs."""
        return [host for host in self.hosts.values() if isinstance(host, ServerHost)]

    @property
    def dovecot_hosts(self) -> list[DovecotHost]:
        """The mailbox servers: the hosts that run Dovecot."""
        return [host for host in self.servers if isinstance(host, DovecotHost)]

    @property
    def table_hosts(self) -> list[TablesHost]:
        """The hosts that run servers of lookup tables."""
        return [host for host in self.servers if isinstance(host, TablesHost)]

    @property
    def mail_hosts(self) -> list[MailServer]:
        """The hosts that run a mail server: Postfix or Sendmail."""
        return [host for host in self.hosts.values() if isinstance(host, MailServer)]

    @property
    def postfix_hosts(self) -> list[PostfixHost]:
        """The mail hosts that run Postfix."""
        return [host for host in self.mail_hosts if isinstance(host, PostfixHost)]

    @functools.cached_property
    def version(self) -> Version:
        """The full version of Postfix that the hosts run, such as 3.10.13."""
        return Version(self.postfix_hosts[0].version)

    @functools.cached_property
    def no_ipv6(self) -> str:
        """The reason why hosts of the lab do not reach each other by IPv6; "" if they do."""
        if why := compose.no_ipv6():
            return why
        host = next(iter(self.hosts.values()))
        shown = host.network.run("ip", "-6", "-o", "address", "show", "scope", "global").stdout
        if not shown:
            return "the engine gives its containers no IPv6"
        server = next((address for address in host.name_servers if is_ipv6(address)), "")
        if not server:
            # A topology of the user's may have no name server of ours to try.
            return ""
        there = f"</dev/tcp/{server}/53"
        reached = host.network.run("timeout", str(_IPV6_WITHIN_S), "bash", "-c", there, check=False)
        if reached.status == 0:
            return ""
        return "the engine's bridge passes no IPv6: see ip6tables' chain FORWARD on its machine"

    @functools.cached_property
    def _debian(self) -> int:
        """The number of the Debian release that the hosts run."""
        release = self.postfix_hosts[0].read("/etc/os-release") or ""
        return next(number for name, number in changes.DEBIAN.items() if f"={name}\n" in release)

    @property
    def compatibility_levels(self) -> list[str]:
        """The values of compatibility_level that change a default of this lab's Postfix."""
        return versions.levels_of(self.version)

    def has(self, change: str) -> bool:
        """Return True if this lab's Postfix has a change of ``maillab.site.changes``.

        Raise UnknownName for a change that is not in that table.
        """
        return changes.has(change, self.version, self._debian)

    @property
    def witnesses(self) -> list[Witness]:
        """The witnesses of the scenario's faults, in the order in which the faults were applied."""
        return self.scenario.witnesses

    @property
    def withheld(self) -> Withheld:
        """The part that this run withholds, "" for none."""
        return self.scenario.withhold

    @property
    def _present(self) -> list[ServerHost]:
        return [host for host in self.servers if not host.away]

    def wait_until_up(self) -> None:
        """Wait until every server listens; raise TimedOut with the last log lines.

        Raise LabError with the words of a server that does not start.
        """
        names = {host.name for host in self.servers}

        def all_started() -> bool:
            events = self.stream.since()
            for event in events:
                if isinstance(event, NotStarted):
                    raise LabError(
                        f"{event.host} does not start: {event.words} "
                        f"(its files are in {self.topology.path})"
                    )
            return {event.host for event in events if isinstance(event, Started)} == names

        self.stream.wait(all_started, within_s=_UP_WITHIN_S, what="not every server started")
        self.scenario.begin()

    def take_snapshots(self) -> None:
        """Snapshot every server before any mail arrives, and the agents in the background.

        The program at the other end of a channel takes the snapshot before its first
        answer. Without this call, mail from another host could become part of the
        baseline. Only an agent's own channel changes the agent, so do not wait for agents.
        """
        agents = [host.agent for host in self.hosts.values()]
        ways = [*agents, *self._others.values()]
        self._opening = [threading.Thread(target=way.open_early, daemon=True) for way in ways]
        for opening in self._opening:
            opening.start()
        with ThreadPoolExecutor(len(self.servers)) as pool:
            for _ in pool.map(
                lambda host: host.channel.call("read", path="/etc/hostname"), self.servers
            ):
                pass

    def check_filters(self) -> None:
        """Wait until the filters beside mail hosts listen; raise LabError for one that does not."""
        services = [name for name in self.topology.filters.values() if name in self._others]
        answers = [(name, self._others[name].begin("ready")) for name in services]
        failed = [f"{name}: {why}" for name, answer in answers for why in answer.result()["failed"]]
        if failed:
            raise LabError(
                f"{self.topology.name} did not start: {'; '.join(failed)}; "
                f"correct it in {self.topology.path}"
            )

    # The verbs of a scenario.

    def settle(
        self, *mails: Mail, until: Callable[[], object] | None = None, within_s: float = 30.0
    ) -> None:
        """Wait until nothing more happens to the mail on its own, or ``until`` is true.

        Mail has settled when it was delivered, bounced (its notices too), refused, put on
        hold, or deferred since the last flush. Without arguments, wait for all mail of the
        scenario. On return every host's log has been read up to now, so that "nothing
        reached it" is a fact. Raise TimedOut with the journeys and the last log lines.
        """
        submissions = [mail.submission for mail in mails] or self.scenario.submissions

        def at_rest() -> bool:
            journeys = self.scenario.journeys()
            return all(
                journeys.of(submission).at_rest(self.scenario.flushed) for submission in submissions
            )

        def state() -> str:
            journeys = self.scenario.journeys()
            return "".join(journeys.of(submission).text() + "\n" for submission in submissions)

        def settled() -> bool:
            if until and until():
                return True
            # With much mail, building journeys takes longer than looking into the queues.
            much = self.stream.position - self.scenario.begun > _MUCH_MAIL_LINES
            if (much and not self._quiet()) or not (at_rest() and self._quiet()):
                return False
            # A message that a program submitted on any host first appears in a log.
            self.catch_up()
            return at_rest()

        self.stream.wait(
            settled,
            within_s=within_s,
            what="mail did not settle",
            state=state,
            polled=True,
        )
        self.catch_up()

    def loading(self, server: MailServer, *clients: Host, **settings: Any) -> Loading:
        """Return a load on a server, for a ``with`` block; it runs while the block does.

        The load comes from ``clients``, or from the first other host. For the settings
        see ``Load``.
        """
        others = clients or tuple(host for host in self.hosts.values() if host is not server)[:1]
        loading = Loading(Load(**settings), server, others, self.mail_hosts)
        return loading.wait_until_open()

    def load(self, server: MailServer, *clients: Host, **settings: Any) -> Report:
        """Run a load on a server to its end (see ``loading``); queues may still be full then."""
        return self.loading(server, *clients, **settings).finish()

    def drain(self, within_s: float = 120.0) -> None:
        """Wait until no host has mail under way; deferred mail stays."""

        def under_way() -> dict[str, int]:
            present = [host for host in self.mail_hosts if not host.away]
            lengths = {host.name: host.queue_lengths() for host in present}
            return {
                name: sum(count for queue, count in of.items() if queue in UNDER_WAY)
                for name, of in lengths.items()
            }

        self.stream.wait(
            lambda: not any(under_way().values()),
            within_s=within_s,
            what="the queues did not drain",
            state=lambda: f"{under_way()}\n",
            polled=True,
        )
        self.catch_up()

    def wait_for(
        self,
        kind: type[Kind],
        *,
        host: Host | None = None,
        saying: str = "",
        within_s: float = 30.0,
    ) -> Kind:
        """Wait for a log line of this kind since the scenario began, and return the first."""
        self.starts.make()

        def logged() -> Kind | None:
            for event in self.stream.since(self.scenario.begun):
                here = host is None or event.host == host.name
                if here and isinstance(event, kind) and saying in event.text:
                    return event
            return None

        words = f" with {saying!r}" if saying else ""
        what = f"no {kind.__name__}{words} was logged on {host.name if host else 'any host'}"
        return self.stream.wait(logged, within_s=within_s, what=what)

    def events(self, kind: type[Kind], host: Host | None = None) -> list[Kind]:
        """Return the events of this kind since the scenario began; read all logs up to now."""
        self.catch_up()
        return [
            event
            for event in self.stream.since(self.scenario.begun)
            if isinstance(event, kind) and (host is None or event.host == host.name)
        ]

    def history_of(self, wanted: str) -> History:
        """Return everything that the logs say about one queue id or Message-ID."""
        logs = {host.name: container.log(host.channel.container) for host in self.servers}
        if self.scenario.unlogged:
            # Sendmail names messages in other ways, so search all lines.
            lines = {host: log.splitlines() for host, log in logs.items()}
        else:
            lines = logsearch.about(wanted, logs)
        pairs = ((host, line) for host, of_host in lines.items() for line in of_host)
        events = (
            hostlog.parse(line, host=host, seq=number) for number, (host, line) in enumerate(pairs)
        )
        return replace(self.scenario.history(), events=tuple(events))

    def expects(
        self,
        *,
        because: str,
        lost: int = 0,
        duplicated: int = 0,
        altered: int = 0,
        consumed: int = 0,
        discarded: int = 0,
        unexpected: int = 0,
    ) -> None:
        """Declare the exact numbers that the ledger would otherwise count as failures.

        ``consumed``: recipients whose mail a program takes without storing it in a mailbox
        or submitting it again. ``discarded``: recipients whose mail is discarded by a
        Milter, or without any instruction of the scenario. ``unexpected``: recipients that
        neither the message nor an instruction of the scenario names.
        """
        self.scenario.expected.append(
            Expected(
                lost=lost,
                duplicated=duplicated,
                altered=altered,
                consumed=consumed,
                discarded=discarded,
                unexpected=unexpected,
                because=because,
            )
        )

    def rewrites(self, *headers: str, because: str) -> None:
        """Declare headers that the lab's hosts change, add or remove on purpose.

        Use it for header_checks, a Milter or a filter. Postfix's own rewriting of
        addresses (masquerade_domains, canonical_maps and the like) needs no declaration.
        """
        names = tuple(name.lower() for name in headers)
        self.scenario.expected.append(Expected(rewritten=names, because=because))

    def catch_up(self) -> None:
        """Wait until every line that any host has logged so far has arrived."""
        with self._marks() as token:
            for answer in [host.begin_mark(token) for host in self._present]:
                answer.result()

    # Its name in 0.1.0.
    mark = catch_up

    # Between scenarios.

    def conclude(self) -> tuple[History, Verdict]:
        """End a scenario: let mail settle, stop every Postfix, and judge the ledger.

        A host that nothing has changed may go on running; it has nothing to send.
        Raise LabError if mail of an earlier scenario appears in this one.
        """
        with contextlib.suppress(TimedOut):
            self.stream.wait(
                self._quiet,
                within_s=_QUIET_WITHIN_S,
                what="the active queues did not empty",
                polled=True,
            )
        # A postlogd(8) that is stopped loses lines that it has received but not written.
        self.catch_up()
        halted = [host.channel.begin("halt", whole=self._broken) for host in self.servers]
        for answer in halted:
            answer.result()
        stored, queued, rewriting = [], [], {}
        with self._marks() as token:
            answers = [(host, host.channel.begin("conclude", token=token)) for host in self.servers]
            for host, answer in answers:
                contents = host.contents(answer.result())
                stored += contents.stored
                queued += contents.queued
                rewriting[host.name] = contents.rewriting
        history = self.scenario.history(stored, queued, rewriting)
        if leftovers := self.scenario.leftovers(history):
            raise LabError(
                f"{self.topology.name}: mail of an earlier scenario arrived: "
                f"{', '.join(leftovers)}; the reset did not restore everything: "
                "run the tests before this one with --fresh-labs"
            )
        return history, ledger.judge(history, self.scenario.expected)

    def verdict(self) -> Verdict:
        """Judge the ledger while Postfix runs; call it when no mail is under way."""
        self.catch_up()
        found = {h.name: h.contents(h.channel.call("collect")) for h in self.servers}
        stored = [copy for contents in found.values() for copy in contents.stored]
        queued = [file for contents in found.values() for file in contents.queued]
        rewriting = {name: contents.rewriting for name, contents in found.items()}
        return ledger.judge(
            self.scenario.history(stored, queued, rewriting), self.scenario.expected
        )

    # Its name in 0.1.0.
    accounts = verdict

    def reset(self, withhold: Withheld = "", *, start: bool = True) -> None:
        """Restore every host to its baseline; raise LabError if a host cannot be restored.

        Without ``start``, the servers of a test run's lab start when something needs them.
        """
        self.starts.forget()
        for server in self.mail_hosts:
            server.remove_disks()
        with self._marks() as token:
            broken = self._broken
            also = _LEFT_BY_OTHERS if broken else ()
            undone = [host.channel.begin("undo") for host in self.servers]
            restored = [
                (host.name, host.agent.begin("restore", also=also, elsewhere=_elsewhere(host)))
                for host in self.hosts.values()
            ]
            beside = set(self.topology.filters.values())
            restored += [
                (name, way.begin("restore", elsewhere=_SHARED if name in beside else ()))
                for name, way in self._others.items()
            ]
            answers = [
                (host.name, host.channel.begin("reset", token=token, whole=broken))
                for host in self.servers
            ]
            stopped = [
                host
                for host, (_, answer) in zip(self.servers, answers, strict=True)
                if not answer.result()["running"]
            ]
            failed = [
                f"{name}: {path}"
                for name, answer in answers + restored
                for path in answer.result()["failed"]
            ]
            for answer in undone:
                answer.result()
            for host in self.hosts.values():
                if host.kernel_before:
                    set_network(host.agent.container, host.kernel_before)
                    host.kernel_before.clear()
        if failed:
            raise LabError(f"{self.topology.name} cannot be reset: {'; '.join(failed)}")
        self.scenario.withhold = withhold
        self.scenario.begin()
        self.starts.need((host.channel for host in stopped), "first_start")
        if start:
            self.starts.make()

    def capture(self) -> None:
        """Start capturing every packet of every host, until the next reset."""
        hosts = list(self.hosts.values())
        with ThreadPoolExecutor(len(hosts)) as pool:
            helpers = list(pool.map(lambda host: host.network.raw_socket_helper(), hosts))
        begun = [
            host.agent.begin("capture_start", helper=helper)
            for host, helper in zip(hosts, helpers, strict=True)
        ]
        for answer in begun:
            answer.result()

    def captured(self) -> dict[str, bytes]:
        """Stop the capture and return a pcap file's content by host."""
        answers = {host.name: host.agent.begin("capture_stop") for host in self.hosts.values()}
        return {
            name: answer.result()["content"].encode("latin-1") for name, answer in answers.items()
        }

    def lookups(self, host: Host, name: str, type_: str) -> list[Lookup]:
        """Stop the capture and return a host's DNS queries by UDP, with their answers."""
        return lookups(self.captured()[host.name], name, type_)

    def resume(self) -> None:
        """Start every server again after ``conclude``, so that a user can look at the lab."""
        for host in self.servers:
            host.start()

    def down(self) -> None:
        """Remove the lab from the engine."""
        self.starts.forget()
        self.detach()
        self.project.compose.stop()

    def leave(self) -> None:
        """Keep the rules, routes, addresses and disks that the scenario set for its duration."""
        for host in self.hosts.values():
            if host.agent.used:
                host.agent.call("leave")
        for server in self.mail_hosts:
            while server.disks:
                server.disks.pop().leave()

    def detach(self) -> None:
        """Start the servers that wait, then close channels and log streams; leave the lab running.

        Raise LabError if a server does not start; all is closed even then.
        """
        try:
            self.starts.make()
        finally:
            self.close()

    def close(self) -> None:
        """Close channels and log streams."""
        self.stream.close()
        for opening in self._opening:
            opening.join()
        for host in self.hosts.values():
            host.channel.close()
            host.agent.close()
        for server in self.mail_hosts:
            while server.disks:
                server.disks.pop().close()
        for way in self._others.values():
            way.close()

    @property
    def _broken(self) -> bool:
        """Return True if there was a fault, which may leave traces on any host."""
        return bool(self.scenario.witnesses)

    def _quiet(self) -> bool:
        """Return True if no queue file is under way or has become due by a moved clock.

        Hosts whose Postfix does not run are ignored.
        """
        answers = [host.channel.begin("queue_files") for host in self._present]
        return not any(
            answer["due"] or any(queue in UNDER_WAY for queue, _, _ in answer["queued"])
            for answer in [answer.result() for answer in answers]
            if answer["running"]
        )

    @contextlib.contextmanager
    def _marks(self) -> Iterator[str]:
        """Yield a token for every present mail host to log, then wait for it in each log."""
        since, token = self.stream.position, self.stream.new_token()
        yield token
        tokens = {host.name: token for host in self._present}
        self.stream.wait_for_marks(tokens, since=since, within_s=_MARKS_WITHIN_S)


def _elsewhere(host: Host) -> tuple[str, ...]:
    """Return the paths of an agent that its server restores."""
    return _SHARED if isinstance(host, ServerHost) else ()


def start(site: Topology, version: str, *, pool: str = "") -> Lab:
    """Start a lab; build missing images, and never leave half a lab behind."""
    compose.pool_of(pool)
    images.ensure([version], site.own_images)
    byhand.write([version])
    project = compose.up(site, version, pool=pool)
    lab = None
    try:
        lab = Lab(site, project, version)
        lab.wait_until_up()
        lab.take_snapshots()
        lab.check_filters()
    except BaseException:
        project.compose.stop()
        if lab is not None:
            lab.close()
        raise
    return lab


def attach(project: compose.Project) -> Lab:
    """Return a lab that is already running, and follow everything that it logs from now on.

    Mail from before does not slow this down.
    """
    lab = look_into(topology.load(str(project.file)), project)
    try:
        lab.catch_up()
    except BaseException:
        lab.detach()
        raise
    lab.scenario.begin()
    lab.scenario.by_hand = True
    return lab


def look_into(site: Topology, project: compose.Project) -> Lab:
    """Return a running lab whose hosts may be broken; only the end of each log is read."""
    # Several lines, so that a mark made while the engine begins to follow is among them.
    return Lab(site, project, version="", last_lines=_LAST_LINES)
