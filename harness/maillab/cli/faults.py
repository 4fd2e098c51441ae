"""Breaking a lab by hand: faults for as long as a command runs, and the moved clock."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
from argparse import Namespace
from dataclasses import asdict
from datetime import timedelta

from maillab.cli.interruption import Interruption
from maillab.cli.labs import choose, site_of
from maillab.cli.output import print_json, print_table
from maillab.errors import BadInput, UnknownName
from maillab.faults import REGISTRY
from maillab.faults.settings import build, settings, summary
from maillab.lab import Lab

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def fault(arguments: Namespace) -> int:
    """List the faults, explain one, or have a host suffer it."""
    if not arguments.fault:
        return _list(as_json=arguments.json)
    if arguments.fault not in REGISTRY:
        raise UnknownName.among("fault", arguments.fault, sorted(REGISTRY))
    kind = REGISTRY[arguments.fault]
    if not arguments.host:
        return _explain(kind, as_json=arguments.json)
    given = {}
    for word in arguments.settings:
        name, equals, value = word.partition("=")
        if not equals:
            raise BadInput(f"{word}: write it as NAME=VALUE; see 'maillab fault {kind.__name__}'")
        given[name] = value
    project = choose(arguments.lab)
    site = site_of(project)
    site.role(arguments.host)
    addresses = {role.name: role.addresses(project.net)[0] for role in site.roles.values()}
    wanted = build(kind, given, addresses)
    running = Lab(site, project, version="")
    try:
        with wanted.on(running.hosts[arguments.host]) as witness:
            status = _meanwhile(arguments.command, f"{wanted!r} on {arguments.host}")
    finally:
        running.detach()
    if arguments.json:
        print_json(asdict(witness))
    else:
        print(f"{witness.fault} on {witness.host}: {witness.count} {witness.source}")
    return status


def _meanwhile(command: list[str], what: str) -> int:
    """Run a command, or wait for somebody to end it."""
    if command:
        return subprocess.call(command)
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
                    "settings": [asdict(one) for one in settings(kind)],
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
        print_json([asdict(one) for one in every])
        return 0
    print(f"{kind.__name__}\n\n{inspect.getdoc(kind)}\n")
    rows = [
        (f"{one.name}=", one.form, "needed" if one.default is None else f"default: {one.default!r}")
        for one in every
    ]
    if rows:
        print_table(rows, indent="  ")
    return 0


def warp(arguments: Namespace) -> int:
    """Move the clock of every mail host of a lab."""
    step = _step(arguments.step)
    project = choose(arguments.lab)
    running = Lab(site_of(project), project, version="")
    try:
        running.clock.advance(seconds=step.total_seconds())
        times = {
            host.name: host.run("date", "+%F %T %z").stdout.strip() for host in running.mail_hosts
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
        raise BadInput(f"{text}: write how far, as +4h, +5d or +1h30m; the clock cannot go back")
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", found[1])
    return sum((timedelta(**{_UNITS[unit]: float(n)}) for n, unit in parts), timedelta())
