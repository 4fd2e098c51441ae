"""A Compose file read as a lab, and what each shipped one must hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import zones
from maillab import resources, topology
from maillab.errors import BadInput, BadTopology, UnknownName
from maillab.topology import NET_DEFAULT, Role, Topology

SHIPPED = topology.names()
HERE = Path("site.yaml")

AGENT = """
  mail-net:
    hostname: mail.example.com
    networks: {internet: {ipv4_address: "${NET:-198.18.0}.10"}}
"""
GOOD = f"""# Models: one host.
#
#   mail.example.com .10
# with  two blanks

# not the header any more
services:{AGENT}
  mail:
    network_mode: service:mail-net
"""


def contents(site: Topology) -> dict[str, str]:
    """The ``configs`` of a topology as a lab with the default addresses gets them."""
    document = yaml.safe_load(site.path.read_text())
    return {
        name: re.sub(r"\$\{NET:-([^}]*)\}", r"\1", entry["content"]).replace("$$", "$")
        for name, entry in document["configs"].items()
    }


def config_of(site: Topology, service: str, target: str) -> str:
    """The one config that a service mounts at a path."""
    document = yaml.safe_load(site.path.read_text())
    (source,) = [
        entry["source"]
        for entry in document["services"][service]["configs"]
        if entry["target"] == target
    ]
    return contents(site)[source]


def addresses_by_name(zone: str) -> dict[str, set[str]]:
    """Every A record by its full name without the final dot."""
    found: dict[str, set[str]] = {}
    for origin, text in zones.sections(zone).items():
        for name, kind, data in zones.RECORD.findall(text):
            if kind == "A":
                found.setdefault(zones.full(name, origin).rstrip("."), set()).add(data)
    return found


def test_the_shipped_topologies_are_there() -> None:
    """The base that the others extend is none of them."""
    assert {"standalone", "backup-mx", "firewall"} <= set(SHIPPED)
    assert "base" not in SHIPPED
    assert [topology.load(name).name for name in SHIPPED] == SHIPPED


def test_roles_names_and_addresses_of_the_backup_mx() -> None:
    """A pair of services is one host."""
    site = topology.load("backup-mx")

    assert {role.name: role.fqdn for role in site.mail_hosts} == {
        "sender": "sender.example.net",
        "primary": "primary.example.org",
        "backup": "backup.example.org",
        "victim": "victim.example.com",
    }
    assert site.role("primary").addresses("198.19.7") == ["198.19.7.20"]
    assert site.role("primary").agent_service == "primary-net"


def test_a_topology_names_the_images_of_its_own() -> None:
    """Beside those of every lab; one that is made elsewhere is Compose's business."""
    site = topology.parse(
        f"""services:{AGENT}
  scanner: {{image: "${{SCANNER_IMAGE:-maillab/scanner}}"}}
  second: {{image: "${{SCANNER_IMAGE:-maillab/scanner}}"}}
  other: {{image: "debian:trixie"}}
""",
        HERE,
    )

    assert site.own_images == ("scanner",)
    assert topology.load("standalone").own_images == ()


def test_a_host_on_two_networks_has_two_addresses() -> None:
    """The order is the file's: the first network's address is the host's."""
    firewall = topology.load("firewall").role("firewall")

    assert firewall.addresses(NET_DEFAULT) == ["198.18.0.10", "198.18.0.130"]


def test_an_agent_alone_is_a_client_without_postfix() -> None:
    """It is a host of the lab, but no mail host."""
    site = topology.load("standalone")

    assert site.role("client") == Role("client", "client.example.net", (30,), has_postfix=False)
    assert "client" not in {role.name for role in site.mail_hosts}


@pytest.mark.parametrize("name", SHIPPED)
def test_each_file_says_what_it_models_and_shows_a_map(name: str) -> None:
    """The header names every host, in the words and on the map, with its last number."""
    site = topology.load(name)

    assert re.search(r"(?m)^Models: \S", site.header), "what does it model?"
    drawing = "".join(re.findall(r"(?m)^  .*\n?", site.header))
    for role in site.roles.values():
        assert role.fqdn in drawing, f"{role.name} is not on the map"
        for number in role.host_numbers:
            assert re.search(rf"\.{number}\b", drawing), f"{role.name} .{number} is not on the map"


