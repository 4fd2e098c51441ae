"""Dovecot behind sockets in Postfix's queue directory: LMTP and logins, as on one host.

Postfix's daemons see the queue directory in the jail and outside it, so a path below it leads to
the socket from both. Each scenario shows one way in which the two miss each other.
"""

from __future__ import annotations

import pytest

from maillab import Complaint, DovecotHost, Lab, Mail, MailSaved
from maillab.faults import HostCrashed

pytestmark = pytest.mark.topology("submission")

PASSWORD = "secret"  # noqa: S105  # of no real account
ALICE = "alice@example.com"
QUEUE = "/var/spool/postfix"
LMTP, AUTH = "private/dovecot-lmtp", "private/auth"
SERVICES = {LMTP: "lmtp", AUTH: "auth"}
BOTH = pytest.mark.parametrize("jailed", ["y", "n"], ids=["in the jail", "outside"])


def dovecot(lab: Lab) -> DovecotHost:
    """Return the mailbox server."""
    (host,) = lab.dovecot_hosts
    return host


def listen(socket: str, owner: str = "postfix", mode: str = "0600") -> str:
    """Return the settings that let Dovecot listen on a socket in the queue directory."""
    rights = f"mode = {mode}\n    user = {owner}\n    group = {owner}"
    return (
        f"service {SERVICES[socket]} {{\n  unix_listener {QUEUE}/{socket} {{\n    {rights}\n"
        "  }\n}\n"
    )


def deliver_by_socket(lab: Lab, path: str = LMTP, jailed: str = "n") -> None:
    """Let Postfix deliver by LMTP to a socket."""
    lab.mail.service(f"lmtp unix - - {jailed} - - lmtp")
    lab.mail.configure(virtual_transport=f"lmtp:unix:{path}")


def received(lab: Lab, to: str = ALICE) -> Mail:
    """Send from everybody else to a user; settle."""
    mail = lab.remote.send(to=to, sender="joe@example.net")
    lab.settle(mail)
    return mail


def arrives_after_all(lab: Lab, mail: Mail) -> bool:
    """Return True if deferred mail is delivered after a flush."""
    lab.mail.flush()
    lab.settle(mail)
    return bool(mail.delivered_to(lab.mailbox, mailbox=ALICE))


def not_connected(why: str) -> str:
    """Return how lmtp(8) logs a socket that it cannot use."""
    return f"connect to mail.example.com[{LMTP}]: {why}"


# Mailboxes by LMTP.


@BOTH
def test_cure_dovecot_listens_in_the_queue_directory(lab: Lab, jailed: str) -> None:
    """The socket belongs to postfix; the mail that waited for it is delivered."""
    deliver_by_socket(lab, jailed=jailed)
    mail = received(lab)
    dovecot(lab).cure.configure(listen(LMTP))

    assert arrives_after_all(lab, mail)
    (saved,) = lab.events(MailSaved, lab.mailbox)
    assert saved.to == ALICE


def test_symptom_there_is_no_socket(lab: Lab) -> None:
    """Dovecot listens elsewhere, such as in its own folder: the mail waits."""
    dovecot(lab).configure(listen(LMTP))
    deliver_by_socket(lab)
    dovecot(lab).restart()
    lab.mailbox.mistake.run_tool("rm", f"{QUEUE}/{LMTP}")

    mail = received(lab)

    assert mail.deferred(dsn="4.4.1", saying=not_connected("No such file or directory"))


def test_symptom_the_socket_belongs_to_root(lab: Lab) -> None:
    """Postfix's delivery agents are not root."""
    dovecot(lab).configure(listen(LMTP))
    dovecot(lab).misconfigure(listen(LMTP, owner="root"))
    deliver_by_socket(lab)

    mail = received(lab)

    assert mail.deferred(dsn="4.4.1", saying=not_connected("Permission denied"))


