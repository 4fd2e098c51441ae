"""The topology that a Compose file describes: hosts, roles, names and addresses.

A mail host is a pair of services: NAME (Postfix, or what its image says: Sendmail, Dovecot,
HAProxy, servers of tables)
and NAME-net (its agent, which owns hostname and addresses). An agent alone is a client.
Reads one file and does no other I/O.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from maillab.errors import BadTopology, UnknownName
from maillab.site import ipv6, resources

NET_DEFAULT = "198.18.0"
_AGENT = "-net"
_ADDRESS = re.compile(r"\$\{[^}]*\}\.([0-9]{1,3})")
_NUMBER_MAX = 254
_BYTES_MAX = 1_000_000
_OWN_IMAGE = re.compile(r"\$\{([A-Z_]+)_IMAGE:(?:\?|-maillab/)")

_IMAGE = re.compile(r"\{([A-Z_]+)_IMAGE\b")
Server = Literal["", "postfix", "sendmail", "dovecot", "tables", "front"]
# By the kind of a service's image; Postfix runs in all others.
_SERVERS: dict[str, Server] = {
    "DOVECOT": "dovecot",
    "FRONT": "front",
    "SENDMAIL": "sendmail",
    "TABLES": "tables",
}


@dataclass(frozen=True)
class Role:
    """One host of a topology; its addresses are only the last numbers, within the lab's /24."""

    name: str
    fqdn: str
    host_numbers: tuple[int, ...]
    # "" is a host with an agent alone: a client or a router.
    server: Server = ""
    # For a front: the host whose mail server it publishes, and its address on that side.
    publishes: str = ""
    inner_number: int = 0

    @property
    def has_mail(self) -> bool:
        """Return True for a host with an MTA."""
        return self.server in ("postfix", "sendmail")

    @property
    def agent_service(self) -> str:
        """The Compose service of the host's agent."""
        return self.name + _AGENT

    @property
    def service(self) -> str:
        """The Compose service of its server, else of its agent."""
        return self.name if self.server else self.agent_service

    def addresses(self, net: str) -> list[str]:
        """Return the host's addresses in a lab whose /24 starts with ``net``."""
        return [f"{net}.{number}" for number in self.host_numbers]

    def addresses6(self, net: str) -> list[str]:
        """Return the host's IPv6 addresses there, in the order of its IPv4 addresses."""
        return [ipv6.behind_prefix(address) for address in self.addresses(net)]


@dataclass(frozen=True)
class Topology:
    """One file of ``compose/``: its name, its header and its hosts by role.

    ``own_images`` are the kinds of image that its services name in addition to those of
    every lab, each as ``image: ${KIND_IMAGE:?run 'make setup' first}``.
    """

    name: str
    path: Path
    header: str
    roles: Mapping[str, Role] = field(default_factory=dict)
    own_images: tuple[str, ...] = ()
    # Services of our images that belong to no host's pair, such as name servers.
    others: tuple[str, ...] = ()
    # Those of them that run filters beside a mail host, by the host's name.
    filters: Mapping[str, str] = field(default_factory=dict)
    # Those of them that may run a resolver beside a mail host.
    resolvers: tuple[str, ...] = ()
    # Those of them that are name servers, with the last numbers of their addresses.
    name_servers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def mail_hosts(self) -> list[Role]:
        """The hosts that run a mail server: Postfix or Sendmail."""
        return [role for role in self.roles.values() if role.has_mail]

    @property
    def postfix_hosts(self) -> list[Role]:
        """The mail hosts that run Postfix."""
        return [role for role in self.roles.values() if role.server == "postfix"]

    def role(self, name: str) -> Role:
        """Return the host with this role; raise UnknownName."""
        if name not in self.roles:
            raise UnknownName.among("host", name, list(self.roles), of=self.name)
        return self.roles[name]


def names() -> list[str]:
    """Return the names of the topologies in ``compose/``."""
    return sorted(path.stem for path in resources.compose().glob("*.yaml") if path.stem != "base")


def load(name: str) -> Topology:
    """Return the topology with this name, or from the file with this path.

    Raise UnknownName, or BadTopology with the file and what is wrong in it.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else resources.compose() / f"{name}.yaml"
    if not _is_file(path) or path.stem == "base":
        raise UnknownName.among("topology", name, names())
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadTopology(f"{path}: {error.strerror}") from error
    if len(raw) > _BYTES_MAX:
        raise BadTopology(f"{path}: must have at most {_BYTES_MAX} bytes, not {len(raw)}")
    # Bytes that are not text become characters that YAML refuses.
    return parse(raw.decode(errors="surrogateescape"), path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # The name is too long, or this user may not enter the folder.
        return False


def parse(text: str, path: Path) -> Topology:
    """Parse the text of the Compose file at ``path``."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f"{path}:{place.line + 1}" if place else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadTopology(f"{where}: not YAML: {problem}") from error
    except RecursionError as error:
        raise BadTopology(f"{path}: not readable as YAML: nested too deeply") from error
    except Exception as error:  # PyYAML's constructors raise what Python's own do
        raise BadTopology(f"{path}: not YAML: a value is invalid ({error})") from error
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise BadTopology(f"{path}: no services; see compose/standalone.yaml for an example")
    for service, entry in services.items():
        if not isinstance(service, str) or not isinstance(entry, dict):
            raise BadTopology(
                f"{path}: service {service}: must be a mapping of settings, not {_brief(entry)}"
            )
    hosts = [service.removesuffix(_AGENT) for service in services if service.endswith(_AGENT)]
    roles = {name: _role(name, services, path) for name in hosts}
    if not roles:
        raise BadTopology(
            f"{path}: no host; each host needs an agent, a service named HOST{_AGENT}"
        )
    header = "\n".join(
        line.removeprefix("#").removeprefix(" ")
        for line in re.match(r"(?:#.*\n)*", text)[0].splitlines()  # type: ignore[index]  # matches anything
    )
    named = (
        _OWN_IMAGE.match(entry["image"]) for entry in services.values() if _has_text(entry, "image")
    )
    own_images = tuple(sorted({found[1].lower().replace("_", "-") for found in named if found}))
    pairs = {name for role in roles.values() for name in (role.name, role.agent_service)}
    others = tuple(name for name in services if name not in pairs and _is_ours(services[name]))
    name_servers = {name: _numbers(services[name]) for name in others if _is_dns(services[name])}
    filters = {
        role.name: service
        for role in roles.values()
        for service in others
        if _has_filters(services[service])
        and services[service].get("network_mode") == f"service:{role.agent_service}"
    }
    resolvers = tuple(name for name in others if _has_image(services[name], "RESOLVER"))
    return Topology(
        path.stem,
        path.resolve(),
        header,
        roles,
        own_images,
        others,
        filters,
        resolvers,
        name_servers,
    )