@pytest.mark.parametrize("name", SHIPPED)
def test_no_two_hosts_share_a_name_or_an_address(name: str) -> None:
    """Nor is one the engine's own, which is the first of each network."""
    site = topology.load(name)

    numbers = [number for role in site.roles.values() for number in role.host_numbers]
    assert len(set(numbers)) == len(numbers)
    assert len({role.fqdn for role in site.roles.values()}) == len(site.roles)
    assert all(1 < number < 255 for number in numbers)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_host_has_its_forward_name_in_the_zone(name: str) -> None:
    """A host's full name leads to addresses of its own and to no others."""
    site = topology.load(name)
    known = addresses_by_name(config_of(site, "dns", "/etc/nsd/lab.zone"))

    for role in site.roles.values():
        own = set(role.addresses(NET_DEFAULT))
        assert known.get(role.fqdn), f"{role.fqdn} has no A record"
        assert known[role.fqdn] <= own, f"{role.fqdn} leads to {known[role.fqdn]}"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_hosts_configuration_gives_its_reason(name: str) -> None:
    """A comment stands above the first line of each host's main.cf, and no line is odd."""
    site = topology.load(name)

    for role in site.mail_hosts:
        lines = config_of(site, role.name, "/etc/postfix/host.cf").splitlines()
        assert lines[0].startswith("# "), f"{role.name}: {lines[0]!r} stands without a reason"
        for line in lines:
            assert re.match(r"# \S|[a-z][\w-]* =|$", line), f"{role.name}: {line!r}"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_network_is_closed_to_the_outside(name: str) -> None:
    """Internal, without an address of the engine's own, and out of the lab's /24."""
    document = yaml.safe_load(topology.load(name).path.read_text())

    for network in document["networks"].values():
        assert network["internal"] is True
        assert network["driver_opts"]["com.docker.network.bridge.inhibit_ipv4"] == "true"
        for entry in network["ipam"]["config"]:
            assert entry["subnet"].startswith("${NET:-198.18.0}.")


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_of_this_machine_is_in_a_lab(name: str) -> None:
    """So that the engine may be on another one: no file or port of it, volumes by name."""
    site = yaml.safe_load(topology.load(name).path.read_text())

    for service in site["services"].values():
        assert not {"ports", "devices", "env_file", "build"} & set(service)
        for mounted in service.get("volumes", []):
            assert mounted.partition(":")[0] in site["volumes"]
    assert all(set(config) == {"content"} for config in site["configs"].values())


def test_a_mail_host_may_run_sendmail_instead() -> None:
    """Its image says so; it is a mail host, but none of those that run Postfix."""
    site = topology.load("sendmail")
    sendmail, postfix = site.role("sendmail"), site.role("postfix")

    assert (sendmail.has_mail, sendmail.has_postfix, sendmail.has_sendmail) == (True, False, True)
    assert (postfix.has_mail, postfix.has_postfix, postfix.has_sendmail) == (True, True, False)
    assert "sendmail" not in {role.name for role in site.mail_hosts}
    assert site.own_images == ("sendmail",)


def test_the_header_is_the_first_comment_without_its_hashes() -> None:
    """What stands below an empty line is not part of it."""
    assert topology.parse(GOOD, HERE).header == (
        "Models: one host.\n\n  mail.example.com .10\nwith  two blanks"
    )


