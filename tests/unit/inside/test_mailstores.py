"""The search for a mail host's mailboxes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import configuration
import mailstores

MESSAGE = "Subject: x\n\nhello\n"
MBOX = f"From joe  Wed Nov 25 15:31:41 2026\n{MESSAGE}\n"
NOTHING: configuration.Settings = {name: set() for name in configuration.NAMES}


class Disk:
    """The files of a host in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = {**NOTHING, "mail_spool_directory": {str(root / "var/mail")}}
        self.users = [
            SimpleNamespace(pw_name="alice", pw_uid=1000, pw_dir=str(root / "home/alice"))
        ]

    def write(self, path: str, text: str = MBOX) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def maildir(self, path: str, messages: int = 1) -> None:
        for name in ("new", "cur", "tmp"):
            (self.root / path / name).mkdir(parents=True)
        for number in range(messages):
            self.write(f"{path}/new/{number}.host", MESSAGE)

    def found(self) -> list[tuple[str, str, str]]:
        prefix = f"{self.root}/"
        return sorted(
            (owner, form, path.removeprefix(prefix))
            for owner, form, _, path in mailstores.mailboxes()
        )


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(tmp_path)
    monkeypatch.setattr(mailstores, "SPOOLS", ())
    monkeypatch.setattr(mailstores, "ALIASES", (tmp_path / "etc/aliases",))
    monkeypatch.setattr(mailstores, "DOVECOT", tmp_path / "etc/dovecot")
    disk.write("etc/passwd", "")
    monkeypatch.setattr(mailstores, "PASSWD", tmp_path / "etc/passwd")
    monkeypatch.setattr("pwd.getpwall", lambda: disk.users)
    monkeypatch.setattr(configuration, "settings", lambda: disk.settings)
    return disk


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("example.org/info", "info@example.org"),
        ("example.org/info/Maildir", "info@example.org"),
        ("vmail1/example.org/i/n/info/Maildir", "info@example.org"),
        ("info@example.org", "info@example.org"),
        ("example.org/info@example.org/mail", "info@example.org"),
        ("info", "info"),
        ("users/info", "info"),
    ],
)
def test_a_mailbox_below_virtual_mailbox_base_is_named_by_its_path(
    disk: Disk, path: str, owner: str
) -> None:
    disk.settings["virtual_mailbox_base"] = {str(disk.root / "srv/vmail")}
    disk.maildir(f"srv/vmail/{path}")
    assert disk.found() == [(owner, "maildir", f"srv/vmail/{path}/new/0.host")]


def test_a_maildirs_folders_are_its_owners(disk: Disk) -> None:
    disk.settings["virtual_mailbox_base"] = {str(disk.root / "srv")}
    for folder in ("", "/.Junk", "/.lists.postfix", "/Archive"):
        disk.maildir(f"srv/example.org/info{folder}")
    assert [owner for owner, _, _ in disk.found()] == ["info@example.org"] * 4


def test_other_files_are_no_mailboxes(disk: Disk) -> None:
    for name in (".profile", ".bashrc", "notes", "mail/.subscriptions"):
        disk.write(f"home/alice/{name}", "# From the skeleton\nSubject: x\n")
    disk.write("home/alice/new/letter", "Dear Joe\n")
    disk.write("var/mail/bob.lock", "0")
    disk.write("var/mail/bob", "")
    assert disk.found() == []


def test_home_mailbox_may_be_at_any_depth(disk: Disk) -> None:
    disk.maildir("home/alice/mail/in/Maildir")
    disk.write("home/alice/mail/lists/postfix-users")
    disk.maildir("home/alice/Maildir/.Junk", messages=2)
    assert [owner for owner, _, _ in disk.found()] == ["alice"] * 4


def test_a_virtual_base_that_is_a_users_home_holds_other_peoples_mail(disk: Disk) -> None:
    disk.settings["virtual_mailbox_base"] = {str(disk.root / "home/alice")}
    disk.maildir("home/alice/example.org/info")
    assert [owner for owner, _, _ in disk.found()] == ["info@example.org"]


def test_without_a_base_the_whole_disk_is_searched(disk: Disk) -> None:
    disk.settings["virtual_mailbox_base"] = {"/"}
    assert mailstores.Root(Path("/")) in list(mailstores.roots())
    disk.settings["virtual_mailbox_base"] = {""}
    assert mailstores.Root(Path("/")) not in list(mailstores.roots())


def test_a_home_below_a_store_is_its_users(disk: Disk) -> None:
    disk.settings["virtual_mailbox_base"] = {str(disk.root / "home")}
    disk.write("home/alice/.mail")
    disk.write("home/bob/Mailbox")
    assert [owner for owner, _, _ in disk.found()] == ["alice", "bob"]


def test_a_user_who_was_added_after_the_first_search_has_a_home(disk: Disk) -> None:
    """The users are remembered only until /etc/passwd changes."""
    passwd = disk.root / "etc/passwd"
    disk.write("home/bob/Mailbox")
    assert disk.found() == []

    disk.users.append(
        SimpleNamespace(pw_name="bob", pw_uid=1001, pw_dir=str(disk.root / "home/bob"))
    )
    passwd.write_text("bob:x:1001:1001::/home/bob:/bin/sh\n")

    assert [owner for owner, _, _ in disk.found()] == ["bob"]


def test_an_alias_and_a_forward_file_name_files(disk: Disk) -> None:
    root = disk.root
    disk.write(
        "etc/aliases",
        f'archive: {root}/keep/archive/\nlist:\n alice, "{root}/keep/list"\n'
        f"# old: {root}/keep/old\nmore: :include:{root}/etc/more\ncommand: |{root}/keep/command\n",
    )
    disk.write("etc/more", f"{root}/keep/more\n")
    disk.write("home/alice/.forward", f"\\alice, {root}/keep/copy\n")
    disk.maildir("keep/archive")
    for name in ("list", "more", "copy", "old", "command"):
        disk.write(f"keep/{name}")
    assert [owner for owner, _, _ in disk.found()] == ["archive", "copy", "list", "more"]


@pytest.mark.parametrize(
    "line",
    [
        "#mail_home = /\nmail_location = maildir:ROOT/imap/%d/%n",
        "mail_path = ROOT/imap/%{user | domain}/%{user | username}",
        "  mail_home = ROOT/imap/%d/%n",
        "mail_location = mbox:~/mail:INBOX=ROOT/imap/%u",
        "  args = uid=vmail gid=vmail home=ROOT/imap/%d/%n",
    ],
)
def test_dovecot_says_where_it_keeps_mail(disk: Disk, line: str) -> None:
    disk.write("etc/dovecot/conf.d/10-mail.conf", line.replace("ROOT", str(disk.root)) + "\n")
    disk.maildir("imap/example.org/info/Maildir")
    assert [owner for owner, _, _ in disk.found()] == ["info@example.org"]


def test_a_mailbox_behind_a_link_is_found_once(disk: Disk) -> None:
    disk.settings["virtual_mailbox_base"] = {str(disk.root / "srv")}
    disk.maildir("disk2/info")
    (disk.root / "srv").mkdir()
    (disk.root / "srv/example.org").symlink_to(disk.root / "disk2")
    (disk.root / "srv/again").symlink_to(disk.root / "srv")
    assert disk.found() == [("info@example.org", "maildir", "srv/example.org/info/new/0.host")]
