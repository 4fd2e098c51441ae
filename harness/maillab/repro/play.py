"""A plan played in a lab: configure, send, and collect the outcome."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, cast

from maillab.errors import BadInput, BadTable, CommandFailed, TimedOut, UnknownName
from maillab.faults import Greeting, Refused, SilentDrop, SmtpStage
from maillab.faults.smtp.smtp_stage import Stage
from maillab.hosts.host import Fault, Host
from maillab.hosts.postfix import PostfixHost
from maillab.lab.lab import Lab
from maillab.mail.maillog import Complaint
from maillab.repro.answers import Answer
from maillab.repro.names import Scene, Spot
from maillab.repro.plan import Plan
from maillab.repro.report import Fate
from maillab.repro.services import Service
from maillab.scenario.state import Mail
from maillab.site.versions import Version

_SETTLES_WITHIN_S = 60.0
# Settings that every host of a lab needs.
_THE_LABS = {
    "alias_database", "alias_maps", "append_dot_mydomain", "biff", "compatibility_level",
    "import_environment", "inet_protocols", "maillog_file", "mydomain", "myhostname",
    "smtp_tls_security_level", "smtpd_tls_security_level",
}  # fmt: skip
# How deep a chain of the reporter's own unused parameters may be.
_ATTEMPTS = 10
# The last compatibility level before levels were named after versions.
_LEVEL_OF_OLD = "2"


@dataclass
class Outcome:
    """The outcome in the lab, and what was left out; ``settled`` if the mail settled."""

    fates: dict[str, Fate] = field(default_factory=dict)
    journey: str = ""
    settled: bool = True
    # The command that plays the other server's reply again, if one was played.
    played: str = ""
    # What a daemon of the host logged before it died.
    fatal: list[str] = field(default_factory=list)
    mapped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def scene_of(running: Lab, host: PostfixHost) -> Scene:
    """Return the hosts that play the client and the remote site; ``host`` if there is no other."""
    others = [other for other in running.hosts.values() if other is not host]
    mail_hosts = [other for other in others if isinstance(other, PostfixHost)]
    clients = [other for other in others if not isinstance(other, PostfixHost)]
    remote = next(iter(mail_hosts), host)
    client = next(iter([*clients, *mail_hosts]), host)
    return Scene(_spot(host), _spot(client), _spot(remote))


def _spot(host: Host) -> Spot:
    return Spot(host.name, host.fqdn, host.address)


def play(running: Lab, host: PostfixHost, scene: Scene, plan: Plan) -> Outcome:
    """Carry out a plan; raise LabError if Postfix does not start with it."""
    outcome = Outcome()
    _apply(host, plan, outcome)
    remote = running.hosts[scene.remote.name]
    if isinstance(remote, PostfixHost):
        _make_users(remote, plan.remote_users)
    with _answering(running, scene, plan.answer, outcome):
        mail = _send(running, host, scene, plan)
        try:
            running.settle(mail, within_s=_SETTLES_WITHIN_S)
        except TimedOut:
            outcome.settled = False
    outcome.journey = mail.journey.text()
    outcome.fatal = _fatal(running, host)
    outcome.fates = _fates(mail, host, plan)
    return outcome


def _apply(host: PostfixHost, plan: Plan, outcome: Outcome) -> None:
    _make_users(host, plan.users)
    settings = dict(plan.settings)
    rows = list(plan.rows)
    for table in plan.tables:
        try:
            made = host.table(table.name, table.text, kind=table.kind)
        except (BadTable, UnknownName) as error:
            outcome.left_out.append(f"table {table.name}: made empty, {error}")
            made = host.table(table.name, "")
        rows = [row.with_table(table.place, made) for row in rows]
        settings = {name: value.replace(table.place, made) for name, value in settings.items()}
    if plan.aliases is not None:
        host.aliases(plan.aliases)
    _apply_rows(host, rows, outcome)
    if plan.has_settings:
        settings |= _apply_defaults(host, settings, outcome)
    _configure(host, settings, outcome)


def _configure(host: PostfixHost, settings: dict[str, str], outcome: Outcome) -> None:
    """Set every parameter that this Postfix has.

    Raise UnknownName if unknown parameters only use each other.
    """
    for attempt in range(_ATTEMPTS):
        if not settings:
            return
        try:
            host.configure(**settings)
        except UnknownName as error:
            # These parameters belong to another version, or are the reporter's own and
            # unused. Without them others may become unused.
            if not error.names or attempt == _ATTEMPTS - 1:
                raise
            for name in error.names:
                outcome.left_out.append(f"{name}: Postfix {host.version} has no such parameter")
                del settings[name]
        else:
            return


def _apply_defaults(
    host: PostfixHost, settings: dict[str, str], outcome: Outcome
) -> dict[str, str]:
    """Unset what the topology sets and the report does not; return what to set instead."""
    set_here = {line.partition(" =")[0] for line in host.run("postconf", "-n").stdout.splitlines()}
    if unset := sorted(set_here - _THE_LABS - settings.keys()):
        outcome.mapped.append(f"Postfix's default, as the report sets none: {', '.join(unset)}")
        host.run("postconf", "-X", *unset)
    level = settings.get("compatibility_level", "")
    if "." in level and Version(host.version) < "3.6":
        outcome.mapped.append(f"compatibility_level = {level} is {_LEVEL_OF_OLD} before 3.6")
        return {"compatibility_level": _LEVEL_OF_OLD}
    return {}


def _make_users(host: PostfixHost, names: list[str]) -> None:
    for name in dict.fromkeys(names):
        if host.run("id", "--", name, check=False).status:
            with contextlib.suppress(CommandFailed):
                # Not every local part is a valid user name.
                host.user(name)


def _apply_rows(host: PostfixHost, rows: list[Service], outcome: Outcome) -> None:
    stock = {" ".join(row.split()) for row in host.run("postconf", "-M").stdout.splitlines()}
    directory = host.postconf("daemon_directory")
    for service in rows:
        if service.row in stock:
            continue
        for what, command in (
            (f"program {service.program}", ("test", "-x", f"{directory}/{service.program}")),
            (f"program {service.argv}", ("test", "-x", service.argv.partition(" ")[0])),
            (f"user {service.user}", ("id", "--", service.user)),
        ):
            if what.split()[1:] and host.run(*command, check=False).status:
                outcome.left_out.append(f"{service.row}: there is no {what} here")
                break
        else:
            host.run("postconf", "-M", f"{service.name}/{service.kind}={service.row}")


@contextlib.contextmanager
def _answering(
    running: Lab, scene: Scene, answer: Answer | None, outcome: Outcome
) -> Iterator[None]:
    """Make the other server answer as reported, while the block runs."""
    remote = running.hosts[scene.remote.name]
    if answer is None or remote.name == scene.host.name:
        yield
        return
    if answer.reason and isinstance(remote, PostfixHost):
        if answer.settings:
            remote.configure(**answer.settings)
        yield
        return
    try:
        fault = _fault(answer)
    except BadInput as error:
        outcome.left_out.append(f"the other server's reply: {error}")
        yield
        return
    if answer.reply:
        outcome.played = _command(fault, remote)
    with remote.faulty(fault):
        yield


def _command(fault: Fault, host: Host) -> str:
    """Return the command that injects a fault."""
    values = {part.name: getattr(fault, part.name) for part in fields(cast("Any", fault))}
    words = [f"{name}={value}" for name, value in values.items() if value]
    return shlex.join(["maillab", "fault", type(fault).__name__, host.name, *words])


def _fatal(running: Lab, host: PostfixHost) -> list[str]:
    """Return what daemons of the host logged when they died, each text once."""
    events = running.scenario.stream.since(running.scenario.begun)
    return list(
        dict.fromkeys(
            f"{event.service}: {event.level}: {event.text}"
            for event in events
            if isinstance(event, Complaint)
            and event.host == host.name
            and event.level in ("fatal", "panic")
        )
    )


def _fault(answer: Answer) -> Fault:
    if answer.absent:
        return Refused() if answer.absent == "refused" else SilentDrop()
    if answer.stage == "greeting":
        return Greeting(answer.reply)
    return SmtpStage(cast("Stage", answer.stage), reply=answer.reply, recipient=answer.recipient)


def _send(running: Lab, host: PostfixHost, scene: Scene, plan: Plan) -> Mail:
    if plan.by_smtp:
        client = running.hosts[scene.client.name]
        return client.smtp(
            plan.recipients,
            server=host,
            port=plan.port,
            sender=plan.sender,
            size_bytes=plan.size_bytes,
        )
    return host.send(plan.recipients, sender=plan.sender, size_bytes=plan.size_bytes)


def _fates(mail: Mail, host: PostfixHost, plan: Plan) -> dict[str, Fate]:
    """Return the last status of each recipient."""
    fates: dict[str, Fate] = {}
    sent = mail.submission
    for recipient, code, dsn, reply in sent.rejections:
        text = reply.removeprefix(dsn).strip()
        fates[recipient] = Fate(recipient, "rejected", dsn, "", text, "smtpd", code)
    if sent.outcome == "refused" and not fates:
        # A message without a reply was not rejected.
        status = "rejected" if plan.by_smtp and sent.code else "not sent"
        for recipient in sent.probe.recipients:
            fates[recipient] = Fate(recipient, status, sent.dsn, "", sent.reply, "smtpd", sent.code)
    # Only the host's own deliveries: the report has no log of the other server.
    for event in [delivery for delivery in mail.journey.deliveries if delivery.host == host.name]:
        recipient = event.orig_to or event.to
        relay = "" if event.relay == "none" else event.relay
        fates[recipient] = Fate(
            recipient, event.status, event.dsn, relay, event.reply, event.service
        )
    return fates
