"""fatal: open database /etc/aliases.db.

Run newaliases as root, then "postfix reload". newaliases reads the text file /etc/aliases
and builds the table that Postfix reads; a daemon that found no table does not look again.
If the error stays, alias_database and alias_maps name tables of different types.

Until then RCPT gets a 451 reply, even for existing users, and queued mail waits.

Since the FAQ:
- 2.9: a table that cannot be opened is one where every lookup fails temporarily; only
  commands still log "fatal".
- 3.11 (Debian): the default type is cdb, up to 3.10 it is hash. hash still works, with a
  warning.
"""

from typing import NamedTuple

import pytest

from maillab import Complaint, Lab, Mail

pytestmark = pytest.mark.topology("standalone")


class Type(NamedTuple):
    """A table type: its file suffix, and the errors for a garbage and an empty file."""

    suffix: str
    garbage: str
    empty: str
    # True if newaliases overwrites garbage.
    rebuilds: bool = True


TYPES = {
    "hash": Type("db", "Invalid argument", "Invalid argument"),
    "lmdb": Type(
        "lmdb", "MDB_INVALID: File is not an LMDB file", "Bad file descriptor", rebuilds=False
    ),
}
GARBAGE = "".join(chr(37 * number % 251) for number in range(100))
ALIASES = {"team": "alice, bob"}
either_type = pytest.mark.parametrize("kind", TYPES)


def set_up(lab: Lab, kind: str) -> str:
    """Build an up-to-date alias table of the type and return its path."""
    lab.mail.configure(alias_maps=f"{kind}:/etc/aliases", alias_database=f"{kind}:/etc/aliases")
    lab.mail.write("/etc/aliases", "postmaster: root\nteam: alice, bob\n")
    lab.mail.run("newaliases")
    return f"/etc/aliases.{TYPES[kind].suffix}"


def undeprecated(text: str) -> str:
    """Return a program's output without Debian's advice against hash (3.11)."""
    advice = ("hash/btree support is deprecated", "NON_BERKELEYDB_README")
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not any(words in line for words in advice))


def try_both(lab: Lab) -> list[Mail]:
    """Send mail from outside to an alias and to a user, and from one local user to another."""
    mails = [
        lab.client.smtp("team@example.com", server=lab.mail),
        lab.client.smtp("alice@example.com", server=lab.mail),
        lab.mail.send(to="alice", user="bob"),
    ]
    lab.settle(*mails)
    return mails


def complaints(lab: Lab) -> set[str]:
    """Return every warning and error that the host's daemons logged."""
    logged = {f"{event.level}: {event.text}" for event in lab.events(Complaint, lab.mail)}
    return {text for text in logged if undeprecated(text)}


@pytest.mark.faq("aliases-db-missing", "27-S1")
@either_type
def test_symptom_without_the_table_no_mail_is_delivered(lab: Lab, kind: str) -> None:
    """Mail for aliases and for users alike is deferred, by SMTP and in the queue."""
    path = set_up(lab, kind)
    lab.mail.mistake.run("rm", path)

    team, alice, own = try_both(lab)

    assert team.rejected(451, "4.3.0", saying="<team@example.com>: Temporary lookup failure")
    assert alice.rejected(451, "4.3.0", saying="<alice@example.com>: Temporary lookup failure")
    assert own.deferred(dsn="4.3.0", saying="alias database unavailable")
    assert own.held_by(lab.mail)
    missing = f"open database {path}: No such file or directory"
    assert complaints(lab) == {
        f"error: {missing}",
        f"warning: {kind}:/etc/aliases is unavailable. {missing}",
        f'warning: {kind}:/etc/aliases lookup error for "team@example.com"',
        f'warning: {kind}:/etc/aliases lookup error for "alice@example.com"',
        f"warning: {kind}:/etc/aliases: lookup of 'alice' failed",
    }


@pytest.mark.faq("aliases-db-missing", "27-S2")
@either_type
@pytest.mark.parametrize("content", [GARBAGE, ""], ids=["garbage", "empty"])
def test_symptom_a_corrupt_table_is_as_bad_as_none(lab: Lab, kind: str, content: str) -> None:
    """Daemons defer mail; only commands exit with the FAQ's fatal error."""
    path = set_up(lab, kind)
    lab.mail.mistake.write(path, content)

    team, alice, own = try_both(lab)
    asked = lab.mail.run("postalias", "-q", "team", f"{kind}:/etc/aliases", check=False)

    assert team.rejected(451, "4.3.0", saying="<team@example.com>: Temporary lookup failure")
    assert alice.rejected(451, "4.3.0", saying="<alice@example.com>: Temporary lookup failure")
    assert own.deferred(dsn="4.3.0", saying="alias database unavailable")
    corrupt = f"open database {path}: {TYPES[kind].garbage if content else TYPES[kind].empty}"
    assert f"error: {corrupt}" in complaints(lab)
    assert asked.status == 1
    assert undeprecated(asked.stderr) == f"postalias: fatal: {corrupt}\n"


