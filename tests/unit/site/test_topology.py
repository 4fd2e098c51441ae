"""A Compose file parsed as a lab, and the rules for each shipped one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import zones
from maillab.errors import BadInput, BadTopology, UnknownName
from maillab.site import resources, topology
from maillab.site.topology import NET_DEFAULT, Role, Topology

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
    """Return the ``configs`` of a topology in a lab with the default addresses."""
    document = yaml.safe_load(site.path.read_text())
    return {
        name: re.sub(r"\$\{NET:-([^}]*)\}", r"\1", entry["content"]).replace("$$", "$")
        for name, entry in document["configs"].items()
    }


def config_of(site: Topology, service: str, target: str) -> str:
    """Return the config that a service mounts at a path."""
    document = yaml.safe_load(site.path.read_text())
    (source,) = [
        entry["source"]
        for entry in document["services"][service]["configs"]
        if entry["target"] == target
    ]
    return contents(site)[source]


def addresses_by_name(zone: str) -> dict[str, set[str]]:
    """Return every A record by its full name without the final dot."""
    found: dict[str, set[str]] = {}
    for origin, text in zones.sections(zone).items():
        for name, kind, data in zones.RECORD.findall(text):
            if kind == "A":
                found.setdefault(zones.full(name, origin).rstrip("."), set()).add(data)
    return found


def test_the_shipped_topologies_are_there() -> None:
    """The base that the others extend is not among them."""
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
    """In addition to those of every lab; Compose handles images built elsewhere."""
    site = topology.parse(
        f"""services:{AGENT}
  scanner: {{image: "${{SCANNER_IMAGE:?run 'make setup' first}}"}}
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


def test_a_host_may_have_further_addresses_in_a_network() -> None:
    """Its agent adds those in ADDRESSES; the network's own comes first."""
    zoo = topology.load("secure-transport").role("zoo")

    assert zoo.host_numbers == (30, 31, 32, 33, 34, 35)


def test_an_agent_alone_is_a_client_without_postfix() -> None:
    """It is a host of the lab, but no mail host."""
    site = topology.load("standalone")

    assert site.role("client") == Role("client", "client.example.net", (30,))
    assert "client" not in {role.name for role in site.mail_hosts}


@pytest.mark.parametrize("name", SHIPPED)
def test_each_file_has_a_header_with_a_map(name: str) -> None:
    """The header names every host, in the text and on the map, with its last number."""
    site = topology.load(name)

    assert re.search(r"(?m)^Models: \S", site.header), "what does it model?"
    drawing = "".join(re.findall(r"(?m)^  .*\n?", site.header))
    for role in site.roles.values():
        assert role.fqdn in drawing, f"{role.name} is not on the map"
        for number in role.host_numbers:
            assert re.search(rf"\.{number}\b", drawing), f"{role.name} .{number} is not on the map"


@pytest.mark.parametrize("name", SHIPPED)
def test_no_two_hosts_share_a_name_or_an_address(name: str) -> None:
    """No host has the engine's own address, the first of each network."""
    site = topology.load(name)

    numbers = [number for role in site.roles.values() for number in role.host_numbers]
    assert len(set(numbers)) == len(numbers)
    assert len({role.fqdn for role in site.roles.values()}) == len(site.roles)
    assert all(1 < number < 255 for number in numbers)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_host_has_its_forward_name_in_the_zone(name: str) -> None:
    """A host's full name resolves to its own addresses only."""
    site = topology.load(name)
    known = addresses_by_name(config_of(site, "dns", "/etc/nsd/lab.zone"))

    for role in site.roles.values():
        own = set(role.addresses(NET_DEFAULT))
        assert known.get(role.fqdn), f"{role.fqdn} has no A record"
        assert known[role.fqdn] <= own, f"{role.fqdn} leads to {known[role.fqdn]}"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_hosts_configuration_has_a_reason(name: str) -> None:
    """A comment precedes the first line of each host's main.cf, and every line is valid."""
    site = topology.load(name)

    for role in site.postfix_hosts:
        lines = config_of(site, role.name, "/etc/postfix/host.cf").splitlines()
        assert lines[0].startswith("# "), f"{role.name}: {lines[0]!r} stands without a reason"
        for line in lines:
            assert re.match(r"# \S|[a-z][\w-]* =|$", line), f"{role.name}: {line!r}"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_network_is_closed_to_the_outside(name: str) -> None:
    """Internal, without an address of the engine, and within the lab's /24."""
    document = yaml.safe_load(topology.load(name).path.read_text())

    for network in document["networks"].values():
        assert network["internal"] is True
        assert network["driver_opts"]["com.docker.network.bridge.inhibit_ipv4"] == "true"
        for entry in network["ipam"]["config"]:
            assert entry["subnet"].startswith("${NET:-198.18.0}.")


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_of_this_machine_is_in_a_lab(name: str) -> None:
    """So the engine may be remote: no file or port of this machine, and only named volumes."""
    site = yaml.safe_load(topology.load(name).path.read_text())

    for service in site["services"].values():
        assert not {"ports", "devices", "env_file", "build"} & set(service)
        for mounted in service.get("volumes", []):
            assert mounted.partition(":")[0] in site["volumes"]
    assert all(set(config) == {"content"} for config in site["configs"].values())


