"""A Compose file read as a lab: which hosts, which roles, which names and addresses.

A mail host is a pair of services, NAME (Postfix) and NAME-net (its agent, which
owns hostname and addresses); an agent alone is a client. Pure: reads one file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from maillab import resources
from maillab.errors import BadTopology, UnknownName

NET_DEFAULT = "198.18.0"
_AGENT = "-net"
_OWN_IMAGE = re.compile(r"\$\{([A-Z]+)_IMAGE:-maillab/")


@dataclass(frozen=True)
class Role:
    """One host of a topology; addresses lack the lab's own first three numbers."""

    name: str
    fqdn: str
    host_numbers: tuple[int, ...]
    has_postfix: bool

    @property
    def agent_service(self) -> str:
        """The Compose service of its agent."""
        return self.name + _AGENT

    def addresses(self, net: str) -> list[str]:
        """Its addresses in a lab whose /24 begins with ``net``."""
        return [f"{net}.{number}" for number in self.host_numbers]


@dataclass(frozen=True)
class Topology:
    """One file of ``compose/``: its name, its header and its hosts by role.

    ``own_images`` are the kinds of image that its services name beside what every
    lab has, each as ``image: ${KIND_IMAGE:-maillab/kind}``.
    """

    name: str
    path: Path
    header: str
    roles: Mapping[str, Role] = field(default_factory=dict)
    own_images: tuple[str, ...] = ()

    @property
    def mail_hosts(self) -> list[Role]:
        """The hosts that run Postfix."""
        return [role for role in self.roles.values() if role.has_postfix]

    def role(self, name: str) -> Role:
        """The host of that role; raises UnknownName."""
        if name not in self.roles:
            raise UnknownName.among(f"host in {self.name}", name, list(self.roles))
        return self.roles[name]


def names() -> list[str]:
    """The topologies there are."""
    return sorted(path.stem for path in resources.compose().glob("*.yaml") if path.stem != "base")


def load(name: str) -> Topology:
    """The topology of that name, or in the file of that path.

    Raises UnknownName, or BadTopology naming the file and what is wrong with it.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else resources.compose() / f"{name}.yaml"
    if not path.is_file() or path.stem == "base":
        raise UnknownName.among("topology", name, names())
    # Bytes that are no text become characters that are no YAML.
    return parse(path.read_text(errors="surrogateescape"), path)


def parse(text: str, path: Path) -> Topology:
    """Read a Compose file's text; ``path`` is where it came from."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f"{path}:{place.line + 1}" if place else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadTopology(f"{where}: not YAML: {problem}") from error
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise BadTopology(f"{path}: no services; see compose/standalone.yaml for the form")
    for service, entry in services.items():
        if not isinstance(service, str) or not isinstance(entry, dict):
            raise BadTopology(f"{path}: service {service}: needs settings, not {entry!r}")
    hosts = [service.removesuffix(_AGENT) for service in services if service.endswith(_AGENT)]
    roles = {name: _role(name, services, path) for name in hosts}
    if not roles:
        raise BadTopology(f"{path}: no host; a host needs an agent, a service named HOST{_AGENT}")
    header = "\n".join(
        line.removeprefix("#").removeprefix(" ")
        for line in re.match(r"(?:#.*\n)*", text)[0].splitlines()  # type: ignore[index]  # matches anything
    )
    named = (_OWN_IMAGE.match(str(entry.get("image"))) for entry in services.values())
    own_images = tuple(sorted({found[1].lower() for found in named if found}))
    return Topology(path.stem, path.resolve(), header, roles, own_images)


def _role(name: str, services: dict[str, dict[str, Any]], path: Path) -> Role:
    agent = services[name + _AGENT]
    where = f"{path}: service {name}{_AGENT}"
    fqdn = agent.get("hostname")
    if not isinstance(fqdn, str) or "." not in fqdn:
        raise BadTopology(f"{where}: needs 'hostname:', a full name such as mail.example.com")
    networks = agent.get("networks")
    found = re.findall(r"ipv4_address\W+\$\{[^}]*\}\.(\d+)", str(networks))
    if not found:
        raise BadTopology(f"{where}: needs 'ipv4_address:' with ${{NET:-{NET_DEFAULT}}} in it")
    postfix = services.get(name)
    if postfix is not None and postfix.get("network_mode") != f"service:{name}{_AGENT}":
        raise BadTopology(
            f"{path}: service {name}: needs 'network_mode: service:{name}{_AGENT}', "
            f"not {postfix.get('network_mode')!r}"
        )
    return Role(name, fqdn, tuple(int(number) for number in found), postfix is not None)