def _is_ours(entry: Mapping[str, Any]) -> bool:
    """Return True if a service runs an image of ours, its own or that of base.yaml."""
    if "image" in entry:
        return bool(_OWN_IMAGE.match(str(entry["image"])))
    extends = entry.get("extends")
    return isinstance(extends, dict) and Path(str(extends.get("file"))).name == "base.yaml"


def _is_dns(entry: Mapping[str, Any]) -> bool:
    """Return True if a service of ours is a name server."""
    if "image" in entry:
        return "DNS_IMAGE" in str(entry["image"])
    return bool(entry["extends"].get("service") == "dns")


def _has_filters(entry: Mapping[str, Any]) -> bool:
    """Return True if a service runs filters (images/filters, images/resolver)."""
    return _has_image(entry, "FILTERS") or _has_image(entry, "RESOLVER")


def _has_image(entry: Mapping[str, Any], kind: str) -> bool:
    """Return True if a service names an image of this kind."""
    return f"{kind}_IMAGE" in str(entry.get("image"))


def _numbers(service: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the last numbers of a service's addresses in the lab's /24."""
    found = [match for text in _addresses(service) if (match := _ADDRESS.fullmatch(text))]
    settings = service.get("environment")
    further = str(settings.get("ADDRESSES", "")) if isinstance(settings, dict) else ""
    numbers = [int(match[1]) for match in (*found, *_ADDRESS.finditer(further))]
    return tuple(numbers)


def _addresses(service: Mapping[str, Any]) -> list[str]:
    """Return the IPv4 addresses of a service in its networks, as they are written."""
    networks = service.get("networks")
    settings = networks.values() if isinstance(networks, dict) else ()
    return [
        str(network["ipv4_address"]) for network in settings if _has_text(network, "ipv4_address")
    ]


def _has_text(entry: object, key: str) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get(key), str)


def _brief(value: object) -> str:
    """Return a value for a message, shortened if it is large or nested."""
    return reprlib.repr(value)


def _role(name: str, services: dict[str, dict[str, Any]], path: Path) -> Role:
    agent = services[name + _AGENT]
    where = f"{path}: service {name}{_AGENT}"
    fqdn = agent.get("hostname")
    if not isinstance(fqdn, str) or "." not in fqdn:
        raise BadTopology(f"{where}: needs 'hostname:', a full name such as mail.example.com")
    numbers = _numbers(agent)
    if not numbers or max(numbers) > _NUMBER_MAX:
        raise BadTopology(
            f"{where}: needs 'ipv4_address:' with ${{NET:-{NET_DEFAULT}}} in it, "
            f"such as ${{NET:-{NET_DEFAULT}}}.10, the last number at most {_NUMBER_MAX}"
        )
    server = services.get(name)
    if server is None:
        return Role(name, fqdn, numbers)
    if server.get("network_mode") != f"service:{name}{_AGENT}":
        raise BadTopology(
            f"{path}: service {name}: needs 'network_mode: service:{name}{_AGENT}', "
            f"not {_brief(server.get('network_mode'))}"
        )
    image = server["image"] if _has_text(server, "image") else ""
    kind = _IMAGE.search(image)
    server_kind = _SERVERS.get(kind[1] if kind else "", "postfix")
    if server_kind == "front":
        return _front(name, fqdn, numbers, services, path)
    return Role(name, fqdn, numbers, server_kind)


def _front(
    name: str, fqdn: str, numbers: tuple[int, ...], services: dict[str, dict[str, Any]], path: Path
) -> Role:
    """Return the role of a front; its environment names what it publishes."""
    environment = services[name].get("environment")
    given = environment if isinstance(environment, dict) else {}
    publishes, inner = given.get("PUBLISHES"), _ADDRESS.fullmatch(str(given.get("INNER")))
    if not isinstance(publishes, str) or f"{publishes}{_AGENT}" not in services or not inner:
        raise BadTopology(
            f"{path}: service {name}: needs 'environment:' with PUBLISHES, a host of this file, "
            f"and INNER, the front's address on its side, such as ${{NET:-{NET_DEFAULT}}}.129"
        )
    return Role(name, fqdn, numbers, "front", publishes=publishes, inner_number=int(inner[1]))