def test_a_mail_host_may_run_sendmail_instead() -> None:
    """Its image says so; it is a mail host, but not a Postfix host."""
    site = topology.load("sendmail")
    sendmail, postfix = site.role("sendmail"), site.role("postfix")

    assert (sendmail.server, sendmail.has_mail) == ("sendmail", True)
    assert (postfix.server, postfix.has_mail) == ("postfix", True)
    assert "sendmail" in {role.name for role in site.mail_hosts}
    assert "sendmail" not in {role.name for role in site.postfix_hosts}
    assert site.own_images == ("sendmail",)


def test_a_host_with_dovecot_is_a_pair_but_no_mail_host() -> None:
    """It has no queue; its image says so."""
    site = topology.load("submission")
    mailbox, mail = site.role("mailbox"), site.role("mail")

    assert (mailbox.server, mailbox.has_mail) == ("dovecot", False)
    assert (mail.server, mail.has_mail) == ("postfix", True)
    assert (mailbox.service, site.role("client").service) == ("mailbox", "client-net")
    assert "mailbox" not in {role.name for role in site.mail_hosts}
    assert site.own_images == ("dovecot",)


def test_a_front_is_a_pair_that_names_what_it_publishes() -> None:
    """It has no mail; its image and its environment say so."""
    site = topology.load("published")
    front = site.role("front")

    assert (front.server, front.has_mail) == ("front", False)
    assert (front.publishes, front.inner_number) == ("mail", 129)
    assert site.role("mail").server == "postfix"
    assert site.own_images == ("front",)


@pytest.mark.parametrize(
    "environment",
    ["{INNER: '${NET:-198.18.0}.3'}", "{PUBLISHES: x, INNER: '${NET:-198.18.0}.3'}",
     "{PUBLISHES: mail}", "{PUBLISHES: mail, INNER: 198.18.0.3}", "text"],
)  # fmt: skip
def test_a_front_without_what_it_publishes_is_refused(environment: str) -> None:
    """The error names the service, and what is missing."""
    server = "\n  mail:\n    image: ${FRONT_IMAGE:?x}\n    network_mode: service:mail-net\n"
    text = f"services:{AGENT}{server}    environment: {environment}\n"

    with pytest.raises(BadTopology, match="service mail: needs 'environment:' with PUBLISHES"):
        topology.parse(text, HERE)


def test_a_host_with_tables_is_a_pair_but_no_mail_host() -> None:
    """A mail host whose image has more dictionaries is a Postfix host all the same."""
    site = topology.load("hosting")
    tables, mail = site.role("tables"), site.role("mail")

    assert (tables.server, tables.has_mail) == ("tables", False)
    assert mail.server == "postfix"
    assert site.own_images == ("dovecot", "postfix-tables", "tables")


def test_the_header_is_the_first_comment_without_its_hashes() -> None:
    """Text after an empty line is not part of it."""
    assert topology.parse(GOOD, HERE).header == (
        "Models: one host.\n\n  mail.example.com .10\nwith  two blanks"
    )


def test_a_file_needs_no_header() -> None:
    """A user's own topology may have none."""
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
        ("services: {mail-net: }\n", "service mail-net", "must be a mapping of settings"),
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
        ("[" * 20_000, "site.yaml", "nested too deeply"),
        ("{a: " * 20_000, "site.yaml", "nested too deeply"),
        ("a: 2021-99-99", "site.yaml", "a value is invalid (month must be in 1..12)"),
        ("a: !!bool maybe", "site.yaml", "a value is invalid"),
        ("a: !!int ''", "site.yaml", "a value is invalid"),
        ("a: !!timestamp soon", "site.yaml", "a value is invalid"),
        (f"a: {'9' * 5000}", "site.yaml", "a value is invalid"),
        (
            f"services: {{a: [{'x, ' * 500}]}}",
            "service a",
            "not ['x', 'x', 'x', 'x', 'x', 'x', ...]",
        ),
        (f"services:{AGENT.replace('}.10', '}.255')}", "service mail-net", "at most 254"),
        (f"services:{AGENT.replace('}.10', '}.' + '9' * 5000)}", "service mail-net", "at most 254"),
    ],
)
def test_an_invalid_file_is_refused_with_the_place_of_the_error(
    text: str, place: str, words: str
) -> None:
    """The error names the file, the place in it and the allowed values."""
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
def test_any_document_is_a_lab_or_refused(document: Any) -> None:
    """Parsing a file never fails in another way."""
    try:
        assert topology.parse(yaml.safe_dump(document), HERE).roles
    except BadTopology as error:
        assert str(error).startswith("site.yaml")  # noqa: PT017  # either outcome is valid


