"""Each form in which people paste log lines, settings and tables, read in full."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from maillab.errors import BadInput
from maillab.repro.report import read
from reports import LOGGED, ROOT

PASTES = tomllib.loads((ROOT / "tests/support/data/pastes.toml").read_text())["paste"]


@pytest.mark.parametrize("paste", PASTES, ids=[paste["form"] for paste in PASTES])
def test_a_form_is_read_in_full(paste: dict[str, Any]) -> None:
    """Nothing less, and nothing that the text does not say."""
    found = read(paste["text"])

    fates = [[fate.recipient, fate.status, fate.dsn] for fate in found.fates]
    assert fates == paste.get("fates", [])
    assert found.settings == paste.get("settings", found.settings if "tables" in paste else {})
    assert list(found.rows) == paste.get("rows", [])
    assert found.tables == paste.get("tables", {})
    for name in ("host", "client", "sender"):
        assert getattr(found, name) == paste.get(name, getattr(found, name))
    assert found.lines == paste.get("log_lines", found.lines)
    assert found.reading.cut == paste.get("cut", 0)
    for name in {"reply", "relay"} & paste.keys():
        assert [getattr(fate, name) for fate in found.fates] == [paste[name]]
    for text in paste.get("not_read", []):
        assert any(text in line for line in found.reading.not_read)
    assert bool(found.reading.not_read) == ("not_read" in paste)


MESSAGE = (
    "Nov  8 05:26:31 mx postfix/smtp[1]: {id}: to=<{to}>, relay=none, delay=1, delays=0/0/1/0, "
    "dsn={dsn}, status={status} ({why})\n"
)


def test_several_problems_are_listed_and_one_can_be_chosen() -> None:
    """A failure counts before what was sent; what befell several messages is one problem."""
    text = "".join((
        MESSAGE.format(id="AAAAAA1", to="a@b.example", dsn="2.0.0", status="sent", why="ok"),
        MESSAGE.format(id="AAAAAA2", to="b@b.example", dsn="4.4.1", status="deferred", why="out"),
        MESSAGE.format(id="AAAAAA3", to="c@b.example", dsn="4.4.1", status="deferred", why="out"),
    ))  # fmt: skip

    found, chosen = read(text), read(text, queue_id="AAAAAA3")

    assert [fate.recipient for fate in found.fates] == ["b@b.example"]
    assert found.reading.chosen == "AAAAAA2 (2 times): b@b.example deferred 4.4.1: out"
    assert found.reading.others == ("AAAAAA1: a@b.example sent 2.0.0: ok",)
    assert [fate.recipient for fate in chosen.fates] == ["c@b.example"]
    with pytest.raises(BadInput, match=r"no message 'X' \(choose from AAAAAA1, AAAAAA2, AAAAAA3"):
        read(text, queue_id="X")


WHOLE = "".join(f"{name} = x\n" for name in (
    "alias_maps", "biff", "inet_interfaces", "mydestination", "myhostname", "mynetworks",
    "recipient_delimiter", "smtpd_banner",
))  # fmt: skip


BACKWARDS = (
    "Nov  8 05:26:31 mx postfix/smtpd[1]: using backwards-compatible default setting chroot=y\n"
)


@pytest.mark.parametrize(
    ("text", "is_zero"),
    [
        (WHOLE, True),
        (WHOLE + "compatibility_level = 2\n", False),
        ("postconf -n | grep _\n\n" + WHOLE, False),
        ("biff = no\n", False),
        ("Postfix 2.11\nbiff = no\n", True),
        (f"biff = no\n{BACKWARDS}", True),
    ],
    ids=["whole", "set", "filtered", "fragment", "old", "logged"],
)
def test_no_compatibility_level_is_level_zero_unless_in_a_fragment(
    text: str,
    is_zero: bool,  # noqa: FBT001  # a value of the test's table
) -> None:
    """As Postfix has it (postconf(5)); the log may say so of a fragment, too."""
    assert bool(read(text).level_zero) == is_zero


@pytest.mark.parametrize(
    ("text", "version", "source", "others"),
    [
        ("from postfix 2.9 to postfix 3.7.11\nbiff = no", "3.7.11", "the text", ("2.9",)),
        ("Ubuntu 22.04 LTS\nbiff = no", "3.6", "Ubuntu 22.04", ()),
        ("ii  postfix  3.5.25-0+deb11u1  amd64\nbiff = no", "3.5.25", "the package's name", ()),
        ("postfix 2.9\nbiff = no\nmail_version = 3.8.1", "3.8.1", "mail_version", ("2.9",)),
    ],
)
def test_the_version_comes_with_its_source(
    text: str, version: str, source: str, others: tuple[str, ...]
) -> None:
    """Of several in the text the newest counts, and the others are reported."""
    found = read(text)

    assert (found.version, found.reading.version_source) == (version, source)
    assert found.reading.other_versions == others


@pytest.mark.parametrize(
    "text",
    [
        "2024-11-30 06:26:53 1tHFyL-0004eG-1x <= a@b.example H=x [192.0.2.1] P=esmtp S=500\n",
        "exim4 says: 550 relay not permitted\n",
    ],
)
def test_a_report_about_another_server_is_refused_by_its_name(text: str) -> None:
    """With the line that shows it."""
    with pytest.raises(BadInput, match=r"is about Exim, not Postfix \(line 1: "):
        read(text)


def test_lines_that_were_not_read_are_reported_once_for_each_kind() -> None:
    """With what to do."""
    found = read("biff = no\n\nfoo = bar\n\nfox = bat\n\n12:34:56 something\n" + LOGGED)

    foo, stamped = found.reading.not_read
    assert foo.startswith("line 3 (and 1 more): 'foo = bar': no parameter of Postfix; ")
    assert stamped.startswith("line 7: '12:34:56 something': no log line that maillab knows; ")
    assert found.reading.counted == [
        "1 line of settings (name = value)",
        "2 lines of the log (syslog)",
    ]
