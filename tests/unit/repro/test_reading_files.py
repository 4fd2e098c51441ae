"""Files that people give as a report: other encodings, and files that are no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from maillab import cli
from maillab.cli import repro
from maillab.engine import images
from maillab.errors import BadInput
from maillab.repro.reading.decoding import decoded
from maillab.repro.report import read


@pytest.mark.parametrize(
    "raw",
    ["biff = größe\n".encode(code) for code in ("utf-8", "utf-8-sig", "utf-16", "cp1252")],
    ids=["UTF-8", "UTF-8 with mark", "UTF-16", "one byte"],
)
def test_a_text_is_read_in_its_encoding(raw: bytes) -> None:
    """Without a word from the user."""
    assert read(decoded(raw, "x")).settings == {"biff": "größe"}


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "the report is empty"),
        (b" \n\n", "the report is empty"),
        (b"\x1f\x8b\x08rest", "gzip data; unpack it"),
        (b"\x89PNG\r\n", "a picture; paste the text"),
        (b"biff = no\0", "byte 9 is 0x00"),
        (bytes(range(256)), "byte 0 is 0x00"),
        (b"Hello, my mail does not work.\n", "no line of 'postconf -n'"),
    ],
    ids=["empty", "blank", "gzip", "picture", "NUL", "binary", "prose"],
)
def test_a_file_without_a_report_is_refused_in_one_line(raw: bytes, complaint: str) -> None:
    """With what to do."""
    with pytest.raises(BadInput, match=complaint) as refused:
        read(decoded(raw, "x"))

    assert "\n" not in str(refused.value)


def test_a_report_without_a_recipient_says_what_it_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Half a main.cf, and not a word of log lines that there are not."""
    report = tmp_path / "report"
    report.write_text("myhostname = mx.c.example\nsmtpd_relay_restric")

    assert cli.main(["repro", str(report)]) == BadInput.exit_code
    assert capsys.readouterr().err == (
        "maillab: the report names no recipient: it has no log line that maillab knows (read: "
        "1 line of settings (name = value)); name one with --to\n"
    )


def test_explaining_needs_no_engine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line with its number, what it was read as, and its text."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")

    assert cli.main(["repro", "--explain", "tests/support/data/reports/loops-back.txt"]) == 0

    output = capsys.readouterr().out
    assert "3   setting  name = value  myhostname = mail.new.example" in output
    assert "info@old.example: bounced 5.4.6  mail for old.example loops back to myself" in output


def test_a_build_is_announced_with_its_reason_and_what_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is built; of a version that is there nothing is said."""
    there = {images.postfix(version).tag for version in ("3.10", "3.7")}
    monkeypatch.setattr(
        images, "packages_of", lambda image: "a day" if image.tag in there else None
    )
    found = read("Postfix 3.4.13\nbiff = no")

    for version in ("3.5", "3.10"):
        repro._announce_build(found, version, is_chosen=False)  # what repro prints

    assert capsys.readouterr().err == (
        "building the image of Postfix 3.5 (nearest to Postfix 3.4.13 (by the text)); "
        "--postfix 3.7 is there already\n"
    )
