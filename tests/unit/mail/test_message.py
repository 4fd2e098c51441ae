"""A probe is recognised in every mailbox and queue, and every change to it is noticed."""

from __future__ import annotations

import pytest

from maillab.mail.message import Probe, compose, dsn_fields, parse


def probe(**changes: object) -> Probe:
    return compose(**({"sender": "joe@a.test", "recipients": ["x@b.test", "y@b.test"]} | changes))  # type: ignore[arg-type]


def test_two_probes_never_have_one_message_id() -> None:
    first, second = probe(), probe()

    assert first.message_id != second.message_id
    assert first.marker != second.marker


def test_the_message_carries_what_the_probe_says() -> None:
    sent = probe(subject="hello", body="a line", headers={"X-Mark": "1"})

    message = parse(sent.raw)

    assert message["Message-ID"] == sent.message_id
    assert message["From"] == "joe@a.test"
    assert message["To"] == "x@b.test, y@b.test"
    assert (message["Subject"], message["X-Mark"]) == ("hello", "1")
    assert message.get_content() == "a line\n"
    assert sent.recipients == ("x@b.test", "y@b.test")


def test_a_null_sender_still_has_a_from_header() -> None:
    assert parse(probe(sender="").raw)["From"] == "MAILER-DAEMON"


def test_an_empty_header_is_left_out() -> None:
    sent = probe(headers={"Message-ID": ""})

    assert sent.message_id == ""
    assert "Message-ID" not in parse(sent.raw)


@pytest.mark.parametrize("size", [1_000, 20_000])
def test_padding_comes_close_to_the_size_asked_for(size: int) -> None:
    assert size - 100 < len(probe(size_bytes=size).raw) <= size


def test_the_fields_of_a_delivery_status_notification() -> None:
    raw = b"""\
Content-Type: multipart/report; report-type=delivery-status; boundary="B"

--B
Content-Type: text/plain

words
--B
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.test

Final-Recipient: rfc822; joe@b.test
Action: delayed
Diagnostic-Code: X-Postfix; connect to b.test[198.18.0.3]:25:
    Connection refused

Final-Recipient: rfc822; alice@b.test
Action: relayed
--B--
"""

    fields = dsn_fields(parse(raw))

    assert list(fields) == ["", "joe@b.test", "alice@b.test"]
    assert fields[""]["Reporting-MTA"] == "dns; mail.test"
    diagnosis = "X-Postfix; connect to b.test[198.18.0.3]:25: Connection refused"
    assert fields["joe@b.test"]["Diagnostic-Code"] == diagnosis
    assert fields["alice@b.test"]["Action"] == "relayed"
    assert dsn_fields(parse(b"Subject: x\n\nhello\n")) == {}