@settings(deadline=None)
@given(st.text() | st.text("[]{}:-!&*<>|\"' \n\ta0", max_size=40))
def test_any_text_is_refused(text: str) -> None:
    """Parsing the file never fails in another way."""
    with pytest.raises(BadTopology, match=r"site\.yaml"):
        topology.parse(text, HERE)


def test_aliases_of_aliases_cost_nothing() -> None:
    """A few lines may stand for a document larger than any memory."""
    many = "".join(f"x{n}: &x{n} [{f'*x{n - 1},' * 9}]\n" for n in range(1, 40))

    with pytest.raises(BadTopology, match="ipv4_address"):
        topology.parse(
            f"x0: &x0 a\n{many}services: {{a-net: {{hostname: a.test, networks: *x39}}}}", HERE
        )


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """The error comes before YAML parsing, which would take long."""
    file = tmp_path / "large.yaml"
    file.write_text("#" * 2_000_000)

    with pytest.raises(
        BadTopology, match=r"large\.yaml: must have at most 1000000 bytes, not 2000000"
    ):
        topology.load(str(file))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """For example a Compose file in another encoding."""
    file = tmp_path / "latin.yaml"
    file.write_bytes("# für uns\n".encode("latin-1") + GOOD.encode())

    with pytest.raises(BadTopology, match=r"latin\.yaml: not YAML"):
        topology.load(str(file))


@pytest.mark.parametrize("name", ["no-such", "base", "no-such.yaml", "", "x" * 300, "x\0"])
def test_an_unknown_topology_lists_the_known_ones(name: str) -> None:
    """The base counts as unknown: it is no lab."""
    with pytest.raises(UnknownName) as error:
        topology.load(name)

    assert repr(name) in str(error.value)
    for known in SHIPPED:
        assert known in str(error.value)
    assert isinstance(error.value, BadInput)


def test_an_unknown_host_lists_the_known_ones() -> None:
    """The error also names the topology."""
    with pytest.raises(
        UnknownName, match=r"unknown host 'primary' of standalone \(choose from mail, remote"
    ):
        topology.load("standalone").role("primary")


def test_a_users_own_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    """A path ends in .yaml or .yml; the name is the file's."""
    file = tmp_path / "mine.yml"
    file.write_text(GOOD)

    site = topology.load(str(file))

    assert (site.name, site.path) == ("mine", file.resolve())
    assert list(site.roles) == ["mail"]


def test_the_base_extends_into_every_service() -> None:
    """No topology repeats the base; only a service with its own image may differ."""
    base = set(yaml.safe_load((resources.compose() / "base.yaml").read_text())["services"])

    for name in SHIPPED:
        site = topology.load(name)
        services = yaml.safe_load(site.path.read_text())["services"].values()
        others = [service for service in services if "extends" not in service]
        assert {s["extends"]["service"] for s in services if "extends" in s} <= base
        for service in others:
            assert service["image"].startswith(
                tuple(f"${{{kind.upper()}_IMAGE:?" for kind in site.own_images)
            )


@pytest.mark.parametrize("name", ["base", *SHIPPED])
def test_no_image_has_a_name_that_checkouts_share(name: str) -> None:
    """Each is this checkout's, from compose/.env; without that, Compose says what to run."""
    text = (resources.compose() / f"{name}.yaml").read_text()
    services = yaml.safe_load(text)["services"].values()

    for image in (service["image"] for service in services if "image" in service):
        assert re.fullmatch(r"\$\{[A-Z_]+_IMAGE:\?run 'make setup' first\}", image)


@pytest.mark.parametrize(
    ("name", "others"), [("standalone", {"dns"}), ("scanner", {"dns", "clamd"})]
)
def test_containers_that_belong_to_no_host_are_known(name: str, others: set[str]) -> None:
    """They are restored with the hosts."""
    assert set(topology.load(name).others) == others


def test_filters_belong_to_the_host_whose_network_they_join() -> None:
    """A filter elsewhere belongs to no host."""
    site = topology.parse(
        f"""services:{AGENT}
  beside: {{image: "${{FILTERS_IMAGE:?run}}", network_mode: "service:mail-net"}}
  apart: {{image: "${{FILTERS_IMAGE:?run}}"}}
""",
        HERE,
    )

    assert site.filters == {"mail": "beside"}
    assert topology.load("authenticated").filters == {
        name: f"{name}-filters" for name in ("sender", "forwarder", "receiver")
    }
    assert topology.load("standalone").filters == {}


@pytest.mark.parametrize(
    ("name", "numbers"), [("standalone", (2,)), ("scanner", (2,)), ("firewall", (2, 132))]
)
def test_name_servers_are_known_by_their_addresses(name: str, numbers: tuple[int, ...]) -> None:
    """One server may have an address in each network."""
    assert topology.load(name).name_servers == {"dns": numbers}


def test_a_service_of_another_image_is_not_restored() -> None:
    """It has none of our programs."""
    site = topology.parse(f"{GOOD}  cache:\n    image: redis\n", HERE)

    assert site.others == ()
