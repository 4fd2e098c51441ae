"""What a lab is to do about a report: names mapped, tables found, the impossible left out.

Pure. Whatever is changed or left out is said, in the reporter's words and ours.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from maillab.errors import BadInput
from maillab.repro.report import Fate, Report


@dataclass(frozen=True)
class Spot:
    """A host of the lab: what it is called there."""

    name: str
    fqdn: str
    address: str

    @property
    def domain(self) -> str:
        """Its name without the first part."""
        return self.fqdn.partition(".")[2]


@dataclass(frozen=True)
class Scene:
    """Who is who in the lab: the reporter's host, who sends to it, and everybody else."""

    host: Spot
    client: Spot
    remote: Spot


@dataclass(frozen=True)
class Table:
    """A lookup table to be made; ``kind`` is "" for the version's own database."""

    place: str
    name: str
    kind: str
    text: str


@dataclass(frozen=True)
class Answer:
    """What the other server said, to be played: an SMTP stage and a reply, or how it was not there.

    ``absent`` is "refused" or "silent".
    """

    stage: str = ""
    reply: str = ""
    absent: str = ""


@dataclass
class Plan:
    """What to configure and what to send, and all that had to be changed for it."""

    settings: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    aliases: dict[str, str] | None = None
    rows: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)
    size_bytes: int = 0
    by_smtp: bool = True
    answer: Answer | None = None
    mapped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    # The reported recipient behind each of ours.
    reported: dict[str, Fate] = field(default_factory=dict)


# Parameters that cannot mean here what they meant there (postconf(5)), and why.
_LEFT_OUT = [
    (re.compile(pattern), why)
    for pattern, why in (
        (r"inet_protocols", "the lab's networks are IPv4"),
        (
            (
                r".*_directory|.*_directories|.*_path|mail_owner|setgid_group|alias_database"
                r"|maillog_\w+|syslog_\w+|debug\w+|import_environment|smtp_bind_address6?"
            ),
            "it is about that machine's installation",
        ),
        (r"(non_)?smtpd_milters|milter_\w+", "no Milter runs here"),
        (r"content_filter|smtpd_proxy_filter", "no filter runs here"),
        (r"(smtpd?|lmtp)_sasl_\w+|broken_sasl_auth_clients", "no SASL server is set up here"),
        (
            (
                r"(smtpd?|lmtp|tlsproxy)_tls_(\w*cert\w*|\w*key\w*|CA\w+|chain\w*|dh\w+|session\w+)"
                r"|smtpd_tls_(security_level|auth_only|wrappermode)|smtpd_(use|enforce)_tls"
            ),
            "the keys and certificates are that machine's",
        ),
    )
]
# Told of elsewhere: what it is mapped to, and what it is tried with.
_TOLD = {"myhostname", "mydomain", "mail_version"}
# Lists, or names, that may stand in a file of their own.
_MAY_BE_FILES = re.compile(r"myorigin|mydestination|mynetworks|\w+_domains|\w+_networks")
_COMMANDS = re.compile(r"mailbox_command(_maps)?")
_TRANSPORT = re.compile(r"\w+_transport")
_STOCK_TRANSPORTS = {
    "discard", "error", "lmtp", "local", "relay", "retry", "smtp", "virtual",
}  # fmt: skip
_ASKS_OUTSIDE = re.compile(
    r"(?:check_policy_service|reject_rbl_client|reject_rhsbl_\w+|permit_dnswl_client"
    r"|permit_rhswl_client)\s+(?:\{[^}]*\}|[^\s,]+)[\s,]*"
)
_LOOKUP = re.compile(
    r"(?:proxy:)?\b(hash|btree|dbm|lmdb|cdb|sdbm|texthash|regexp|pcre|cidr"
    r"|mysql|pgsql|ldap|sqlite|mongodb|nisplus|nis|tcp|socketmap|memcache):([^\s,;(){}]+)"
)
_TEXT_KINDS = {"texthash", "regexp", "pcre", "cidr"}
_DATABASES = {"mysql", "pgsql", "ldap", "sqlite", "mongodb", "nisplus", "nis", "tcp",
              "socketmap", "memcache"}  # fmt: skip
