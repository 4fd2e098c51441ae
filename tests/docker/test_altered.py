"""Changes that Postfix makes to a message in transit, as the ledger reports them."""

from __future__ import annotations

import pytest

from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.mail.verdict import Verdict
from maillab.site import topology

HEADERS = {
    "MIME-Version": "1.0",
    "Content-Type": 'multipart/mixed; boundary="B"',
    "X-Mailer": "mailer",
}
BODY = """\
--B
Content-Type: text/plain; charset=utf-8

hello
--B
Content-Type: application/pdf; name="a.pdf"
Content-Transfer-Encoding: base64

JVBERg==
--B--
the end
"""


@pytest.fixture
def lab(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    return some_labs.get(topology.load("standalone"), request.config.option.postfix)


def deliver(lab: Lab, *, local: bool = False) -> Verdict:
    host = lab.mail if local else lab.remote
    mail = host.send(to="alice@example.com", body=BODY, headers=HEADERS)
    lab.settle(mail)
    assert mail.delivered_to(lab.mail, mailbox="alice")
    return lab.conclude()[1]


@pytest.mark.parametrize(
    ("checks", "rule", "reason"),
    [
        ("header_checks", "/^Subject:/ REPLACE Subject: cheap", "header Subject is 'cheap'"),
        ("header_checks", "/^Subject:/ IGNORE", "header Subject was removed: 'probe'"),
        ("header_checks", "/^Subject:/ PREPEND X-Spam: yes", "header X-Spam was added: 'yes'"),
        ("header_checks", "/^Message-ID:/ REPLACE Message-ID: <another@t>", "header Message-ID is"),
        ("header_checks", "/^From:/ REPLACE From: eve@example.com", "header From is"),
        ("mime_header_checks", "/^(.*)a.pdf/ REPLACE ${1}b.pdf", "part 2: header Content-Type is"),
        ("mime_header_checks", "/^(.*)utf-8/ REPLACE ${1}latin1", "part 1: header Content-Type is"),
        ("body_checks", "/the end/ REPLACE The End", "the text after the parts differs in line 1"),
    ],
)
def test_a_change_is_found_and_named(lab: Lab, checks: str, rule: str, reason: str) -> None:
    lab.mail.configure(**{checks: lab.mail.table(checks, rule + "\n", "regexp")})

    verdict = deliver(lab)

    assert (verdict.altered, verdict.delivered, verdict.lost, verdict.unexpected) == (1, 1, 0, 0)
    assert verdict.findings[0].reason.startswith(f"not what was sent: {reason}")


def test_a_declared_change_is_none(lab: Lab) -> None:
    rule = "/^Subject:/ REPLACE Subject: [list] probe\n"
    lab.mail.configure(header_checks=lab.mail.table("checks", rule, "regexp"))
    lab.rewrites("Subject", because="the list marks its mail")

    assert deliver(lab).conserved


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"masquerade_domains": "example.com"},
        {"myorigin": "elsewhere.example"},
        {"sender_canonical_maps": "inline:{ bob=Robert@example.org }"},
    ],
)
def test_rewriting_that_the_host_is_configured_for_is_none(
    lab: Lab, settings: dict[str, str]
) -> None:
    lab.mail.configure(**settings)
    verdict = deliver(lab, local=True)

    assert verdict.conserved, verdict.text()
