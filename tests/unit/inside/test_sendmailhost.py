"""The programs inside a host with Sendmail, tested without such a host."""

from __future__ import annotations

from pathlib import Path

import pytest

import sendmailhost
import syslogline


@pytest.mark.parametrize(
    ("datagram", "line"),
    [
        (
            b"<22>Nov 25 15:31:41 sm-mta[9]: starting daemon (8.18.1): SMTP",
            b"Nov 25 15:31:41 mail sm-mta[9]: starting daemon (8.18.1): SMTP\n",
        ),
        (b"<22>Nov  5 05:31:41 x: y\0", b"Nov  5 05:31:41 mail x: y\n"),
        (b"<22>Nov 25 15:31:41 x: two\nlines", b"Nov 25 15:31:41 mail x: two lines\n"),
    ],
)
def test_a_syslog_datagram_becomes_one_line_with_a_host(datagram: bytes, line: bytes) -> None:
    assert syslogline.as_logged(datagram, "mail") == line


def test_a_datagram_without_a_stamp_gets_one() -> None:
    line = syslogline.as_logged(b"<22>maillab[1]: mark x", "mail")

    assert line.endswith(b" mail maillab[1]: mark x\n")
    assert len(line.split()) == 7


def test_queue_files_are_named_with_their_message_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, client = tmp_path / "mqueue", tmp_path / "mqueue-client"
    queue.mkdir()
    client.mkdir()
    (queue / "qf6APFbwVM000023").write_text("V8\nH??Message-ID: <s1@t>\n.\n")
    (queue / "df6APFbwVM000023").write_text("hi\n")
    (client / "qf6APFbwVM000024").write_text("V8\n.\n")
    monkeypatch.setattr(sendmailhost, "QUEUES", (queue, client, tmp_path / "none"))

    assert sendmailhost.queued() == [
        ["mqueue", "6APFbwVM000023", "<s1@t>"],
        ["mqueue-client", "6APFbwVM000024", ""],
    ]


@pytest.mark.parametrize(
    ("content", "daemon", "busy"),
    [
        ("9\n/usr/sbin/sendmail-mta -bd\n", 9, [31, 40]),
        ("8\n", 0, [9, 31, 40]),
        ("7\n", 0, [9, 31, 40]),
        ("not a number", 0, [9, 31, 40]),
        (None, 0, [9, 31, 40]),
    ],
    ids=["runs", "somebody-else", "gone", "garbage", "no-file"],
)
def test_the_processes_that_handle_mail(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    daemon: int,
    busy: list[int],
) -> None:
    """All of Sendmail except its daemon; a shell with the daemon's old number is not it."""
    running = {8: "sh", 9: "sendmail-mta", 31: "sendmail-mta", 40: "mail.local"}
    file = tmp_path / "pid"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(sendmailhost, "PID_FILE", file)
    monkeypatch.setattr("running.names", lambda: running)

    assert sendmailhost.daemon_pid() == daemon
    assert sendmailhost.working() == busy
