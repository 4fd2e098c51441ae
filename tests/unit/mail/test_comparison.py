"""A stored message equals the sent message, or the first difference is named."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maillab.mail.comparison import Rewriting, difference
from maillab.mail.message import compose

HEAD = b"Subject: x\n"
# Text in a body that means nothing to a mail system on the way.
words = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), max_size=40)
bodies = st.lists(words.filter(lambda word: not word.startswith((">", "From "))), max_size=6).map(
    lambda lines: "\n".join([*lines, "end"]).encode()
)

SENT = b"""\
Received: from older.test by old.test; Mon, 1 Jan 2024 00:00:00 +0000
From: Joe Doe <joe@a.test>
To: alice@b.test, Bob <bob@c.test>
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from Joe
Date: Mon, 1 Jan 2024 00:00:00 +0000
Message-ID: <1@a.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="B"

for those without MIME
--B
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

gr\xc3\xbcn
From here on
--B
Content-Type: application/pdf; name="a.pdf"
Content-Disposition: attachment; filename="a.pdf"
Content-Transfer-Encoding: base64

JVBERg==
--B
Content-Type: message/rfc822

From: Eve <eve@d.test>
Subject: inner

the inner body
--B--
the end
"""


LAST_PART = """\
--B
Content-Type: message/rfc822

From: Eve <eve@d.test>
Subject: inner

