"""What a lab is to do about a report: names mapped, tables found, the impossible left out.

Pure. Whatever is changed or left out is said, in the reporter's words and ours.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from maillab.errors import BadInput
from maillab.repro import absent, services
from maillab.repro import tables as lookup
from maillab.repro.answers import Answer, answered
from maillab.repro.names import NEXT_HOP, Names, Scene, named
from maillab.repro.report import Fate, Report, aliases_in


@dataclass
class Plan:
    """What to configure and what to send, and all that had to be changed for it.

    ``has_settings`` where the report has some, so that what it lacks is Postfix's default.
    """

    has_settings: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    tables: list[lookup.Table] = field(default_factory=list)
    aliases: dict[str, str] | None = None
    rows: list[services.Service] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    remote_users: list[str] = field(default_factory=list)
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)
    size_bytes: int = 0
    by_smtp: bool = True
    port: int = 25
    answer: Answer | None = None
    mapped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    # The reported recipient behind each of ours.
    reported: dict[str, Fate] = field(default_factory=dict)


# Told of elsewhere: what it is mapped to, and what it is tried with.
_TOLD = {"myhostname", "mydomain", "mail_version"}
# Lists, or names, that may stand in a file of their own.
_MAY_BE_FILES = re.compile(r"myorigin|mydestination|mynetworks|\w+_domains|\w+_networks")
# The client had logged in, which is as good as being let through right there.
_LOGGED_IN = "permit_sasl_authenticated"
_RELAY_DEFAULT = f"permit_mynetworks, {_LOGGED_IN}, defer_unauth_destination"
_SUBMISSION_PORTS = {"submission": 587}
_LOCAL_AGENTS = {"local", "virtual", "pipe", "lmtp"}
_EVERYWHERE = {"all", "loopback-only", "localhost", "127.0.0.1", "[::1]", "::1"}


def make(
    report: Report,
    scene: Scene,
    *,
    tables: Mapping[str, str],
    sender: str | None = None,
    recipients: Sequence[str] = (),
    allow_commands: bool = False,
) -> Plan:
    """The plan for a report; ``tables`` are contents by the path, or type:path, in main.cf.

    Raises BadInput when nobody is named to whom mail could be sent.
    """
    wanted = list(recipients) or [fate.recipient for fate in report.fates]
    if not wanted:
        raise BadInput("the log lines name no recipient; say to whom with --to")
    plan = Plan(
        bool(report.settings),
        size_bytes=report.size_bytes,
        by_smtp=bool(report.client) or not report.fates,
    )
    _Mapping(report, scene, tables, plan, allow_commands=allow_commands).draw(
        wanted, report.sender if sender is None else sender
    )
    return plan


class _Mapping:
    """Fills a plan, name by name."""

    def __init__(
        self,
        report: Report,
        scene: Scene,
        tables: Mapping[str, str],
        plan: Plan,
        *,
        allow_commands: bool,
    ) -> None:
        self._report = report
        self._scene = scene
        self._given = tables
        self._plan = plan
        self._allow_commands = allow_commands
        self._names = Names()
        self._unused = set(tables)
        self._transports: set[str] = set()

    def draw(self, recipients: Iterable[str], sender: str | None) -> None:
        """Do all of it."""
        wanted = list(recipients)
        self._learn_names(wanted, sender)
        self._draw_rows()
        self._draw_settings()
        by_recipient = {fate.recipient: fate for fate in self._report.fates}
        for recipient in wanted:
            ours = self._recipient(recipient)
            self._plan.recipients.append(ours)
            if fate := by_recipient.get(recipient):
                self._plan.reported[ours] = fate
                self._draw_fate(fate, ours, alone=len(wanted) == 1)
        if sender is not None:
            self._plan.sender = self._names.swapped(sender)
        self._plan.mapped[:0] = self._names.said()
        if self._plan.answer:
            self._plan.mapped.append(
                f"the other server, {self._scene.remote.fqdn}, {self._plan.answer}"
            )
        for name in sorted(self._unused):
            self._leave_out(f"table {name}", "no setting names it")

    def _recipient(self, theirs: str) -> str:
        """A recipient here; no two become one, though their domains may."""
        ours = self._names.swapped(theirs)
        user, at, domain = ours.rpartition("@")
        number = 2
        while ours in self._plan.recipients:
            ours = f"{user}{number}{at}{domain}"
            number += 1
        if number > 2:  # noqa: PLR2004  # it was taken
            self._plan.mapped.append(f"{theirs} is {ours}")
        return ours

    def _leave_out(self, what: str, why: str) -> None:
        self._plan.left_out.append(f"{what}: {why}")

    # Names and addresses.

    def _learn_names(self, recipients: Iterable[str], sender: str | None) -> None:
        report, scene = self._report, self._scene
        given = report.settings
        host = given.get("myhostname", "")
        if not host or "$" in host:
            host = report.host if "." in report.host else ""
        domain = given.get("mydomain", "") or host.partition(".")[2]
        self._names.put(host, scene.host.fqdn)
        if "$" not in domain and "." in domain:
            self._names.put(domain, scene.host.domain)
        self._names.put(report.client, scene.client.address)
        # Who knows the lab may name its hosts with --from and --to.
        labs_own = (scene.host.fqdn, scene.client.fqdn, scene.remote.fqdn)
        theirs = " ".join([*given.values(), *self._given.values()])
        known = " ".join([theirs, *labs_own])
        outward = {
            fate.recipient.rpartition("@")[2]
            for fate in report.fates
            if fate.relay and fate.service not in _LOCAL_AGENTS
        }
        local = {
            fate.recipient.rpartition("@")[2] for fate in report.fates if fate.service == "local"
        }
        for address in recipients:
            there = address.rpartition("@")[2] if "@" in address else ""
            if there in local and not named(there, theirs):
                self._names.put(there, scene.host.domain)
            if there in outward or (there and not named(there, known)):
                self._names.put(there, scene.remote.domain)
        origin = sender.rpartition("@")[2] if sender and "@" in sender else ""
        if origin and not named(origin, known):
            self._names.put(origin, scene.client.domain)

    # main.cf.

    def _draw_settings(self) -> None:
        for name, value in self._report.settings.items():
            if name in _TOLD or lookup.is_a_place(value, self._report.settings):
                continue
            if why := self._why_not(name, value):
                self._leave_out(f"{name} = {value}".strip(), why)
            elif name == "alias_maps":
                self._draw_aliases(lookup.expanded(value, self._report.settings))
            else:
                if _MAY_BE_FILES.fullmatch(name) and re.search(r"(?:^|[\s,])/", value):
                    value = self._from_files(name, value)  # noqa: PLW2901  # the same, read
                if value or not self._report.settings[name]:
                    self._plan.settings[name] = self._drawn(name, value)
        if self._report.login and "smtpd_relay_restrictions" not in self._plan.settings:
            self._plan.settings["smtpd_relay_restrictions"] = self._drawn(
                "smtpd_relay_restrictions", _RELAY_DEFAULT
            )
        if not self._allow_commands:
            # local(8) then runs none, wherever it should find one.
            self._plan.settings["allow_mail_to_commands"] = ""

    def _why_not(self, name: str, value: str) -> str:
        return absent.why_not(
            name, value, services=self._transports, allow_commands=self._allow_commands
        )

    def _drawn(self, name: str, value: str) -> str:
        """A setting's value as it is in the lab."""
        left, asked = absent.without_questions(value)
        for one in asked:
            self._leave_out(f"{one} in {name}", "nobody outside can be asked")
        swapped = drawn = self._names.swapped(lookup.expanded(left, self._report.settings))
        if self._report.login:
            let_through = f"check_client_access inline:{{{self._scene.client.address}=permit}}"
            drawn = drawn.replace(_LOGGED_IN, let_through)
        if name == "mynetworks":
            drawn = self._networks(drawn)
        elif name == "inet_interfaces":
            words = set(re.split(r"[\s,]+", drawn))
            drawn = drawn if all(one in _EVERYWHERE or "$" in one for one in words) else "all"
        elif name == "relayhost" and drawn:
            drawn = f"[{self._scene.remote.fqdn}]"
        elif "networks" not in name:
            drawn = self._hops(drawn)
        if drawn != swapped:
            self._plan.mapped.append(f"{name} = {left} is {drawn}")
        return lookup.LOOKUP.sub(lambda found: self._table(name, found), drawn)

    def _hops(self, text: str) -> str:
        return NEXT_HOP.sub(f"[{self._scene.remote.fqdn}]", text)

    def _from_files(self, name: str, value: str) -> str:
        """A list with what is in the files that it names (postconf(5) mynetworks)."""
        out = []
        for word in re.split(r"[\s,]+", value):
            if not word.startswith("/"):
                out.append(word)
                continue
            content = self._content("", word)
            if content is None:
                self._leave_out(f"{word} of {name}", "there is no such file; give it with --table")
            else:
                out.append(" ".join(content.split()))
        return " ".join(filter(None, out))

    def _networks(self, value: str) -> str:
        """The network that the client was in becomes the lab's client."""
        out = []
        for word in re.split(r"[\s,]+", value):
            try:
                inside = ipaddress.ip_address(self._report.client) in ipaddress.ip_network(
                    word, strict=False
                )
            except ValueError:
                inside = False
            out.append(f"{self._scene.client.address}/32" if inside else word)
        return " ".join(out)

    # Tables.

    def _content(self, kind: str, path: str) -> str | None:
        for name in (f"{kind}:{path}", path):
            if name in self._given:
                self._unused.discard(name)
                return self._given[name]
        return None

    def _table(self, setting: str, found: re.Match[str]) -> str:
        kind, path = found.groups()
        content = self._content(kind, path)
        if content is None:
            self._leave_out(f"{kind}:{path} of {setting}", "made empty; give it with --table")
        if kind in lookup.DATABASES:
            kind = "texthash"
        place = f"@TABLE{len(self._plan.tables)}@"
        for hop in sorted({found[0] for found in NEXT_HOP.finditer(content or "")}):
            self._plan.mapped.append(f"{hop} in {path} is [{self._scene.remote.fqdn}]")
        text = self._hops(self._names.swapped(content or ""))
        name = "repro-" + re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")
        self._plan.tables.append(
            lookup.Table(place, name, kind if kind in lookup.TEXT_KINDS else "", text)
        )
        return place

    def _draw_aliases(self, value: str) -> None:
        aliases: dict[str, str] = {}
        for kind, path in lookup.LOOKUP.findall(value):
            content = self._content(kind, path)
            if content is None:
                self._leave_out(f"{kind}:{path} of alias_maps", "the lab's; give it with --table")
                continue
            for name, to in aliases_in(content):
                # Quoted, escaped, behind a comment: local(8) finds it (aliases(5)).
                if "|" in to and not self._allow_commands:
                    self._leave_out(f"alias {name}: {to}", "it runs a command (--allow-commands)")
                else:
                    aliases[name] = self._names.swapped(to)
        if aliases:
            self._plan.aliases = aliases

    # master.cf.

    def _draw_rows(self) -> None:
        read = [services.read(row) for row in self._report.rows]
        usable = [one for one in read if self._allow_commands or not one.runs_a_command]
        self._transports = {one.name for one in usable if one.kind != "inet"}
        for service in read:
            if service in usable:
                self._draw_row(service)
            else:
                self._leave_out(service.row, "it runs a command (--allow-commands)")
        if wanted := _SUBMISSION_PORTS.get(self._report.service):
            if any(one.name in (self._report.service, str(wanted)) for one in usable):
                self._plan.port = wanted
            else:
                self._leave_out(f"port {wanted}", "no row of master.cf for it; sent to port 25")

    def _draw_row(self, service: services.Service) -> None:
        port = service.name
        if service.kind == "inet" and ":" in port:
            port = port.rpartition(":")[2]
            self._plan.mapped.append(f"{service.name} is port {port}")
        options = []
        for name, value in service.options:
            why = self._why_not(name, value)
            if name == "alias_maps" and not self._allow_commands:
                why = "it may run commands (--allow-commands)"
            if not services.can_be_written(name, value):
                why = "no setting"
            if not why:
                options.append((name, self._drawn(name, value)))
            elif value:
                # Without a value it turns off what is off here.
                self._leave_out(f"-o {name}={value} of {service.name}/{service.kind}", why)
        others = service.others
        if not service.runs_a_command:
            for word in others:
                if word != "-v":
                    self._leave_out(f"{word} of {service.name}/{service.kind}", "no option")
            others = ()
        # In the lab no daemon is in the jail, whose files the distribution's script fills.
        private, unprivileged, _, *last = service.columns
        self._plan.rows.append(
            replace(
                service,
                name=port,
                columns=(private, unprivileged, "n", *last),
                options=tuple(options),
                others=others,
            )
        )

    # What others did.

    def _draw_fate(self, fate: Fate, recipient: str, *, alone: bool) -> None:
        user = recipient.rpartition("@")[0] or recipient
        if fate.status == "sent" and fate.service in _LOCAL_AGENTS:
            self._plan.users.append(user.partition("+")[0])
        elif fate.status == "sent" and fate.relay:
            self._plan.remote_users.append(user)
        elif answer := answered(fate.reply) if fate.relay or fate.service == "smtp" else None:
            if answer.of_one_recipient and not alone:
                answer = replace(answer, recipient=recipient)
            if self._plan.answer is None:
                self._plan.answer = answer
            elif self._plan.answer != answer:
                self._leave_out(
                    f"for {recipient} the other server {answer}", "one answer at a time"
                )
