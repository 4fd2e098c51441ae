"""A probe is recognised wherever it turns up, and every change to it is noticed."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maillab.message import Probe, body_digest, compose, parse, told_of

HEAD = b"Subject: x\n"
# What may stand in a body without meaning anything to a mail system on the way.
words = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), max_size=40)
bodies = st.lists(words.filter(lambda word: not word.startswith((">", "From "))), max_size=6).map(
    lambda lines: "\n".join([*lines, "end"]).encode()
)


def probe(**changes: object) -> Probe:
    return compose(**({"sender": "joe@a.test", "recipients": ["x@b.test", "y@b.test"]} | changes))  # type: ignore[arg-type]


def test_two_probes_never_have_one_message_id() -> None:
    first, second = probe(), probe()

    assert first.message_id != second.message_id
    assert first.digest != second.digest


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


@settings(deadline=None)
@given(bodies)
def test_line_ends_do_not_change_the_digest(body: bytes) -> None:
    """RFC 5321 section 2.3.8: on the wire lines end in CRLF."""
    unix = HEAD + b"\n" + body

    assert body_digest(unix.replace(b"\n", b"\r\n")) == body_digest(unix)


@settings(deadline=None)
@given(bodies, st.integers(0, 3))
def test_newlines_at_the_end_do_not_change_the_digest(body: bytes, more: int) -> None:
    assert body_digest(HEAD + b"\n" + body + b"\n" * more) == body_digest(HEAD + b"\n" + body)


@pytest.mark.parametrize("quoted", [b">From here", b">>From here"])
def test_from_quoting_of_an_mbox_does_not_change_the_digest(quoted: bytes) -> None:
    plain = HEAD + b"\na\nFrom here\n"

    assert body_digest(HEAD + b"\na\n" + quoted + b"\n") == body_digest(plain)


@settings(deadline=None)
@given(bodies, st.sampled_from(["base64", "quoted-printable"]))
def test_the_transfer_encoding_does_not_change_the_digest(body: bytes, encoding: str) -> None:
    """RFC 6152: a relay may recode what the next hop cannot take."""
    coded = base64.encodebytes(body) if encoding == "base64" else quopri.encodestring(body)
    head = f"Content-Transfer-Encoding: {encoding}\n\n".encode()

    assert body_digest(head + coded) == body_digest(b"\n" + body)


@settings(deadline=None)
@given(bodies)
def test_headers_added_on_the_way_do_not_change_the_digest(body: bytes) -> None:
    added = b"Return-Path: <joe@a.test>\nReceived: by b.test; x\n" + HEAD

    assert body_digest(added + b"\n" + body) == body_digest(HEAD + b"\n" + body)


@settings(deadline=None)
@given(bodies, bodies)
def test_another_body_has_another_digest(one: bytes, other: bytes) -> None:
    same = body_digest(HEAD + b"\n" + one) == body_digest(HEAD + b"\n" + other)

    assert same == (one == other)


@settings(deadline=None)
@given(st.data())
def test_one_changed_character_changes_the_digest(data: st.DataObject) -> None:
    raw = probe(body="0123456789").raw
    at = data.draw(st.integers(raw.index(b"\n\n") + 2, len(raw) - 2))

    assert body_digest(raw[:at] + b"#" + raw[at + 1 :]) != body_digest(raw)


def test_a_part_that_moves_to_another_part_changes_the_digest() -> None:
    def multipart(*parts: str) -> bytes:
        text = "".join(f"--b\n\n{part}\n" for part in parts)
        return f"Content-Type: multipart/mixed; boundary=b\n\n{text}--b--\n".encode()

    assert body_digest(multipart("ab", "c")) != body_digest(multipart("a", "bc"))


ODD_HEADS = [
    b"",
    b"Content-Transfer-Encoding: base64\n\n",
    b"Content-Transfer-Encoding: quoted-printable\n\n",
    b"Content-Transfer-Encoding: x-uuencode\n\nbegin 644 x\n",
    b"Content-Transfer-Encoding: \xff\n\n",
    b"Content-Type: text/plain; charset=nonsense\n\n\xff",
    b"Content-Type: message/rfc822\n\n",
    b"Content-Type: multipart/mixed\n\n--\n",
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n",
]


@settings(deadline=None)
@given(st.sampled_from(ODD_HEADS), st.binary())
def test_any_bytes_have_a_digest(head: bytes, rest: bytes) -> None:
    assert len(body_digest(head + rest)) == 64


def test_what_a_delivery_status_notification_says_of_each_recipient() -> None:
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

    told = told_of(parse(raw))

    assert list(told) == ["", "joe@b.test", "alice@b.test"]
    assert told[""]["Reporting-MTA"] == "dns; mail.test"
    diagnosis = "X-Postfix; connect to b.test[198.18.0.3]:25: Connection refused"
    assert told["joe@b.test"]["Diagnostic-Code"] == diagnosis
    assert told["alice@b.test"]["Action"] == "relayed"
    assert told_of(parse(b"Subject: x\n\nhello\n")) == {}
