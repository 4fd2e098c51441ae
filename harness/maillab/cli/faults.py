"""Faults by hand, for as long as a command runs, and the moved clock."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta

from maillab.cli.arguments import Add, add_lab
from maillab.cli.interruption import Interruption
from maillab.cli.labs import choose, site_of
from maillab.cli.output import print_json, print_table
from maillab.engine import container
from maillab.engine.standby import Standby
from maillab.errors import BadInput, LabError, Void
from maillab.faults import REGISTRY
from maillab.faults.registry import find
from maillab.faults.settings import build, description, settings, summary
from maillab.hosts.host import Fault, Host
from maillab.hosts.serverhost import ServerHost
from maillab.lab.lab import Lab, look_into

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def register(add: Add) -> None:
    """Declare the commands of this family and their arguments."""
    parser = add(
        fault,
        "maillab fault MtuBlackHole router peer=receiver -- maillab send --from-host sender ...",
        details="Without HOST: describe the fault and its settings. Without FAULT: list all.\n"
        "Prints how often the fault acted, and exits with 20 if it never did.\n"
        "In the settings peer and client a host's name stands for its address.",
        json='{"fault", "host", "source", "count"}; of all faults: [{"name", "summary", '
        '"settings": [{"name", "form", "default"}]}]',
    )
    parser.usage = (
        "maillab fault [-h] [--json] [--lab LAB] [FAULT [HOST [NAME=VALUE ...]]] [-- COMMAND ...]"
    )
    parser.add_argument(
        "fault", metavar="FAULT", nargs="?", default="", help="a fault, such as Greeting"
    )
    parser.add_argument("host", metavar="HOST", nargs="?", default="", help="a host of the lab")
    parser.add_argument(
        "settings", metavar="NAME=VALUE", nargs="*", default=[], help="settings of the fault"
    )
    add_lab(parser)

    parser = add(
        lift,
        "maillab lift primary",
        details="A fault ends with its command, even if that is killed. Use this for what a\n"
        "machine crash left. 'maillab inspect' lists the active faults.",
        json='{"lifted": [{"fault", "host"}]}',
    )
    parser.add_argument(
        "hosts", metavar="HOST", nargs="*", default=[], help="hosts to restore (default: all)"
    )
    add_lab(parser)

    parser = add(
        warp,
        "maillab warp +4h",
        details="Deferred mail that is now due is retried. The clock cannot go back: use a new\n"
        "lab.",
        json='{HOST: "its new time"}',
    )
    parser.add_argument("step", metavar="STEP", help="time to move, such as +4h, +5d or +1h30m")
    add_lab(parser)


def fault(arguments: Namespace) -> int:
    """List the faults, explain one, or apply one to a host."""
    if not arguments.fault:
        return _list(as_json=arguments.json)
    kind = find(arguments.fault)
    if not arguments.host:
        return _explain(kind, as_json=arguments.json)
    given = {}
    for word in arguments.settings:
        name, equals, value = word.partition("=")
        if not equals:
            raise BadInput(
                f"a setting must be NAME=VALUE, not {word!r}; see 'maillab fault {kind.__name__}'"
            )
        given[name] = value
    project = choose(arguments.lab)
    site = site_of(project)
    site.role(arguments.host)
    addresses = {role.name: role.addresses(project.net)[0] for role in site.roles.values()}
    wanted = build(kind, given, addresses)
    running = look_into(site, project)
    host = running.hosts[arguments.host]
    try:
        _read_log_of(host)
        with _in_force(host, wanted), wanted.on(host) as witness:
            status = _meanwhile(arguments.command, f"{wanted!r} on {host.name}")
    finally:
        running.detach()
    if arguments.json:
        print_json(asdict(witness))
    else:
        print(witness.sighting, flush=True)
    if not witness.count:
        ended = f"; the command exited with {status}, which proves nothing" if status else ""
        raise Void(f"void: {witness.absence}{ended}")
    return status


def _read_log_of(host: Host) -> None:
    """Read the host's log so far, so that no old line counts for the witness."""
    if isinstance(host, ServerHost):
        state = container.state(host.channel.container)
        if state["Running"] and not state["Paused"]:
            # A host that another fault keeps from logging has no pending lines, either.
            with contextlib.suppress(LabError):
                host.catch_up()


