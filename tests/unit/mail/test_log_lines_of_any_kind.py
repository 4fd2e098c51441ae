"""The time to parse a log line is proportional to its length, even if strangers wrote it."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from costs import grows_like_its_length
from maillab.mail import maillog, sendmaillog
from maillab.mail.maillog import Delivery, parse

HEAD = "Nov 23 08:10:11 mx postfix/"
# Texts that the patterns look for, and texts that may be between them.
PARTS = [
    *("client=", "connect from ", "disconnect from ", "uid=1 from=<", "message-id=", "from=<"),
    *("to=<", "orig_to=<", ">, ", "relay=", "delay=1, ", "delays=1/1, ", "tls=", "conn_use=1, "),
    *("dsn=2.0.0, ", "status=sent", "status=expired, ", " (", ")", "size=1, ", "nrcpt=1 ("),
    *("reject: ", "milter-", "RCPT", " from ", "local", "; from=<", "; proto=", " to=<", "550 "),
    *("5.1.1 ", "host ", "lost connection with ", " said: ", "queued as ", "hold: ", "warning: "),
    *("sender non-delivery notification: ", "removed", "forwarded as ", ", configuration "),
    *("daemon started -- version ", ", sasl_method=", ", sasl_username=", " orig_id=", "ABCDEF12"),
    *("[", "]", "<", ">", ":", ": ", ", ", "a[", "a[a]", "ehlo=1"),
    *(" ", "a", "1", ".", "-", "=", "(", "\t", "é", "\n"),
    *("1A: from=", ", msgid=<", ", delay=", ", mailer=prog, ", "stat=Sent", "1A: 2B: clone: "),
]  # fmt: skip

texts = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
pieces = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join)


def read(line: str) -> None:
    """Evaluate every property of a line's event."""
    event = parse(line, host="mx", seq=1)
    if isinstance(event, Delivery):
        assert event.next_queue_id is not None
        assert event.forwarded_as is not None
    if isinstance(event, maillog.Disconnected):
        assert event.counts is not None


@given(
    st.sampled_from(["smtpd[1]: ", "smtp[1]: ABCDEF12: ", "qmgr[1]: warning: ", ""]),
    texts,
    pieces,
    texts,
)
@example("smtpd[1]: ABCDEF12: ", "client=", "a[", "")
@example("smtpd[1]: ABCDEF12: ", "connect from ", "a[", "")
@example("smtp[1]: ABCDEF12: ", "to=<", ">, relay=a, delay=1, dsn=2.0.0, status=sent (", "")
@example("smtp[1]: ABCDEF12: ", "to=<a>, orig_to=<", ">, relay=", "")
@example("smtpd[1]: ", "reject: RCPT", " from local; from=<", "")
@example("smtpd[1]: ", "reject: RCPT", " from a[", "")
@example("smtpd[1]: ", "", "; from=<", "")
@settings(deadline=None, max_examples=200, derandomize=True)
def test_a_postfix_line_costs_its_length(head: str, before: str, piece: str, after: str) -> None:
    start = HEAD + head if head else ""

    assert grows_like_its_length(read, lambda n: f"{start}{before}{piece * n}{after}")


@given(texts, pieces, texts)
@example("1A: from=a, msgid=<", ", msgid=<", "")
@example("1A: to=a", ", delay=, mailer=prog, ", "")
@settings(deadline=None, max_examples=100, derandomize=True)
def test_a_sendmail_line_costs_its_length(before: str, piece: str, after: str) -> None:
    def look(text: str) -> None:
        line = f"Nov 23 08:10:11 mx sendmail[1]: {text}"
        sendmaillog.swallowed([parse(line, host="mx", seq=1)], "mx", "<a@b>")

    assert grows_like_its_length(look, lambda n: f"{before}{piece * n}{after}")
