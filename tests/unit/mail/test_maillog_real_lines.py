"""Lines that real Postfixes of each version wrote are parsed, and damaged ones survived."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maillab.mail.maillog import Event, parse

DATA = Path(__file__).parents[2] / "support" / "data"
VERSIONS = ("3.5", "3.7", "3.10", "3.11")
REAL = [
    line
    for version in VERSIONS
    for line in (DATA / f"maillog-{version}.log").read_bytes().splitlines()
]


@pytest.mark.parametrize("version", VERSIONS)
def test_real_lines_of_each_version_become_the_recorded_events(version: str) -> None:
    lines = (DATA / f"maillog-{version}.log").read_bytes().splitlines()
    recorded = (DATA / f"maillog-{version}.events").read_text().splitlines()

    events = [parse(line, host="mx", seq=number) for number, line in enumerate(lines)]

    assert [f"{type(event).__name__} {event.queue_id}".rstrip() for event in events] == recorded


def test_no_important_real_line_falls_to_a_plain_event() -> None:
    """Words that only one class may carry, searched for without the parser's rules."""
    signs = {
        rb": to=<.*status=": "Delivery",
        rb"size=\d+, nrcpt=": "Active",
        rb": client=": "Accepted",
        rb"message-id=": "MessageId",
        rb" uid=\d": "PickedUp",
        rb" notification: \w": "Notified",
        rb"status=(force-)?expired, ": "Expired",
        rb": (milter-)?reject: ": "Rejected",
        rb": discard: ": "Discarded",
        rb": hold: ": "Held",
        rb"(qmgr|cleanup)\[\d+\]: \w+: removed": "Removed",
        rb"postsuper\[\d+\]: [0-9A-F]+: ": "Admin",
        rb"\]: (warning|error|fatal|panic): ": "Complaint",
        rb"master\[\d+\]: daemon started": "Started",
        rb"master\[\d+\]: reload": "Reloaded",
        rb"smtp\[\d+\]: (\w+: )?(host|connect to|lost connection with) ": "HopFailed",
    }
    unread = [
        (line, kind)
        for line in REAL
        for sign, kind in signs.items()
        if re.search(sign, line) and type(parse(line, host="mx", seq=0)).__name__ != kind
    ]

    assert unread == []


def test_bytes_that_are_not_utf8_come_out_as_escapes() -> None:
    event = parse(b"Nov 23 08:10:11 mx postfix/smtpd[1]: caf\xe9 \xc3\xa9\n", host="mx", seq=0)

    assert event.text == "caf\\xe9 \u00e9"


def test_a_line_in_no_syslog_form_is_kept_whole() -> None:
    assert parse("postfix/postlog: starting", host="mx", seq=0) == Event(
        "mx", 0, 0.0, "", "", 0, "", "postfix/postlog: starting"
    )


@settings(deadline=None)
@given(line=st.binary() | st.text())
def test_any_line_becomes_an_event(line: bytes | str) -> None:
    assert isinstance(parse(line, host="mx", seq=0), Event)


@settings(deadline=None)
@given(
    real=st.sampled_from(REAL),
    cut=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    noise=st.binary(max_size=8),
)
def test_a_damaged_real_line_still_becomes_an_event(
    real: bytes, cut: tuple[int, int], noise: bytes
) -> None:
    damaged = real[: min(cut)] + noise + real[max(cut) :]

    event = parse(damaged, host="mx", seq=3)

    assert (event.host, event.seq) == ("mx", 3)
    event.text.encode()