the inner body
"""


def test_changes_that_any_mail_system_may_make_are_no_difference() -> None:
    """Trace headers, folding, line ends, From quoting, another transfer encoding."""
    trace = (
        b"Return-Path: <joe@a.test>\nX-Original-To: alice@b.test\nDelivered-To: alice@b.test\n"
        b"Received: by b.test\n\t(Postfix) id 1\n"
    )
    coded = SENT.replace(b"8bit\n\ngr\xc3\xbcn\nFrom", b"quoted-printable\n\ngr=C3=BCn\n>From")
    folded = coded.replace(
        b"joe@a.test>\nTo: alice@b.test, ", b"joe@a.test>\nTo: alice@b.test,\n\t"
    )
    for stored in (SENT, trace + folded, (trace + folded).replace(b"\n", b"\r\n"), SENT + b"\n"):
        assert difference(SENT, stored) == ""


@pytest.mark.parametrize(
    "name",
    [
        "ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal",
        "Authentication-Results", "DKIM-Signature", "Received-SPF",
    ],
)  # fmt: skip
def test_signatures_and_results_of_checks_are_trace_headers(name: str) -> None:
    """A host may add one above the old ones, and change or remove none."""
    signed = f"{name}: by old.test\n".encode() + SENT

    assert difference(SENT, signed) == ""
    assert difference(signed, f"{name}: by b.test\n".encode() + signed) == ""
    assert difference(signed, SENT) == f"header {name.title()} was removed: 'by old.test'"
    assert difference(signed, signed.replace(b"by old", b"by new")).startswith(
        f"header {name.title()} is"
    )


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("Subject: =?", "Subject: [list] =?", "header Subject is '[list] =?utf-8"),
        ("older.test", "other.test", "header Received is"),
        ("Received: from older.test by old.test; Mon, 1 Jan 2024 00:00:00 +0000\n", "",
         "header Received was removed"),
        ("Date: Mon, 1", "Date: Tue, 2", "header Date is"),
        ("<1@a.test>", "<2@a.test>", "header Message-ID is '<2@a.test>', was '<1@a.test>'"),
        ("From: Joe Doe", "From: Eve Doe", "header From is"),
        ("joe@a.test", "eve@a.test", "header From is"),
        ("joe@a.test", "joe@mail.a.test", "header From is"),
        (", Bob <bob@c.test>", "", "header To is 'alice@b.test'"),
        ("MIME-Version: 1.0\n", "", "header MIME-Version was removed"),
        ("MIME-Version", "X-Scanned: yes\nMIME-Version", "header X-Scanned was added: 'yes'"),
        ("multipart/mixed", "multipart/alternative", "header Content-Type is 'multipart/altern"),
        ("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from Joe\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n",
         "Date: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from Joe\n",
         "the headers stand in another order: Date comes before Subject"),
        ("text/plain", "text/html", "part 1: header Content-Type is 'text/html"),
        ("utf-8\n", "iso-8859-1\n", "part 1: header Content-Type is"),
        ("gr", "br", "part 1: the body differs in line 1"),
        ("From here on\n", "", "part 1: the body has 1 line, and had 2"),
        ('name="a.pdf"', 'name="b.pdf"', "part 2: header Content-Type is"),
        ('filename="a.pdf"', 'filename="b.pdf"', "part 2: header Content-Disposition is"),
        ("attachment;", "inline;", "part 2: header Content-Disposition is"),
        ("JVBERg==", "JVBERw==", "part 2: the body differs in line 1: '%PDG', was '%PDF'"),
        ("Eve", "Mallory", "part 3.1: header From is"),
        ("the inner body", "another", "part 3.1: the body differs"),
        (LAST_PART, "", "it has 2 parts, and had 3"),
        ("for those", "for all", "the text before the parts differs in line 1"),
        ("the end\n", "", "the text after the parts differs in line 1"),
        ("the end\n", "the end\nYour advertisement here\n", "the text after the parts has 2 lines"),
    ],
)  # fmt: skip
def test_any_other_change_is_named(old: str, new: str, what: str) -> None:
    stored = SENT.replace(old.encode(), new.encode(), 1)
    assert stored != SENT
    assert difference(SENT, stored).startswith(what)


@pytest.mark.parametrize(
    ("sent", "stored", "rewriting"),
    [
        ("From: joe", "From: joe@a.test", Rewriting(origins=frozenset({"a.test"}))),
        ("From: joe (Joe)", "From: eve@a.test (Joe)", Rewriting(mapped=True)),
        ("From: a!joe", "From: joe@a", Rewriting()),
        ("From: joe%a", "From: joe@a", Rewriting()),
        ("From: joe@a", "From: joe@a.test", Rewriting(origins=frozenset({"test"}))),
        ("To: joe@x.a.test", "To: joe@a.test", Rewriting(masquerades=frozenset({"a.test"}))),
        ("To: joe@A.TEST", "To: joe@a.test", Rewriting()),
        ("Subject: a", "Subject: b", Rewriting(headers=frozenset({"subject"}))),
        ("X-A: a\nX-B: b", "X-B: b\nX-A: a", Rewriting(reordered=True)),
        ("Bcc: joe@a.test\nX-A: a", "X-A: a", Rewriting()),
        ("X-A: a", "X-A: a\nFrom: joe@a.test\nDate: x\nMessage-ID: <1@a>", Rewriting()),
        ("X-A: a", "X-A: a\nTo: undisclosed-recipients:;", Rewriting()),
        ("Resent-To: a@b", "Resent-To: a@b\nResent-From: joe@a.test", Rewriting()),
        ("X-A: a", "X-A: a\nContent-Type: text/plain; charset=us-ascii", Rewriting()),
    ],
)
def test_headers_may_be_rewritten_as_the_configuration_says(
    sent: str, stored: str, rewriting: Rewriting
) -> None:
    assert difference(f"{sent}\n\nhi\n".encode(), f"{stored}\n\nhi\n".encode(), rewriting) == ""


@pytest.mark.parametrize(
    ("sent", "stored", "rewriting"),
    [
        ("From: joe", "From: joe@evil.test", Rewriting(origins=frozenset({"a.test"}))),
        ("From: joe (Joe)", "From: joe@a.test (Eve)", Rewriting(mapped=True)),
        ("To: joe@xa.test", "To: joe@a.test", Rewriting(masquerades=frozenset({"a.test"}))),
        ("To: x@x.a.test", "To: joe@a.test", Rewriting(masquerades=frozenset({"a.test"}))),
        ("X-To: joe", "X-To: joe@a.test", Rewriting(mapped=True)),
        ("To: Joe@a.test", "To: joe@a.test", Rewriting()),
        ("X-A: a", "X-A: a\nTo: joe@a.test", Rewriting()),
        ("X-A: a", "X-A: a\nResent-From: joe@a.test", Rewriting()),
        ("X-A: a", "X-A: a\nContent-Type: text/html", Rewriting()),
    ],
)
def test_headers_may_not_be_rewritten_otherwise(
    sent: str, stored: str, rewriting: Rewriting
) -> None:
    assert difference(f"{sent}\n\nhi\n".encode(), f"{stored}\n\nhi\n".encode(), rewriting)


def test_a_declared_header_may_change_in_the_parts_too() -> None:
    stored = SENT.replace(b"text/plain", b"text/html")
    declared = Rewriting(headers=frozenset({"content-type"}))
    assert difference(SENT, stored, declared) == ""


def test_rewriting_adds_up() -> None:
    both = Rewriting(mapped=True) | Rewriting(origins=frozenset({"a.test"}), reordered=True)
    assert both == Rewriting(mapped=True, origins=frozenset({"a.test"}), reordered=True)


@settings(deadline=None)
@given(bodies)
def test_line_ends_make_no_difference(body: bytes) -> None:
    """RFC 5321 section 2.3.8: on the wire lines end in CRLF."""
    unix = HEAD + b"\n" + body

    assert difference(unix, unix.replace(b"\n", b"\r\n")) == ""


@settings(deadline=None)
@given(bodies, st.integers(0, 3))
def test_newlines_at_the_end_make_no_difference(body: bytes, more: int) -> None:
    assert difference(HEAD + b"\n" + body + b"\n" * more, HEAD + b"\n" + body) == ""


@pytest.mark.parametrize("quoted", [b">From here", b">>From here"])
def test_from_quoting_of_an_mbox_makes_no_difference(quoted: bytes) -> None:
    plain = HEAD + b"\na\nFrom here\n"

    assert difference(plain, HEAD + b"\na\n" + quoted + b"\n") == ""


@settings(deadline=None)
@given(bodies, st.sampled_from(["base64", "quoted-printable"]))
def test_the_transfer_encoding_makes_no_difference(body: bytes, encoding: str) -> None:
    """RFC 6152: a relay may recode what the next hop cannot take."""
    coded = base64.encodebytes(body) if encoding == "base64" else quopri.encodestring(body)
    head = f"Content-Transfer-Encoding: {encoding}\n\n".encode()

    assert difference(b"\n" + body, head + coded) == ""


@settings(deadline=None)
@given(bodies)
def test_headers_added_on_the_way_make_no_difference(body: bytes) -> None:
    added = b"Return-Path: <joe@a.test>\nReceived: by b.test; x\n" + HEAD

    assert difference(HEAD + b"\n" + body, added + b"\n" + body) == ""


@settings(deadline=None)
@given(bodies, bodies)
def test_another_body_is_different(body: bytes, other: bytes) -> None:
    same = difference(HEAD + b"\n" + body, HEAD + b"\n" + other) == ""

    assert same == (body == other)


@settings(deadline=None)
@given(st.data())
def test_one_changed_character_makes_a_difference(data: st.DataObject) -> None:
    raw = compose(sender="joe@a.test", recipients=["x@b.test"], body="0123456789").raw
    at = data.draw(st.integers(0, len(raw) - 2).filter(lambda at: raw[at] not in b" \n"))

    assert difference(raw, raw[:at] + b"#" + raw[at + 1 :]) != ""


def test_a_part_that_moves_to_another_part_makes_a_difference() -> None:
    def multipart(*parts: str) -> bytes:
        text = "".join(f"--b\n\n{part}\n" for part in parts)
        return f"Content-Type: multipart/mixed; boundary=b\n\n{text}--b--\n".encode()

    assert difference(multipart("ab", "c"), multipart("a", "bc")) != ""


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
    b"From: =?x?\xff\nTo: <\n",
]


@settings(deadline=None)
@given(st.sampled_from(ODD_HEADS), st.binary(), st.sampled_from(ODD_HEADS), st.binary())
def test_any_bytes_can_be_compared(head: bytes, rest: bytes, other: bytes, more: bytes) -> None:
    assert difference(head + rest, head + rest) == ""
    assert isinstance(difference(head + rest, other + more), str)