@pytest.mark.parametrize("right", [{"owner": "postfix"}, {"owner": "root", "mode": "0666"}])
def test_cure_postfix_may_write_to_the_socket(lab: Lab, right: dict[str, str]) -> None:
    """Its owner or its mode gives the right; the folder is closed to everybody else."""
    dovecot(lab).configure(listen(LMTP, owner="root"))
    deliver_by_socket(lab)
    mail = received(lab)
    dovecot(lab).cure.configure(listen(LMTP, **right))

    assert arrives_after_all(lab, mail)


def test_symptom_an_absolute_path_leads_nowhere_in_the_jail(lab: Lab) -> None:
    """The jail has no /var/spool/postfix; the same path is right outside it."""
    dovecot(lab).configure(listen(LMTP))
    deliver_by_socket(lab, f"{QUEUE}/{LMTP}")
    lab.mail.mistake.service("lmtp unix - - y - - lmtp")

    mail = received(lab)

    path = f"connect to mail.example.com[{QUEUE}/{LMTP}]: No such file or directory"
    assert mail.deferred(dsn="4.4.1", saying=path)


def test_cure_a_path_below_the_queue_directory_is_right_in_the_jail(lab: Lab) -> None:
    """It is relative to the directory, in which Postfix's daemons are."""
    dovecot(lab).configure(listen(LMTP))
    deliver_by_socket(lab, f"{QUEUE}/{LMTP}", jailed="y")
    mail = received(lab)
    lab.mail.cure.configure(virtual_transport=f"lmtp:unix:{LMTP}")

    assert arrives_after_all(lab, mail)


def test_symptom_dovecot_is_down_behind_the_socket(lab: Lab) -> None:
    """A server that was killed leaves its socket; mail waits, and arrives after its restart."""
    dovecot(lab).configure(listen(LMTP))
    deliver_by_socket(lab)

    with lab.mailbox.faulty(HostCrashed()):
        mail = received(lab)

    assert mail.deferred(dsn="4.4.1", saying=not_connected("Connection refused"))
    assert arrives_after_all(lab, mail)


# Logins.


def login_by_socket(lab: Lab, path: str = AUTH) -> None:
    """Let Postfix ask for passwords at a socket."""
    lab.mail.configure(smtpd_sasl_path=path)


def login(lab: Lab) -> int:
    """Return the reply code to a login at port 465, 0 if there is no greeting."""
    with lab.client.session(lab.mail, port=465, tls=True) as session:
        if session.greeting.code:
            session.ehlo()
            session.auth(ALICE, PASSWORD)
        return session.replies[-1][1].code


def complaints(lab: Lab) -> list[str]:
    """Return what the server's Postfix warned of."""
    return [event.text for event in lab.events(Complaint, lab.mail)]


def asks_in_vain(lab: Lab, why: str) -> bool:
    """Return True if smtpd(8) logged that it cannot connect to the socket, and ended."""
    found = complaints(lab)
    named = "Dovecot auth socket " if lab.has("SASL: Connect to Dovecot auth socket") else ""
    path = f"'{AUTH}'" if named else AUTH
    words = f"SASL: Connect to {named}{path} failed: {why}"
    return words in found and "no SASL authentication mechanisms" in found


@BOTH
def test_cure_dovecot_answers_logins_in_the_queue_directory(lab: Lab, jailed: str) -> None:
    """Postfix uses the socket in the jail and outside it."""
    lab.mail.jail.lock_in("465/inet") if jailed == "y" else lab.mail.jail.let_out("465/inet")
    login_by_socket(lab)
    dovecot(lab).cure.configure(listen(AUTH))

    assert login(lab) == 235


@pytest.mark.parametrize(
    ("owner", "why"), [("", "No such file or directory"), ("root", "Permission denied")]
)
def test_symptom_a_socket_for_logins_that_postfix_cannot_use(
    lab: Lab, owner: str, why: str
) -> None:
    """Submission does not start: smtpd(8) ends before it greets."""
    dovecot(lab).configure(listen(AUTH))
    login_by_socket(lab)
    if owner:
        dovecot(lab).misconfigure(listen(AUTH, owner=owner))
    else:
        dovecot(lab).restart()
        lab.mailbox.mistake.run_tool("rm", f"{QUEUE}/{AUTH}")

    code = login(lab)

    assert code == 0
    assert asks_in_vain(lab, why)


