"""A host's filters and its domain's records, without a container."""

from __future__ import annotations

from typing import Any

import pytest

from maillab.engine.channel import Answer, Channel
from maillab.errors import BadInput
from maillab.hosts.host import Host
from maillab.hosts.nameserver import Nameserver
from maillab.hosts.withheld import WithheldChannel
from maillab.scenario.state import ScenarioState
from maillab.scenario.stream import Stream
from maillab.site.topology import Role


class Recording(Channel):
    """A channel that keeps each request, and does nothing."""

    def __init__(self, *programs: str) -> None:
        super().__init__("", "sender", programs)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._idle = WithheldChannel(self)

    def begin(self, op: str, **arguments: Any) -> Answer:
        """Return the operation's empty answer."""
        self.requests.append((op, arguments))
        return self._idle.begin(op, **arguments)


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host with filters and a name server."""
    role = Role("sender", "mail.example.com", (10,))
    host = Host(role, "198.18.0", Recording("baseline"), ScenarioState(Stream(), {}))
    host.filters = Recording("supervised", "filters")
    dns = Recording("records")
    monkeypatch.setattr(host, "find_nameserver", lambda: Nameserver(dns, host.address))
    return host


def requests(channel: Channel | None) -> list[tuple[str, dict[str, Any]]]:
    assert isinstance(channel, Recording)
    return channel.requests


def test_a_filter_is_restarted_with_its_new_configuration(sender: Host) -> None:
    sender.filter("opendkim").configure(Mode="sv")

    assert requests(sender.filters) == [
        ("filter_configure", {"name": "opendkim", "settings": {"Mode": "sv"}}),
        ("part_restart", {"name": "opendkim"}),
    ]


def test_a_withheld_filter_is_left_alone(sender: Host) -> None:
    """Withholding faults leaves out mistakes, and withholding cures leaves out cures."""
    sender.scenario.withhold = "faults"
    sender.mistake.filter("opendkim").stop()
    sender.mistake.publish("example.com", "TXT", "v=spf1 +all")
    sender.scenario.withhold = "cures"
    sender.cure.filter("opendkim").start()
    sender.cure.publish("example.com", "TXT", "v=spf1 -all")

    assert requests(sender.filters) == []
    assert requests(sender.nameserver.channel) == []


def test_a_filter_that_is_not_withheld_is_changed(sender: Host) -> None:
    """Withholding cures leaves mistakes in, and withholding faults leaves cures in."""
    sender.scenario.withhold = "cures"
    sender.mistake.filter("opendkim").stop()
    sender.mistake.publish("example.com", "TXT", "v=spf1 +all")
    sender.scenario.withhold = "faults"
    sender.cure.filter("opendkim").start()
    sender.cure.publish("example.com", "TXT", "v=spf1 -all")

    assert requests(sender.filters) == [
        ("part_stop", {"name": "opendkim"}),
        ("part_start", {"name": "opendkim"}),
    ]
    published = [arguments["rdata"] for _, arguments in requests(sender.nameserver.channel)]
    assert published == [['"v=spf1 +all"'], ['"v=spf1 -all"']]


def test_what_a_cure_does_to_filters_and_names_is_recorded(sender: Host) -> None:
    sender.cure.filter("postgrey").start()
    sender.cure.filter("opendkim").configure(Mode="s", Selector="new")
    sender.cure.publish("example.com", "TXT", "v=spf1 -all")

    assert [(step.place, step.text) for step in sender.scenario.advice] == [
        ("", "systemctl start postgrey"),
        ("opendkim", "Mode s\nSelector new"),
        ("DNS", 'example.com. TXT "v=spf1 -all"'),
    ]


def test_a_host_without_filters_names_a_topology_with_some(sender: Host) -> None:
    sender.filters = None

    with pytest.raises(BadInput, match=r"sender has no filters; see compose/authenticated.yaml"):
        sender.filter("opendkim")


@pytest.mark.parametrize(
    ("kind", "data", "rdata"),
    [
        ("TXT", ["v=spf1 -all"], ['"v=spf1 -all"']),
        ("TXT", ['a "quoted" \\ text'], ['"a \\034quoted\\034 \\092 text"']),
        ("TXT", ["x" * 300], [f'"{"x" * 255}" "{"x" * 45}"']),
        ("TXT", ["é"], ['"\\195\\169"']),
        ("TXT", [""], ['""']),
        ("TXT", [], []),
        ("MX", ["10 mail.example.com."], ["10 mail.example.com."]),
    ],
)
def test_a_text_of_any_length_is_published_as_strings(
    sender: Host, kind: str, data: list[str], rdata: list[str]
) -> None:
    """A string of a TXT record has at most 255 bytes (RFC 1035 section 3.3)."""
    sender.publish("example.com", kind, *data)

    assert requests(sender.nameserver.channel) == [
        ("publish", {"name": "example.com", "kind": kind, "rdata": rdata})
    ]
