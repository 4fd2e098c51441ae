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
from typing import Any, cast

from maillab.cli.arguments import LAB, Add, add_lab
from maillab.cli.output import print_json, print_table
from maillab.engine import compose, container
from maillab.engine.client import connect, engine_errors
from maillab.engine.compose import HAND, Project
from maillab.engine.container import PROJECT_LABEL, SERVICE_LABEL, is_beside
from maillab.engine.images import VERSION_DEFAULT
from maillab.errors import BadInput, LabError, MaillabError, UnknownName
from maillab.lab.pool import Labs
from maillab.site import topology
from maillab.site.topology import Role, Topology

# The suffix of an agent's name, see compose/base.yaml.
_AGENT = "-net"
_OWNERS = {
    "hand": "by hand",
    "compose": "plain Compose",
    "run": "a run, alive",
    "dead run": "a run, dead",
    "elsewhere": "another machine",
}


def register(add: Add) -> None:
    """Declare the commands of this family and their arguments."""
    parser = add(
        up,
        "maillab up backup-mx --postfix 3.7",
        json='{"name", "topology", "postfix", "net", "hosts": [{"name", "fqdn", "addresses", '
        '"postfix"}]}',
    )
    parser.add_argument(
        "topology", metavar="TOPOLOGY", help="a topology's name, or the path of a Compose file"
    )
    parser.add_argument("--postfix", metavar="VERSION", help="Postfix version (default: 3.10)")

    add(
        ps,
        "maillab ps",
        json='[{"name", "topology", "owner": "hand|compose|run|dead run|elsewhere", "net", '
        '"running", "containers", "faults": ["FAULT on HOST"]}]',
    )

    parser = add(
        inspect,
        "maillab inspect",
        json='{"name", "topology", "owner", "net", "hosts": [{"name", "fqdn", "addresses", '
        '"state": "running|paused|exited|...", "faults": [FAULT]}]}',
    )
    parser.add_argument("lab", metavar="LAB", nargs="?", default="", help=LAB)

    parser = add(
        down,
        "maillab down standalone",
        details="A test run's lab must be given by its full name.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("lab", metavar="LAB", nargs="?", default="", help=LAB)
    which.add_argument(
        "--all", action="store_true", help="remove all labs that were brought up by hand"
    )

    parser = add(
        shell,
        "maillab shell primary -- postconf -n",
        details="Exits with the command's exit status. Without a terminal, the shell reads\n"
        "commands from standard input.",
    )
    parser.usage = "maillab shell [-h] [--lab LAB] [--agent] HOST [-- COMMAND ...]"
    parser.add_argument("host", metavar="HOST", help="a host of the lab, such as mail")
    parser.add_argument(
        "--agent",
        action="store_true",
        help="enter the agent, which owns the host's network, instead of Postfix",
    )
    add_lab(parser)

    parser = add(logs, "maillab logs all --follow")
    parser.add_argument(
        "host",
        metavar="HOST",
        help="a host of the lab, or 'all': every host, by time, its name on each line",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing new lines")
    add_lab(parser)

    parser = add(
        sweep,
        "maillab sweep",
        json='{"removed": [name]}',
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="remove every lab, also of running tests, of other machines and by hand",
    )


def choose(wanted: str, *, of_runs: bool = True) -> Project:
    """Return the lab that a user means: by name, topology, part of a name, or the only one.

    Labs started by hand come first; without a name there must be only one of them. Labs of
    runs match by their full name only, unless ``of_runs``. Raise UnknownName, or BadInput if
    several labs match.
    """
    labs = compose.projects()
    if wanted in labs:
        return labs[wanted]
    by_hand = {name: lab for name, lab in labs.items() if lab.owner == HAND}
    if wanted:
        others = {name: lab for name, lab in labs.items() if of_runs or not lab.owner}
        found = next(filter(None, (_matching(wanted, some) for some in (by_hand, others))), [])
    else:
        found = list(by_hand.values())
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(lab.name for lab in found))
    if found:
        raise BadInput(f"several labs{wanted and f' match {wanted!r}'} (choose from {names})")
    if wanted:
        raise UnknownName.among("lab", wanted, sorted(labs))
    raise UnknownName(
        "no lab was brought up by hand: run 'maillab up TOPOLOGY'"
        + (f", or choose from {', '.join(sorted(labs))}" if labs else "")
    )


def _matching(wanted: str, labs: dict[str, Project]) -> list[Project]:
    models_it = [lab for lab in labs.values() if lab.file.stem == wanted]
    return models_it or [lab for name, lab in labs.items() if wanted in name]


def site_of(project: Project) -> Topology:
    """Return the topology of a lab.

    Raise BadInput if its Compose file is not here, LabError if a container is gone.
    """
    if not project.file.is_file():
        raise BadInput(f"{project.name}: its Compose file {project.file} is not on this machine")
    site = topology.load(str(project.file))
    services = {role.agent_service for role in site.roles.values()}
    services |= {role.name for role in site.roles.values() if role.server}
    gone = services - set(project.containers)
    if gone:
        raise LabError(
            f"{project.name} has lost {', '.join(sorted(gone))}; remove the lab with 'maillab down'"
        )
    return site


def _service(role: Role, *, agent: bool = False) -> str:
    return role.agent_service if agent else role.service


def up(arguments: Namespace) -> int:
    """Start a lab by hand."""
    site = topology.load(arguments.topology)
    labs = Labs(keep_max=1)
    try:
        running = labs.get(site, arguments.postfix or VERSION_DEFAULT)
        found = " and ".join(sorted({host.version for host in running.postfix_hosts}))
        labs.release(running)
    finally:
        labs.close()
    name, net = running.project.name, f"{running.project.net}.0/24"
    hosts = [
        {
            "name": role.name,
            "fqdn": role.fqdn,
            "addresses": role.addresses(running.project.net),
            "postfix": role.server == "postfix",
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
    first = next(iter(site.roles))
    print(f"\nenter a host    maillab shell {first} --lab {name}")
    print(f"remove the lab  maillab down {name}")
    return 0


def ps(arguments: Namespace) -> int:
    """List the labs in the engine."""
    with engine_errors("looking for labs"):
        containers = connect().api.containers(all=True, filters={"label": PROJECT_LABEL})
    counts = Counter(
        (entry["Labels"][PROJECT_LABEL], entry["State"] == "running")
        for entry in containers
        if not is_beside(entry["Labels"])
    )
    labs: list[dict[str, object]] = [
        {
            "name": name,
            "topology": lab.file.stem,
            "owner": _owner(lab),
            "net": f"{lab.net}.0/24",
            "running": counts[name, True],
            "containers": counts[name, True] + counts[name, False],
            "faults": _faults(lab, containers),
        }
        for name, lab in sorted(compose.projects().items())
    ]
    if arguments.json:
        print_json(labs)
        return 0
    head = ("LAB", "TOPOLOGY", "OWNER", "NET", "RUNNING", "FAULTS")
    rows = [
        (
            *(lab["name"], lab["topology"], _OWNERS[str(lab["owner"])], lab["net"]),
            f"{lab['running']} of {lab['containers']}",
            ", ".join(cast("list[str]", lab["faults"])),
        )
        for lab in labs
    ]
    print_table([head, *rows])
    return 0


def _faults(project: Project, containers: list[dict[str, Any]]) -> list[str]:
    """Return the faults by hand in a lab; those of a run belong to its scenarios."""
    if project.owner not in ("", HAND):
        return []
    agents = {
        entry["Labels"][SERVICE_LABEL]: entry["Id"]
        for entry in containers
        if entry["Labels"][PROJECT_LABEL] == project.name
        and entry["Labels"].get(SERVICE_LABEL, "").endswith(_AGENT)
    }
    return [
        f"{fault} on {name.removesuffix(_AGENT)}"
        for name, agent in sorted(agents.items())
        for fault in container.faults(agent)
    ]


def inspect(arguments: Namespace) -> int:
    """Show the current state of one lab."""
    project = choose(arguments.lab)
    site = site_of(project)
    ids = project.containers
    hosts: list[dict[str, object]] = [
        {
            "name": role.name,
            "fqdn": role.fqdn,
            "addresses": role.addresses(project.net),
            "state": container.state(ids[_service(role)])["Status"],
            "faults": container.faults(ids[role.agent_service]),
        }
        for role in site.roles.values()
    ]
    owner, net = _owner(project), f"{project.net}.0/24"
    if arguments.json:
        print_json(
            {"name": project.name, "topology": site.name, "owner": owner, "net": net,
             "hosts": hosts}
        )  # fmt: skip
        return 0
    print(f"{project.name}: {site.name}, {_OWNERS[owner]}, {net}\n")
    print_table(
        [("HOST", "NAME", "ADDRESSES", "STATE", "FAULTS")]
        + [
            (
                str(host["name"]),
                str(host["fqdn"]),
                ", ".join(cast("list[str]", host["addresses"])),
                str(host["state"]),
                ", ".join(cast("list[str]", host["faults"])),
            )
            for host in hosts
        ]
    )
    return 0


def _owner(project: Project) -> str:
    if project.owner in ("", HAND):
        return project.owner or "compose"
    return {True: "dead run", False: "run", None: "elsewhere"}[compose.is_dead(project.owner)]


def down(arguments: Namespace) -> int:
    """Remove a lab, or all that were started by hand."""
    if arguments.all:
        names = [name for name, lab in compose.projects().items() if lab.owner == HAND]
    else:
        names = [choose(arguments.lab, of_runs=False).name]
    for name in names:
        compose.remove(name)
        print(f"removed {name}")
    return 0


def sweep(arguments: Namespace) -> int:
    """Remove the labs of dead owners, or all labs."""
    removed = compose.sweep(everything=arguments.all)
    if arguments.json:
        print_json({"removed": removed})
    else:
        print("\n".join(f"removed {name}" for name in removed) or "nothing to remove")
    return 0


def shell(arguments: Namespace) -> int:
    """Enter a host, or run one command there; return its exit status."""
    project = choose(arguments.lab)
    role = site_of(project).role(arguments.host)
    service = _service(role, agent=arguments.agent)
    terminal = [] if sys.stdin.isatty() and sys.stdout.isatty() else ["-T"]
    # Compose and not docker exec: it works even without the docker command.
    return subprocess.call(
        [
            *(*compose.compose_command(), "--project-name", project.name),
            *("exec", *terminal, service, *(arguments.command or ["bash"])),
        ]
    )


def logs(arguments: Namespace) -> int:
    """Print the hosts' logs by time; with --follow, continue with new lines."""
    project = choose(arguments.lab)
    site = site_of(project)
    together = arguments.host == "all"
    roles = list(site.roles.values()) if together else [site.role(arguments.host)]
    ids = project.containers
    containers = {role.name: ids[_service(role)] for role in roles}

    def show(host: str, text: str) -> None:
        print(f"{host}: {text}" if together else text, flush=arguments.follow)

    past = [(stamp, host, text) for host, id_ in containers.items() for stamp, text in _log(id_)]
    past.sort(key=itemgetter(0))
    for _, host, text in past:
        show(host, text)
    if arguments.follow:
        seen = {host: stamp for stamp, host, _ in past}
        for host, text in _coming(containers, seen):
            show(host, text)
    return 0


def _log(id_: str, *, follow: bool = False) -> Iterator[tuple[str, str]]:
    """Yield a container's log lines, each with the engine's time (RFC 3339)."""
    pending = b""
    with engine_errors("reading logs"):
        for chunk in connect().api.logs(id_, stream=True, follow=follow, timestamps=True):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                stamp, _, text = line.decode(errors="backslashreplace").partition(" ")
                yield stamp, text


def _coming(containers: dict[str, str], seen: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield new log lines as they arrive, until every container has stopped."""
    came: SimpleQueue[tuple[str, str] | None] = SimpleQueue()

    def follow(host: str, id_: str) -> None:
        # A log also ends if the engine goes away.
        with contextlib.suppress(MaillabError):
            for stamp, text in _log(id_, follow=True):
                if stamp > seen.get(host, ""):
                    came.put((host, text))
        came.put(None)

    for followed in containers.items():
        threading.Thread(target=follow, args=followed, daemon=True).start()
    for _ in containers:
        while line := came.get():
            yield line
