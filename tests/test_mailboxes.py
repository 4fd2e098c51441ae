"""Where a mail host's mailboxes are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

import mailboxes


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's folders, with nothing in them."""
    for name in ("home/alice", "root", "var/mail", "var/vmail"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(mailboxes, "HOMES", str(tmp_path / "home"))
    monkeypatch.setattr(mailboxes, "HOME_OF_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(
        mailboxes, "SPOOLS", tuple(str(tmp_path / "var" / n) for n in ("mail", "vmail", "gone"))
    )
    return tmp_path


def maildir(folder: Path, **messages: str) -> None:
    """A maildir with messages: new="…", cur="…", tmp="…"."""
    for name in ("tmp", "new", "cur"):
        (folder / name).mkdir(parents=True)
        if name in messages:
            (folder / name / "1.V1I1M1.host").write_text(messages[name])


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("var/mail/joe", "joe"),
        ("home/alice/Mailbox", "alice"),
        ("home/alice/Maildir", "alice"),
        ("root/Mailbox", "root"),
        ("var/vmail/boxf", "boxf"),
        ("var/vmail/virtual.example/joe", "joe"),
    ],
)
def test_a_file_is_an_mbox(machine: Path, path: str, owner: str) -> None:
    """In a home it is the user's, in a spool its own name says whose."""
    (machine / path).parent.mkdir(exist_ok=True)
    (machine / path).write_bytes(b"From \xff\n")

    assert mailboxes.collect() == [[owner, "mbox", "From \xff\n"]]


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("home/alice/Maildir", "alice"),
        ("home/alice/Fwd", "alice"),
        ("root/Maildir", "root"),
        ("var/mail/joe", "joe"),
        ("var/vmail/virtual.example/joe", "joe"),
    ],
)
def test_a_maildir_is_its_messages(machine: Path, path: str, owner: str) -> None:
    """Read or not; what is still being written is no mail yet."""
    maildir(machine / path, new="first", cur="second", tmp="half")

    assert mailboxes.collect() == [[owner, "maildir", "first"], [owner, "maildir", "second"]]


def test_what_is_no_mailbox_is_left_alone(machine: Path) -> None:
    """A lock beside a mailbox, a user's other files and folders."""
    (machine / "var/mail/joe.lock").write_text("")
    (machine / "home/alice/notes").write_text("x")
    (machine / "home/alice/new").mkdir()
    (machine / "home/alice/new/x").write_text("x")

    assert mailboxes.collect() == []


def test_a_mailbox_that_goes_meanwhile_is_none(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail is moved from new to cur, and a mailbox emptied by removing it."""
    gone = machine / "var/mail/joe"
    monkeypatch.setattr(mailboxes, "in_spools", lambda: iter([("joe", "mbox", gone)]))

    assert mailboxes.collect() == []