@pytest.mark.faq("aliases-db-missing", "27-S3")
@either_type
@pytest.mark.parametrize("command", [["newaliases"], ["sendmail", "-bi"]], ids=lambda c: c[0])
def test_cure_newaliases_and_a_reload(lab: Lab, kind: str, command: list[str]) -> None:
    """Postfix accepts mail again, and the next flush delivers queued mail."""
    path = set_up(lab, kind)
    lab.mail.run("rm", path)
    *_, own = try_both(lab)

    done = lab.mail.cure.run(*command)
    lab.mail.reload()
    lab.mail.flush()
    team, alice, _ = try_both(lab)
    lab.settle(own)

    assert (done.status, done.stdout, undeprecated(done.stderr)) == (0, "", "")
    assert own.delivered_to(lab.mail, mailbox="alice")
    assert team.delivered_to(lab.mail, mailbox="alice")
    assert team.delivered_to(lab.mail, mailbox="bob")
    assert alice.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("aliases-db-missing", "27-S3")
def test_symptom_without_a_reload_the_table_stays_missing(lab: Lab) -> None:
    """A daemon that found no table does not look again until it exits."""
    path = set_up(lab, "hash")
    lab.mail.mistake.run("rm", path)
    try_both(lab)

    lab.mail.run("newaliases")
    team, alice, own = try_both(lab)

    assert team.rejected(451, "4.3.0", saying="<team@example.com>: Temporary lookup failure")
    assert alice.rejected(451, "4.3.0", saying="<alice@example.com>: Temporary lookup failure")
    assert own.deferred(dsn="4.3.0", saying="alias database unavailable")


@pytest.mark.faq("aliases-db-missing", "27-S3")
@either_type
@pytest.mark.parametrize("content", [GARBAGE, ""], ids=["garbage", "empty"])
def test_cure_newaliases_over_a_corrupt_table(lab: Lab, kind: str, content: str) -> None:
    """Running newaliases rebuilds any table except lmdb garbage, which must be removed first."""
    path = set_up(lab, kind)
    lab.mail.write(path, content)
    try_both(lab)

    done = lab.mail.cure.run("newaliases", check=False)
    if content and not TYPES[kind].rebuilds:
        assert done.status == lab.mail.cure.run("false", check=False).status
        lab.mail.cure.run("rm", path)
        done = lab.mail.cure.run("newaliases")
    lab.mail.reload()
    lab.mail.flush()
    team, *_ = try_both(lab)

    assert team.delivered_to(lab.mail, mailbox="alice")
    removed = f"postalias: warning: removing zero-length database file: {path}\n"
    assert undeprecated(done.stderr) == (removed if kind == "hash" and not content else "")


@pytest.mark.faq("aliases-db-missing", "27-S3")
@either_type
def test_behaviour_only_root_builds_the_table(lab: Lab, kind: str) -> None:
    """A user's newaliases fails and changes nothing."""
    path = set_up(lab, kind)

    done = lab.mail.run("newaliases", user="alice", check=False)
    lab.mail.run("rm", path)
    without = lab.mail.run("newaliases", user="alice", check=False)

    assert (done.status, without.status) == (1, 1)
    database = path if kind == "hash" else f"database {path}"
    errors = [undeprecated(result.stderr) for result in (done, without)]
    assert errors == [
        f"postalias: fatal: open {database}: Permission denied\n",
        f"postalias: fatal: open database {path}: Permission denied\n",
    ]


@pytest.mark.faq("aliases-db-missing")
def test_symptom_newaliases_builds_another_table_than_daemons_read(lab: Lab) -> None:
    """Only alias_database is built, and daemons read alias_maps: newaliases does not help."""
    set_up(lab, "lmdb")
    lab.mail.run("rm", "/etc/aliases.lmdb")
    lab.mail.misconfigure(alias_database="hash:/etc/aliases")
    lab.mail.run("newaliases")

    team, alice, own = try_both(lab)

    assert team.rejected(451, "4.3.0", saying="<team@example.com>: Temporary lookup failure")
    assert alice.rejected(451, "4.3.0", saying="<alice@example.com>: Temporary lookup failure")
    assert own.deferred(dsn="4.3.0", saying="alias database unavailable")
    missing = "open database /etc/aliases.lmdb: No such file or directory"
    assert f"error: {missing}" in complaints(lab)


@pytest.mark.faq("aliases-db-missing")
def test_cure_one_type_for_both(lab: Lab) -> None:
    """With alias_maps = $alias_database daemons read the table that newaliases builds."""
    lab.mail.configure(alias_maps="hash:/etc/aliases", alias_database="lmdb:/etc/aliases")
    lab.mail.cure.configure(alias_maps="$alias_database")
    lab.mail.aliases(ALIASES)

    team, alice, own = try_both(lab)

    assert team.delivered_to(lab.mail, mailbox="bob")
    assert alice.delivered_to(lab.mail, mailbox="alice")
    assert own.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("aliases-db-missing", "27-S3")
def test_behaviour_the_default_type_is_the_versions(lab: Lab) -> None:
    """Debian's 3.11 builds cdb where no type is named, and advises against hash."""
    kind = lab.mail.postconf("default_database_type")

    lab.mail.run("postconf", "-X", "alias_database")
    lab.mail.aliases(ALIASES)
    default = lab.mail.postconf("alias_database")
    lab.mail.configure(alias_database="hash:/etc/aliases")
    hash_ = lab.mail.run("newaliases").stderr

    assert ("hash/btree support is deprecated" in hash_) is lab.has("hash deprecated")
    assert kind == ("cdb" if lab.has("default_database_type=cdb") else "hash")
    assert default == f"{kind}:/etc/aliases"
    built = lab.mail.run("postalias", "-q", "team", f"{kind}:/etc/aliases")
    assert built.stdout == "alice, bob\n"
