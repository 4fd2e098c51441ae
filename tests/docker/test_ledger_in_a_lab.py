"""Mail that real Postfix logs as delivered and that is in no mailbox. Needs an engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from maillab.hosts.postfix import PostfixHost
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.mail.verdict import Verdict
from maillab.site import topology

TO = ["alice@example.com", "bob@example.com", "dave@example.com"]
SWALLOW = """\
import sys
said = lambda text: print(text, end="\\r\\n", flush=True)
said("220 filter")
for line in sys.stdin:
    verb = line[:4].upper()
    if verb == "DATA":
        said("354 go on")
        while next(sys.stdin).strip() != ".":
            pass
    said("221 bye" if verb == "QUIT" else "250 ok")
"""


@pytest.fixture
def site(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    return some_labs.get(topology.load("standalone"), request.config.option.postfix)


def filter_that_swallows(host: PostfixHost) -> None:
    host.write("/usr/local/bin/swallow", SWALLOW)
    argv = "/usr/bin/python3 /usr/local/bin/swallow"
    host.service(f"127.0.0.1:10025 inet n n n - 10 spawn user=nobody argv={argv}")
    host.configure(content_filter="smtp:[127.0.0.1]:10025")


def command_that_swallows(host: PostfixHost) -> None:
    host.configure(mailbox_command="/bin/true")


def pipe_that_swallows(host: PostfixHost) -> None:
    host.service("drop unix - n n - - pipe flags=R user=nobody argv=/bin/true")
    host.configure(mailbox_transport="drop")


def hidden_discard(host: PostfixHost) -> None:
    """Configure past the host's methods, as a backdoor in an image would."""
    host.channel.call("write", path="/etc/postfix/checks", content="/^Subject: probe/ DISCARD\n",
                      mode=None, owner="")  # fmt: skip
    host.channel.call("configure", settings={"header_checks": "regexp:/etc/postfix/checks"})


def asked_discard(host: PostfixHost) -> None:
    checks = host.table("checks", "/^Subject: probe/ DISCARD\n", kind="regexp")
    host.configure(header_checks=checks)


def hidden_copy(host: PostfixHost) -> None:
    host.channel.call("configure", settings={"always_bcc": "carol"})


def asked_copy(host: PostfixHost) -> None:
    host.configure(always_bcc="carol")


def hidden_alias(host: PostfixHost) -> None:
    path = "/home/alice/.forward"
    host.channel.call("write", path=path, content="\\alice, carol\n", mode=None, owner="alice")


def verdict(site: Lab, arrange: Callable[[PostfixHost], None]) -> Verdict:
    """Send to three recipients at once, and return the verdict."""
    arrange(site.mail)
    site.settle(site.client.smtp(TO, server=site.mail))
    return site.conclude()[1]


@pytest.mark.parametrize(
    "arrange", [filter_that_swallows, command_that_swallows, pipe_that_swallows, hidden_discard]
)
def test_vanished_mail_without_a_declaration_is_lost(
    site: Lab, arrange: Callable[[PostfixHost], None]
) -> None:
    found = verdict(site, arrange)

    assert not found.conserved
    assert (found.acknowledged, found.lost, found.delivered) == (3, 3, 0)
    assert {finding.recipient.partition("@")[0] for finding in found.findings} == {
        "alice",
        "bob",
        "dave",
    }


@pytest.mark.parametrize("arrange", [hidden_copy, hidden_alias])
def test_a_third_user_is_unexpected(site: Lab, arrange: Callable[[PostfixHost], None]) -> None:
    found = verdict(site, arrange)

    assert not found.conserved
    assert [finding.kind for finding in found.findings] == ["unexpected"]
    assert found.findings[0].recipient.startswith("carol@")


@pytest.mark.parametrize(
    ("arrange", "end"), [(asked_discard, "discarded"), (asked_copy, "delivered")]
)
def test_discards_that_the_scenario_asked_for_are_conserved(
    site: Lab, arrange: Callable[[PostfixHost], None], end: str
) -> None:
    found = verdict(site, arrange)

    assert found.conserved, found.text()
    assert getattr(found, end) >= len(TO)


@pytest.mark.parametrize(
    "arrange", [filter_that_swallows, command_that_swallows, pipe_that_swallows]
)
def test_declared_losses_are_conserved(site: Lab, arrange: Callable[[PostfixHost], None]) -> None:
    site.expects(consumed=3, because="the program consumes the mail")

    found = verdict(site, arrange)

    assert found.conserved, found.text()
    assert (found.lost, found.delivered) == (0, 3)
