"""Filters' log lines, as machines wrote them, and the time that their parser takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costs import grows_like_its_length
from maillab.mail.filterlog import Checked, Greylisted, Signed
from maillab.mail.hostlog import parse
from maillab.mail.maillog import Complaint, Event, Rejected

HEAD = "Nov 30 19:45:53 mx "
CLIENT = "client_name=client.other.example, client_address=198.18.255.40"
ENVELOPE = "sender=bob@other.example, recipient=alice@example.com"
AUTHCHECK = (
    "spf=pass smtp.mailfrom=example.com; dkim=none; "
    "dmarc=pass (p=none) header.from=example.com; action=accept"
)
RSPAMD = (
    "id: <b4cf@maillab.test>, qid: <D1E3A100>, ip: 198.18.6.10, from: <bob@example.com>, "
    "(default: F (no action): [-0.90/15.00] [DMARC_POLICY_ALLOW(-0.50){example.com;none;}])"
)

LINES: list[tuple[str, type[Event], dict[str, Any]]] = [
    (
        "opendkim[30]: 568124E: DKIM-Signature field added (s=mail, d=example.com)",
        Signed,
        {"queue_id": "568124E", "domain": "example.com", "selector": "mail"},
    ),
    ("opendkim[30]: 568124E: DKIM verification successful", Checked, {"results": {"dkim": "pass"}}),
    (
        f"authcheck[6]: 6264033: {AUTHCHECK}",
        Checked,
        {"result": "pass", "results": {"spf": "pass", "dkim": "none", "dmarc": "pass"}},
    ),
    (
        f"rspamd[45]: <b4ab58>; proxy; rspamd_task_write_log: {RSPAMD}",
        Checked,
        {"queue_id": "D1E3A100", "results": {"dmarc": "pass"}},
    ),
    (
        f"postgrey: action=greylist, reason=new, {CLIENT}, {ENVELOPE}",
        Greylisted,
        {
            "verdict": "greylist",
            "reason": "new",
            "client_address": "198.18.255.40",
            "sender": "bob@other.example",
            "recipient": "alice@example.com",
        },
    ),
    (
        f"postgrey: action=pass, reason=triplet found, delay=360, {CLIENT}, {ENVELOPE}",
        Greylisted,
        {"verdict": "pass", "reason": "triplet found"},
    ),
    ("opendkim[30]: OpenDKIM Filter v2.11.0 starting (args: -f)", Event, {}),
    ("postgrey: Binding to TCP port 10023 on host 127.0.0.1 with IPv4", Event, {}),
    # Other programs' lines stay what they are.
    (
        "postfix/smtpd[1]: NOQUEUE: reject: RCPT from a[198.18.0.1]: 450 <b@c>: No; from=<a>",
        Rejected,
        {"code": 450},
    ),
    ("opendkim[30]: warning: key data is not secure", Complaint, {}),
]


@pytest.mark.parametrize(("line", "kind", "fields"), LINES)
def test_a_line_becomes_an_event(line: str, kind: type[Event], fields: dict[str, Any]) -> None:
    event = parse(HEAD + line, host="mx", seq=7)

    assert type(event) is kind
    assert (event.host, event.seq) == ("mx", 7)
    assert {name: getattr(event, name) for name in fields} == fields


@settings(deadline=None, max_examples=50)
@given(
    program=st.sampled_from(
        ["opendkim", "opendmarc", "policyd-spf", "postgrey", "postsrsd", "rspamd"]
    ),
    text=st.text(max_size=200),
)
def test_any_line_becomes_an_event(program: str, text: str) -> None:
    assert parse(f"{HEAD}{program}: {text}", host="mx", seq=0).host == "mx"


@pytest.mark.parametrize(
    ("head", "again"),
    [
        ("opendkim: DKIM-Signature field added (s=", "a, d=("),
        ("authcheck: ", "dmarc=pass "),
        ("policyd-spf: prepend Received-SPF: ", ";id=envelope-from="),
        ("postgrey: action=pass, reason=", "client_name=,"),
        ("postsrsd: srs_forward: <", "<a> rewritten as <"),
        ("rspamd: <x>; proxy; ", "rspamd_task_write_log: id: <"),
    ],
)
def test_long_lines_take_no_longer_than_their_length(head: str, again: str) -> None:
    def read(text: str) -> Event:
        return parse(text, host="mx", seq=0)

    assert grows_like_its_length(read, lambda n: f"{HEAD}{head}{again * n}")
