"""HAProxy's log lines, as a machine wrote them, and the time that their parser takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costs import grows_like_its_length
from maillab.mail.haproxylog import HandedOver, ServerChecked
from maillab.mail.hostlog import parse
from maillab.mail.maillog import Connected, Event, NotStarted, Started

HEAD = "Nov 30 19:34:49 front haproxy[19]: "
AT = "[30/Nov/2026:19:34:49.593]"

LINES: list[tuple[str, type[Event], dict[str, Any]]] = [
    (
        f"198.19.80.90:53776 {AT} smtp smtp/mail 1/23/+23 +0 -- 1/1/1/1/0 0/0",
        HandedOver,
        {
            "client_address": "198.19.80.90",
            "client_port": 53776,
            "frontend": "smtp",
            "backend": "smtp",
            "server": "mail",
            "state": "--",
        },
    ),
    (
        f"2001:db8::90:53776 {AT} smtp smtp/<NOSRV> 1/-1/3031 0 SC 1/1/0/0/3 0/0",
        HandedOver,
        {"client_address": "2001:db8::90", "server": "<NOSRV>", "state": "SC"},
    ),
    (
        "Server smtp/mail is DOWN, reason: Layer4 timeout, check duration: 202ms.",
        ServerChecked,
        {"backend": "smtp", "server": "mail", "state": "DOWN"},
    ),
    (
        "does not start: config : parsing [/etc/haproxy/haproxy.cfg:4] : unknown keyword 'x'",
        NotStarted,
        {"words": "config : parsing [/etc/haproxy/haproxy.cfg:4] : unknown keyword 'x'"},
    ),
]


@pytest.mark.parametrize(("text", "kind", "fields"), LINES, ids=lambda value: str(value)[:40])
def test_a_line_becomes_an_event(text: str, kind: type[Event], fields: dict[str, Any]) -> None:
    event = parse(HEAD + text, host="front", seq=7, arrived=1.5)

    assert type(event) is kind
    assert {name: getattr(event, name) for name in fields} == fields
    assert (event.host, event.seq, event.arrived, event.pid) == ("front", 7, 1.5, 19)
    assert event.text == text


@pytest.mark.parametrize(
    "text",
    [
        "proxy smtp has no server available!",
        # No port, and no address.
        f"198.19.80.90 {AT} smtp smtp/mail 1/23/+23 +0 -- 1/1/1/1/0 0/0",
        f":53776 {AT} smtp smtp/mail 1/23/+23 +0 -- 1/1/1/1/0 0/0",
        f"198.19.80.90:53776 {AT} smtp smtp/mail",
    ],
)
def test_other_lines_stay_plain_events(text: str) -> None:
    assert type(parse(HEAD + text, host="front", seq=1)) is Event


def test_lines_of_other_programs_are_read_as_before() -> None:
    started = "maillab[1]: daemon started -- version 3.0.11, configuration /etc/haproxy/haproxy.cfg"
    connected = "postfix/smtpd[7]: connect from mx.example.org[198.18.0.2]"
    for rest, kind in ((started, Started), (connected, Connected)):
        assert type(parse(f"Nov 30 19:34:49 front {rest}", host="front", seq=1)) is kind


PARTS = [
    *("198.19.80.90", ":", "53776", " ", AT, "[", "] ", "smtp ", "smtp", "/", "mail ", "1/2/+3 "),
    *("+0 ", "-- ", "SC ", "Server ", "is ", "DOWN", "UP", "does not start: ", "a", "é", "1"),
]  # fmt: skip

texts = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
pieces = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join)


@given(texts, pieces, texts)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_a_line_of_haproxy_costs_its_length(before: str, piece: str, after: str) -> None:
    def read(line: str) -> None:
        parse(line, host="front", seq=1)

    assert grows_like_its_length(read, lambda n: f"{HEAD}{before}{piece * n}{after}")