def test_a_file_needs_no_header() -> None:
    """A topology of somebody else's may go without."""
    assert topology.parse(f"services:{AGENT}", HERE).header == ""


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("services: [unclosed\n\n", "site.yaml:", "not YAML"),
        ("a: b\nc: d: e\n", "site.yaml:2", "not YAML"),
        ("\x00", "site.yaml", "not YAML"),
        ("", "site.yaml", "no services"),
        ("just words", "site.yaml", "no services"),
        ("- a\n- list\n", "site.yaml", "no services"),
        ("services:\n", "site.yaml", "no services"),
        ("services: [mail-net]\n", "site.yaml", "no services"),
        ("services: {}\n", "site.yaml", "HOST-net"),
        ("services: {mail: {image: x}}\n", "site.yaml", "HOST-net"),
        ("services: {mail-net: }\n", "service mail-net", "needs settings"),
        ("services: {mail-net: {}}\n", "service mail-net", "hostname"),
        (f"services:{AGENT.replace('mail.example.com', 'mail')}", "service mail-net", "full name"),
        (f"services:{AGENT.replace('mail.example.com', '7')}", "service mail-net", "hostname"),
        ("services: {a-net: {hostname: a.test}}\n", "service a-net", "ipv4_address"),
        (f"services:{AGENT.replace('${NET:-198.18.0}', '10.0.0')}", "service mail-net", "${NET"),
        (f"services:{AGENT}\n  mail: {{}}\n", "service mail:", "service:mail-net', not None"),
        (f"services:{AGENT}\n  mail:\n", "site.yaml: service mail", "not None"),
        (f"services:{AGENT}\n  mail: {{network_mode: host}}\n", "service mail:", "not 'host'"),
        (f"services:{AGENT}\n  mail: [x]\n", "service mail:", "not ['x']"),
        ("services: {mail-net: [x]}\n", "service mail-net", "not ['x']"),
        (f"services:{AGENT}\n  7: {{}}\n", "service 7", "not {}"),
    ],
)
def test_a_file_that_is_no_lab_is_refused_with_its_place(text: str, place: str, words: str) -> None:
    """The message names the file, the place in it and what would be right."""
    with pytest.raises(BadTopology) as error:
        topology.parse(text, HERE)

    assert str(error.value).startswith("site.yaml")
    assert place in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


NAMES = st.sampled_from(["a-net", "a", "hostname", "networks", "network_mode"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["a.test", "service:a-net", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.integers() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(ANYTHING | st.fixed_dictionaries({"services": ANYTHING}))
def test_whatever_the_yaml_holds_it_is_a_lab_or_refused(document: Any) -> None:
    """Reading a file never fails in another way."""
    try:
        assert topology.parse(yaml.safe_dump(document), HERE).roles
    except BadTopology as error:
        assert str(error).startswith("site.yaml")  # noqa: PT017  # either outcome will do


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Such as a Compose file in another encoding."""
    file = tmp_path / "latin.yaml"
    file.write_bytes("# für uns\n".encode("latin-1") + GOOD.encode())

    with pytest.raises(BadTopology, match=r"latin\.yaml: not YAML"):
        topology.load(str(file))


@pytest.mark.parametrize("name", ["no-such", "base", "no-such.yaml", ""])
def test_an_unknown_topology_lists_the_known_ones(name: str) -> None:
    """The base counts as unknown: it is no lab."""
    with pytest.raises(UnknownName) as error:
        topology.load(name)

    assert repr(name) in str(error.value)
    for known in SHIPPED:
        assert known in str(error.value)
    assert isinstance(error.value, BadInput)


def test_an_unknown_host_lists_the_known_ones() -> None:
    """And says of which topology."""
    with pytest.raises(UnknownName, match=r"host in standalone named 'primary'.*mail, remote"):
        topology.load("standalone").role("primary")


def test_a_file_of_ones_own_is_loaded_by_its_path(tmp_path: Path) -> None:
    """A path ends in .yaml or .yml; the name is the file's."""
    file = tmp_path / "mine.yml"
    file.write_text(GOOD)

    site = topology.load(str(file))

    assert (site.name, site.path) == ("mine", file.resolve())
    assert list(site.roles) == ["mail"]


def test_the_base_extends_into_every_service() -> None:
    """No topology says again what the base says; what has an image of its own may differ."""
    base = set(yaml.safe_load((resources.compose() / "base.yaml").read_text())["services"])

    for name in SHIPPED:
        site = topology.load(name)
        services = yaml.safe_load(site.path.read_text())["services"].values()
        others = [service for service in services if "extends" not in service]
        assert {s["extends"]["service"] for s in services if "extends" in s} <= base
        for service in others:
            assert service["image"].startswith(
                tuple(f"${{{kind.upper()}_IMAGE:-" for kind in site.own_images)
            )
