"""Labs by hand: bring one up, list them, enter a host, read logs, remove them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from queue import SimpleQueue

from maillab import lab, topology
from maillab.cli.output import print_json, print_table
from maillab.engine import compose
from maillab.engine.client import connect, engine_errors
from maillab.engine.compose import HAND, Project
from maillab.engine.images import VERSION_DEFAULT
from maillab.errors import BadInput, LabError, MaillabError, UnknownName
from maillab.topology import Role, Topology

_PROJECT_LABEL = "com.docker.compose.project"
_OWNERS = {
    "hand": "by hand",
    "compose": "plain Compose",
    "run": "a run, alive",
    "dead run": "a run, dead",
    "elsewhere": "another machine",
}


def choose(wanted: str, *, of_runs: bool = True) -> Project:
    """The lab that was meant: by its name, its topology, a part of its name, or the only one.

    Labs brought up by hand come first; nothing given means the only one of them.
    Those of runs count by their full name alone unless ``of_runs``. Raises
    UnknownName, or BadInput when several fit.
    """
    labs = compose.projects()
    if wanted in labs:
        return labs[wanted]
    by_hand = {name: one for name, one in labs.items() if compose.owner_of(name) == HAND}
    if wanted:
        others = {name: one for name, one in labs.items() if of_runs or not compose.owner_of(name)}
        found = next(filter(None, (_matching(wanted, some) for some in (by_hand, others))), [])
    else:
        found = list(by_hand.values())
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(one.name for one in found))
    if found:
        raise BadInput(f"several labs{wanted and f' fit {wanted!r}'}, name one: {names}")
    if wanted:
        raise UnknownName.among("lab", wanted, sorted(labs))
    raise UnknownName(
        "no lab was brought up by hand: bring one up with 'maillab up TOPOLOGY'"
        + (f", or name one of: {', '.join(sorted(labs))}" if labs else "")
    )


def _matching(wanted: str, labs: dict[str, Project]) -> list[Project]:
    models_it = [one for one in labs.values() if one.file.stem == wanted]
    return models_it or [one for name, one in labs.items() if wanted in name]


def site_of(project: Project) -> Topology:
    """What the lab models.

    Raises BadInput when its Compose file is elsewhere, LabError when a container is gone.
    """
    if not project.file.is_file():
        raise BadInput(f"{project.name}: its file {project.file} is not on this machine")
    site = topology.load(str(project.file))
    services = {role.agent_service for role in site.roles.values()}
    services |= {role.name for role in site.roles.values() if role.has_mail}
    gone = services - set(project.containers)
    if gone:
        raise LabError(f"{project.name} lacks {', '.join(sorted(gone))}; see 'maillab down'")
    return site


def _service(role: Role, *, agent: bool = False) -> str:
    return role.name if role.has_mail and not agent else role.agent_service


def up(arguments: Namespace) -> int:
    """Bring up a lab by hand."""
    site = topology.load(arguments.topology)
    running = lab.start(site, arguments.postfix or VERSION_DEFAULT, by_hand=True)
    try:
        found = " and ".join(
            sorted({host.version for host in running.mail_hosts if host.mta == "Postfix"})
        )
    finally:
        running.detach()
    name, net = running.project.name, f"{running.project.net}.0/24"
    hosts = [
        {
            "name": role.name,
            "fqdn": role.fqdn,
            "addresses": role.addresses(running.project.net),
            "postfix": role.has_postfix,
        }
        for role in site.roles.values()
    ]
    if arguments.json:
        print_json(
            {"name": name, "topology": site.name, "postfix": found, "net": net, "hosts": hosts}
        )
        return 0
    print(f"{site.header}\n\n{name} is up in {net}, Postfix {found}:\n")
    print_table(
        [
            (role.name, role.fqdn, ", ".join(role.addresses(running.project.net)))
            for role in site.roles.values()
        ],
        indent="  ",
    )
    one = next(iter(site.roles))
    print(f"\nenter a host    maillab shell {one} --lab {name}")
    print(f"remove the lab  maillab down {name}")
    return 0


def ps(arguments: Namespace) -> int:
    """List the labs in the engine."""
    with engine_errors("looking for labs"):
        containers = connect().api.containers(all=True, filters={"label": _PROJECT_LABEL})
    counts = Counter(
        (entry["Labels"][_PROJECT_LABEL], entry["State"] == "running") for entry in containers
    )
    labs = [
        {
            "name": name,
            "topology": one.file.stem,
            "owner": _owner(name),
            "net": f"{one.net}.0/24",
            "running": counts[name, True],
            "containers": counts[name, True] + counts[name, False],
        }
        for name, one in sorted(compose.projects().items())
    ]
    if arguments.json:
        print_json(labs)
        return 0
    head = ("LAB", "TOPOLOGY", "OWNER", "NET", "RUNNING")
    rows = [
        (
            *(one["name"], one["topology"], _OWNERS[str(one["owner"])], one["net"]),
            f"{one['running']} of {one['containers']}",
        )
        for one in labs
    ]
    print_table([head, *rows])
    return 0


def _owner(project: str) -> str:
    owner = compose.owner_of(project)
    if owner in ("", HAND):
        return owner or "compose"
    return {True: "dead run", False: "run", None: "elsewhere"}[compose.is_dead(owner)]


def down(arguments: Namespace) -> int:
    """Remove a lab, or all that were brought up by hand."""
    if arguments.all:
        names = [name for name in compose.projects() if compose.owner_of(name) == HAND]
    else:
        names = [choose(arguments.lab, of_runs=False).name]
    for name in names:
        compose.remove(name)
        print(f"removed {name}")
    return 0


def sweep(arguments: Namespace) -> int:
    """Remove what dead owners left, or everything."""
    removed = compose.sweep(everything=arguments.all)
    if arguments.json:
        print_json({"removed": removed})
    else:
        print("\n".join(f"removed {name}" for name in removed) or "nothing to remove")
    return 0


def shell(arguments: Namespace) -> int:
    """Enter a host, or run one command there; returns its exit status."""
    project = choose(arguments.lab)
    role = site_of(project).role(arguments.host)
    service = _service(role, agent=arguments.agent)
    terminal = [] if sys.stdin.isatty() and sys.stdout.isatty() else ["-T"]
    # Compose and not docker exec: it is there even where the docker command is not.
    return subprocess.call(
        [
            *(*compose.compose_command(), "--project-name", project.name),
            *("exec", *terminal, service, *(arguments.command or ["bash"])),
        ]
    )


def logs(arguments: Namespace) -> int:
    """Print what hosts logged, by time; go on with what comes if asked to."""
    project = choose(arguments.lab)
    site = site_of(project)
    together = arguments.host == "all"
    roles = list(site.roles.values()) if together else [site.role(arguments.host)]
    ids = project.containers
    containers = {role.name: ids[_service(role)] for role in roles}

    def show(host: str, text: str) -> None:
        print(f"{host}: {text}" if together else text, flush=arguments.follow)

    past = [
        (stamp, host, text)
        for host, container in containers.items()
        for stamp, text in _log(container)
    ]
    past.sort(key=itemgetter(0))
    for _, host, text in past:
        show(host, text)
    if arguments.follow:
        seen = {host: stamp for stamp, host, _ in past}
        for host, text in _coming(containers, seen):
            show(host, text)
    return 0


def _log(container: str, *, follow: bool = False) -> Iterator[tuple[str, str]]:
    """A container's log lines, each with the engine's time for it (RFC 3339)."""
    pending = b""
    with engine_errors("reading logs"):
        for chunk in connect().api.logs(container, stream=True, follow=follow, timestamps=True):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                stamp, _, text = line.decode(errors="backslashreplace").partition(" ")
                yield stamp, text


def _coming(containers: dict[str, str], seen: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Lines after those seen, as they come, until every container has stopped."""
    came: SimpleQueue[tuple[str, str] | None] = SimpleQueue()

    def follow(host: str, container: str) -> None:
        # The engine's going away ends a log like its container's end.
        with contextlib.suppress(MaillabError):
            for stamp, text in _log(container, follow=True):
                if stamp > seen.get(host, ""):
                    came.put((host, text))
        came.put(None)

    for host, container in containers.items():
        threading.Thread(target=follow, args=(host, container), daemon=True).start()
    for _ in containers:
        while line := came.get():
            yield line