_BRACKETED = re.compile(r"\[[A-Za-z0-9.:-]+\](?::\w+)?")
_LOCAL_AGENTS = {"local", "virtual", "pipe", "lmtp"}
_RUNS_COMMANDS = {"pipe", "spawn"}
_EVERYWHERE = {"all", "loopback-only", "localhost", "127.0.0.1", "[::1]", "::1"}
_SAID = re.compile(
    r"host \S+ (?:said: (?P<said>[45]\d\d.*?) \(in reply to (?P<to>.+?)(?: command)?\)$"
    r"|refused to talk to me: (?P<greeting>[45]\d\d.*))"
)
_STAGES = {"MAIL FROM": "MAIL", "RCPT TO": "RCPT", "DATA": "DATA", "end of DATA": "end of data",
           "EHLO": "EHLO", "HELO": "EHLO"}  # fmt: skip


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
    plan = Plan(size_bytes=report.size_bytes, by_smtp=bool(report.client) or not report.fates)
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
        self._swaps: dict[str, str] = {}
        self._unused = set(tables)

    def draw(self, recipients: Iterable[str], sender: str | None) -> None:
        """Do all of it."""
        wanted = list(recipients)
        self._learn_names(wanted, sender)
        self._draw_settings()
        self._draw_rows()
        by_recipient = {fate.recipient: fate for fate in self._report.fates}
        for recipient in wanted:
            ours = self._swapped(recipient)
            self._plan.recipients.append(ours)
            if fate := by_recipient.get(recipient):
                self._plan.reported[ours] = fate
                self._draw_fate(fate, ours)
        if sender is not None:
            self._plan.sender = self._swapped(sender)
        for old, new in self._swaps.items():
            self._plan.mapped.append(f"{old} is {new}")
        for name in sorted(self._unused):
            self._leave_out(f"table {name}", "no setting names it")

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
        self._swap(host, scene.host.fqdn)
        if "$" not in domain and "." in domain:
            self._swap(domain, scene.host.domain)
        self._swap(report.client, scene.client.address)
        known = " ".join([*given.values(), *self._given.values()])
        outward = {
            fate.recipient.rpartition("@")[2]
            for fate in report.fates
            if fate.relay and fate.service not in _LOCAL_AGENTS
        }
        for address in recipients:
            there = address.rpartition("@")[2] if "@" in address else ""
            if there in outward or (there and not _named(there, known)):
                self._swap(there, scene.remote.domain)
        origin = sender.rpartition("@")[2] if sender and "@" in sender else ""
        if origin and not _named(origin, known):
            self._swap(origin, scene.client.domain)

    def _swap(self, old: str, new: str) -> None:
        if old and old != new and old not in self._swaps:
            self._swaps[old] = new

    def _swapped(self, text: str) -> str:
        # The longest first: a host's name has its domain's in it.
        for old in sorted(self._swaps, key=len, reverse=True):
            text = _word(old).sub(lambda _, new=self._swaps[old]: new, text)  # type: ignore[misc]  # bound now
        return text

    # main.cf.

    def _draw_settings(self) -> None:
        for name, value in self._report.settings.items():
            if name in _TOLD:
                continue
            if why := self._why_not(name, value):
                self._leave_out(f"{name} = {value}".strip(), why)
            elif name == "alias_maps":
                self._draw_aliases(value)
            else:
                if _MAY_BE_FILES.fullmatch(name) and re.search(r"(?:^|[\s,])/", value):
                    value = self._from_files(name, value)  # noqa: PLW2901  # the same, read
                if value or not self._report.settings[name]:
                    self._plan.settings[name] = self._drawn(name, value)

    def _why_not(self, name: str, value: str) -> str:
        for pattern, why in _LEFT_OUT:
            if pattern.fullmatch(name):
                return why
        if value and _COMMANDS.fullmatch(name) and not self._allow_commands:
            return "it runs commands (--allow-commands)"
        if _TRANSPORT.fullmatch(name) and value:
            service = value.partition(":")[0]
            if service not in _STOCK_TRANSPORTS or ":unix:" in value or ":inet:" in value:
                return "there is no such service here"
        return ""

    def _drawn(self, name: str, value: str) -> str:
        """A setting's value as it is in the lab."""
        drawn = _ASKS_OUTSIDE.sub("", value).strip().removesuffix(",")
        for asked in _ASKS_OUTSIDE.findall(value):
            self._leave_out(f"{asked.strip(' ,')} in {name}", "nobody outside can be asked")
        drawn = self._swapped(drawn)
        if name == "mynetworks":
            drawn = self._networks(drawn)
        elif name == "inet_interfaces":
            named = set(re.split(r"[\s,]+", drawn))
            drawn = drawn if all(one in _EVERYWHERE or "$" in one for one in named) else "all"
        elif name == "relayhost" and drawn:
            drawn = f"[{self._scene.remote.fqdn}]"
        elif "networks" not in name:
            drawn = _BRACKETED.sub(f"[{self._scene.remote.fqdn}]", drawn)
        if drawn != self._swapped(value) and not _ASKS_OUTSIDE.search(value):
            self._plan.mapped.append(f"{name} = {value} is {drawn}")
        return _LOOKUP.sub(lambda found: self._table(name, found), drawn)

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
        if kind in _DATABASES:
            kind = "texthash"
        place = f"@TABLE{len(self._plan.tables)}@"
        text = _BRACKETED.sub(f"[{self._scene.remote.fqdn}]", self._swapped(content or ""))
        name = "repro-" + re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")
        self._plan.tables.append(Table(place, name, kind if kind in _TEXT_KINDS else "", text))
        return place

    def _draw_aliases(self, value: str) -> None:
        aliases: dict[str, str] = {}
        for kind, path in _LOOKUP.findall(value):
            content = self._content(kind, path)
            if content is None:
                self._leave_out(f"{kind}:{path} of alias_maps", "the lab's; give it with --table")
                continue
            for line in re.sub(r"\n[ \t]+", " ", content).splitlines():
                name, colon, to = line.partition(":")
                runs = re.search(r"""(^|[\s,"'])\|""", to) is not None
                if not colon or line.startswith("#"):
                    continue
                if runs and not self._allow_commands:
                    self._leave_out(f"alias {line.strip()}", "it runs a command (--allow-commands)")
                else:
                    aliases[name.strip()] = self._swapped(to.strip())
        if aliases:
            self._plan.aliases = aliases

    # master.cf.

    def _draw_rows(self) -> None:
        for row in self._report.rows:
            name, kind, *columns = row.split(None, 7)
            program, *arguments = columns[5].split(None, 1)
            if program in _RUNS_COMMANDS and not self._allow_commands:
                self._leave_out(row, "it runs a command (--allow-commands)")
                continue
            # In the lab no daemon is in the jail, whose files the distribution's script fills.
            columns[2] = "n"
            options = self._swapped(arguments[0] if arguments else "")
            for option in re.findall(r"-o\s+(?:\{[^}]*\}|\S+)", options):
                setting, _, value = option[2:].strip(" {}").partition("=")
                why = self._why_not(setting.strip(), value.strip())
                # Without a value it turns off what is off here.
                if why and value.strip():
                    self._leave_out(f"{option} of {name}/{kind}", why)
                    options = options.replace(option, "")
            options = re.sub(r"-o\s+\{([^}=]+?)\s*=\s*([^}]*)\}", r"-o { \1 = \2 }", options)
            port = name.rpartition(":")[2] if kind == "inet" else name
            self._plan.rows.append(" ".join([port, kind, *columns[:5], program, options]).strip())

    # What others did.

    def _draw_fate(self, fate: Fate, recipient: str) -> None:
        if fate.status == "sent" and fate.service in _LOCAL_AGENTS:
            self._plan.users.append(recipient.partition("@")[0].partition("+")[0])
        elif fate.relay or fate.service == "smtp":
            answer = answered(fate.reply)
            if answer and self._plan.answer is None:
                self._plan.answer = answer


def answered(reply: str) -> Answer | None:
    """What a log line says that the other server did; None when nothing out of the ordinary."""
    if found := _SAID.search(reply):
        if found["greeting"]:
            return Answer("greeting", found["greeting"])
        stage = _STAGES.get(found["to"], "")
        return Answer(stage, found["said"]) if stage else None
    if "Connection refused" in reply:
        return Answer(absent="refused")
    if "Connection timed out" in reply:
        return Answer(absent="silent")
    return None


def _word(name: str) -> re.Pattern[str]:
    """Where a name stands for itself, or at the end of a longer one."""
    return re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-]|\.\w)", re.IGNORECASE)


def _named(domain: str, text: str) -> bool:
    return _word(domain).search(text) is not None


def differences(reported: Mapping[str, Fate], here: Mapping[str, Fate]) -> Iterator[str]:
    """The recipients whose status or DSN is not what was reported."""
    for recipient, fate in reported.items():
        ours = here.get(recipient)
        if ours is None or (fate.status, fate.dsn) != (ours.status, ours.dsn):
            yield recipient