@contextlib.contextmanager
def _in_force(host: Host, wanted: Fault) -> Iterator[None]:
    """Record a fault as in force for a block; restore the host if this process is killed."""
    noted = host.agent.call("fault_begin", words=repr(wanted))
    mail = host.channel.container if isinstance(host, ServerHost) else ""
    standby = Standby(
        host.name,
        host.agent.container,
        mail,
        host.channel.modules if mail else (),
        container.process_limit(mail) if mail else None,
        noted["channel"],
        getattr(wanted, "RESTARTS", False),
    ).begin()
    try:
        yield
    finally:
        host.agent.call("fault_end", note=noted["note"])
        standby.dismiss()


def lift(arguments: Namespace) -> int:
    """Lift all faults that are in force on hosts, even if the programs that set them died."""
    project = choose(arguments.lab)
    site = site_of(project)
    for name in arguments.hosts:
        site.role(name)
    running = look_into(site, project)
    hosts = [running.hosts[name] for name in arguments.hosts or running.hosts]
    usual = _process_limit(running)
    lifted = []
    try:
        for host in hosts:
            words = container.faults(host.agent.container)
            # First, since a paused host cannot lift anything.
            if isinstance(host, ServerHost):
                held = container.restore(host.channel.container, usual)
                words += [word for word in held if not words]
            filters = [host.filters] if host.filters else []
            for channel in dict.fromkeys((host.agent, host.channel, *filters)):
                channel.call("clear")
            if nameserver := host.find_nameserver():
                nameserver.channel.call("names_clear", client=nameserver.client)
            kinds = [REGISTRY.get(word.partition("(")[0]) for word in words]
            if isinstance(host, ServerHost) and any(getattr(k, "RESTARTS", False) for k in kinds):
                host.restart()
            lifted += [{"fault": word, "host": host.name} for word in words]
    finally:
        running.detach()
    if arguments.json:
        print_json({"lifted": lifted})
        return 0
    for entry in lifted:
        print(f"lifted on {entry['host']}: {entry['fault']}")
    if not lifted:
        print("no active faults")
    return 0


def _process_limit(running: Lab) -> int | None:
    """Return the highest process limit among the lab's mail hosts; faults only lower it."""
    limits = [container.process_limit(host.channel.container) for host in running.servers]
    known = [limit for limit in limits if limit is not None]
    return max(known) if known and len(known) == len(limits) else None


def _meanwhile(command: list[str], what: str) -> int:
    """Run a command, or wait until a signal ends the wait."""
    if command:
        try:
            return subprocess.call(command)
        except OSError as error:
            raise BadInput(f"{command[0]}: {error.strerror}; put a command after --") from error
    over = Interruption()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    print(f"{what}; Ctrl-C lifts it", flush=True)
    over.wait()
    return 0


def _list(*, as_json: bool) -> int:
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "summary": summary(kind),
                    "settings": [asdict(setting) for setting in settings(kind)],
                }
                for name, kind in sorted(REGISTRY.items())
            ]
        )
    else:
        print_table([(name, summary(kind)) for name, kind in sorted(REGISTRY.items())])
    return 0


def _explain(kind: type, *, as_json: bool) -> int:
    every = settings(kind)
    if as_json:
        print_json([asdict(setting) for setting in every])
        return 0
    print(f"{kind.__name__}\n\n{description(kind)}\n")
    rows = [
        (
            f"{setting.name}=",
            setting.form,
            "required" if setting.default is None else f"default: {setting.usual}",
        )
        for setting in every
    ]
    if rows:
        print_table(rows, indent="  ")
    return 0


def warp(arguments: Namespace) -> int:
    """Move the clock of every mail host of a lab."""
    step = _step(arguments.step)
    project = choose(arguments.lab)
    running = look_into(site_of(project), project)
    try:
        running.clock.advance(seconds=step.total_seconds())
        times = {
            host.name: host.run("date", "+%F %T %z").stdout.strip() for host in running.servers
        }
    finally:
        running.detach()
    if arguments.json:
        print_json(times)
    else:
        print_table(list(times.items()))
    return 0


def _step(text: str) -> timedelta:
    found = re.fullmatch(r"\+?((?:\d+(?:\.\d+)?[dhms])+)", text)
    if not found:
        raise BadInput(
            f"STEP must be a time such as +4h, +5d or +1h30m, not {text!r}; "
            "the clock cannot go back"
        )
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", found[1])
    try:
        return sum((timedelta(**{_UNITS[unit]: float(n)}) for n, unit in parts), timedelta())
    except OverflowError:
        raise BadInput(
            f"STEP must be a time such as +4h, +5d or +1h30m; {text!r} is too far"
        ) from None