def test_symptom_dovecot_is_down_behind_the_socket_for_logins(lab: Lab) -> None:
    """The socket has no server; a restart of Postfix ends master(8)'s throttling, too."""
    dovecot(lab).configure(listen(AUTH))
    login_by_socket(lab)

    with lab.mailbox.faulty(HostCrashed()):
        code = login(lab)

    assert code == 0
    assert asks_in_vain(lab, "Connection refused")
    lab.mail.restart()
    assert login(lab) == 235


# saslauthd(8), the other server for passwords.


MUX = "/run/saslauthd"
# The path of Debian's libsasl2; the jail has no link from /var/run to /run.
MUX_IN_THE_JAIL = "/var/run/saslauthd"


def ask_saslauthd(lab: Lab, jailed: str, folder: str = MUX) -> None:
    """Let submission ask saslauthd(8), which checks passwords by the database of Cyrus SASL."""
    lab.mail.write("/etc/postfix/sasl/smtpd.conf", "pwcheck_method: saslauthd\nmech_list: PLAIN\n")
    lab.mail.run("saslpasswd2", "-p", "-c", "-u", "example.com", "alice", stdin=PASSWORD)
    lab.mail.run("install", "-d", "-m", "710", "-g", "sasl", folder)
    lab.mail.run("saslauthd", "-a", "sasldb", "-m", folder)
    lab.mail.configure(
        smtpd_sasl_type="cyrus",
        smtpd_sasl_path="smtpd",
        cyrus_sasl_config_path="/etc/postfix/sasl",
    )
    (lab.mail.jail.lock_in if jailed == "y" else lab.mail.jail.let_out)("465/inet")


def join_the_group(lab: Lab) -> None:
    """Let Postfix into the folder of the socket."""
    lab.mail.run("usermod", "--append", "--groups", "sasl", "postfix")


def test_symptom_saslauthd_is_not_in_the_jail(lab: Lab) -> None:
    """Every login fails for now, and the reply gives the client no reason."""
    ask_saslauthd(lab, jailed="n")
    join_the_group(lab)
    lab.mail.mistake.jail.lock_in("465/inet")

    code = login(lab)

    assert code == 454
    words = "SASL authentication failure: cannot connect to saslauthd server: "
    assert f"{words}No such file or directory" in complaints(lab)


def test_cure_saslauthd_has_its_socket_in_the_jail(lab: Lab) -> None:
    """Its option -m names the folder, which Debian sets in /etc/default/saslauthd-postfix."""
    ask_saslauthd(lab, jailed="y")
    join_the_group(lab)
    folder = f"{QUEUE}{MUX_IN_THE_JAIL}"
    lab.mail.cure.run("install", "-d", "-m", "710", "-g", "sasl", folder)
    lab.mail.cure.run("saslauthd", "-a", "sasldb", "-m", folder)

    assert login(lab) == 235


def test_symptom_postfix_is_not_in_the_group_of_saslauthd(lab: Lab) -> None:
    """The folder of the socket is closed to it."""
    ask_saslauthd(lab, jailed="n")
    join_the_group(lab)
    lab.mail.mistake.run("gpasswd", "--delete", "postfix", "sasl")
    lab.mail.restart()

    code = login(lab)

    assert code == 454
    words = "SASL authentication failure: cannot connect to saslauthd server: "
    assert f"{words}Permission denied" in complaints(lab)


def test_cure_postfix_joins_the_group_of_saslauthd(lab: Lab) -> None:
    """A restart of Postfix follows: daemons keep the groups of their start."""
    ask_saslauthd(lab, jailed="n")
    lab.mail.cure.run("usermod", "--append", "--groups", "sasl", "postfix")
    lab.mail.restart()

    assert login(lab) == 235
