"""Workstations and servers: everybody is user@domain, whichever machine they sit at.

The FAQ's answer: each machine sends as user@domain (myorigin), and one machine,
the domain's MX, takes the domain for its own (mydestination). From there users
fetch their mail by POP, or share the mail spool by NFS, or have it forwarded to
their own workstation by an alias each. All of it stands. What is new since 3.0:
the server has to be told that it relays for the workstations, whose network it
no longer trusts by itself (mynetworks_style). How the mail between the machines is
encrypted is in test_workstations_servers_encrypted.py.

Here the spool is shared by a volume in the place of NFS: two hosts, one spool,
one kernel. So locks behave as over NFS with a working lock manager.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from maillab import pop3
from maillab.host import Host
from maillab.lab import Lab

pytestmark = pytest.mark.topology("workstations")

# The default of mydestination: the machine's own names and no domain.
NO_DOMAIN = "$myhostname, localhost.$mydomain, localhost"
TRUST_NOBODY = "127.0.0.0/8"

# Where the server's /var/mail is on ws2.
SPOOL = "/mnt/spool"


@pytest.mark.faq("workstations-servers", "2a")
def test_symptom_the_server_does_not_know_its_domain(lab: Lab) -> None:
    """With workstations set up alone, the domain's MX takes their mail for relaying."""
    lab.server.misconfigure(mydestination=NO_DOMAIN, mynetworks=TRUST_NOBODY)

    mail = lab.ws1.send(to="dave", user="alice")
    lab.settle(mail)

    refusal = "said: 454 4.7.1 <dave@example.com>: Relay access denied"
    assert mail.deferred(dsn="4.7.1", saying=refusal, recipient="dave@example.com")
    assert mail.held_by(lab.ws1)
    assert not mail.reached(lab.server)


@pytest.mark.faq("workstations-servers", "2a")
def test_symptom_a_server_that_trusts_them_sends_to_itself(lab: Lab) -> None:
    """Trusting the workstations is not enough: the mail and its notice are both lost."""
    lab.server.misconfigure(mydestination=NO_DOMAIN)

    mail = lab.ws1.send(to="dave", user="alice")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail for example.com loops back to myself")
    assert not lab.server.stored()
    assert not lab.ws1.stored()
    assert not lab.server.queue()


@pytest.mark.faq("workstations-servers", "2b")
def test_cure_the_server_takes_the_domain_for_its_own(lab: Lab) -> None:
    """With $mydomain in mydestination mail from and for everybody meets on the server."""
    lab.server.configure(mydestination=NO_DOMAIN)
    lab.server.cure.configure(mydestination=f"{NO_DOMAIN}, $mydomain")

    within = lab.ws1.send(to="dave", user="alice", headers={"From": "alice"})
    outside = lab.remote.send(to="carol@example.com")
    lab.settle(within, outside)

    assert within.delivered_to(lab.server, mailbox="dave")
    assert outside.delivered_to(lab.server, mailbox="carol")
    (copy,) = lab.server.mailbox("dave")
    assert copy["From"] == "alice@example.com"
    assert copy["Return-Path"] == "<alice@example.com>"
    assert copy["X-Original-To"] == "dave@example.com"


@pytest.mark.faq("workstations-servers", "2b")
def test_cure_the_server_relays_for_the_workstations(lab: Lab) -> None:
    """In mynetworks stands whom the server trusted by itself before 3.0."""
    site = f"{TRUST_NOBODY}, {lab.server.address.rpartition('.')[0]}.0/27"
    lab.server.configure(mynetworks=TRUST_NOBODY)
    lab.ws1.configure(relayhost="$mydomain")
    lab.server.cure.configure(mynetworks=site)

    mail = lab.ws1.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert mail.reached(lab.server)


@pytest.mark.faq("workstations-servers", "2b")
@pytest.mark.parametrize("relayhost", ["", "$mydomain"], ids=["straight", "by-the-server"])
def test_behaviour_mail_for_the_internet(lab: Lab, relayhost: str) -> None:
    """It leaves by the workstation itself unless relayhost names the server."""
    lab.ws1.configure(relayhost=relayhost)

    mail = lab.ws1.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert bool(mail.reached(lab.server)) == bool(relayhost)


@pytest.mark.faq("workstations-servers", "2b")
def test_symptom_mail_stays_on_the_server(lab: Lab) -> None:
    """Without an alias nothing brings a user's mail to the machine they sit at."""
    lab.server.aliases({"joe": "joe@ws1.example.com"})
    lab.server.mistake.aliases({})

    mail = lab.remote.send(to="joe@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.server, mailbox="joe")
    assert not mail.reached(lab.ws1)


@pytest.mark.faq("workstations-servers", "2b")
def test_cure_an_alias_brings_mail_to_the_users_workstation(lab: Lab) -> None:
    """The server forwards to user@workstation, and users without an alias stay there."""
    lab.server.cure.aliases({"joe": "joe@ws1.example.com"})

    mail = lab.ws2.send(to=["joe", "dave"], user="alice", headers={"From": "alice"})
    lab.settle(mail)

    assert mail.delivered_to(lab.ws1, mailbox="joe")
    assert mail.delivered_to(lab.server, mailbox="dave")
    (copy,) = lab.ws1.mailbox("joe")
    assert copy.get_all("Delivered-To") == ["joe@ws1.example.com", "joe@example.com"]
    assert copy["From"] == "alice@example.com"
    assert copy["Return-Path"] == "<alice@example.com>"


@pytest.mark.faq("workstations-servers", "2c")
def test_symptom_two_aliases_that_point_at_each_other(lab: Lab) -> None:
    """Delivered-To breaks the loop when the mail comes round, and the sender hears of it."""
    lab.server.aliases({"joe": "joe@ws1.example.com"})
    lab.ws1.mistake.aliases({"joe": "joe@example.com"})

    mail = lab.ws2.send(to="joe", user="alice")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail forwarding loop for joe@example.com")
    assert not lab.ws1.stored()
    (notice,) = lab.server.mailbox("alice")
    assert "MAILER-DAEMON@example.com" in notice["From"]
    assert "Diagnostic-Code: X-Postfix; mail forwarding loop for joe@example.com" in str(notice)


# Reading mail that is on the server: by POP.


@pytest.mark.faq("workstations-servers", "2b")
@pytest.mark.parametrize(
    ("mailboxes", "home_mailbox"), [("mbox", ""), ("maildir", "Maildir/")], ids=["mbox", "maildir"]
)
def test_cure_users_fetch_their_mail_by_pop(lab: Lab, mailboxes: str, home_mailbox: str) -> None:
    """A POP server beside Postfix reads the mailboxes that Postfix writes."""
    lab.server.configure(home_mailbox=home_mailbox)
    pop3.serve(lab.server.cure, {"alice": "wonder"}, mailboxes=mailboxes)

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)
    inbox = pop3.read(lab.ws1, lab.server, "alice", "wonder")
    refused = pop3.read(lab.ws1, lab.server, "alice", "guess")

    assert [copy["Message-ID"] for copy in inbox.messages] == [mail.message_id]
    assert inbox.messages[0]["Delivered-To"] == "alice@example.com"
    assert refused.login.startswith("-ERR ")
    assert not refused.messages


# Reading mail that is on the server: by sharing its spool.


def read_as(host: Host, user: str, whose: str) -> str:
    """What a user's mail program finds in a mailbox of the shared spool, "" where it may not."""
    return host.run("cat", f"{SPOOL}/{whose}", user=user, check=False).stdout


@contextlib.contextmanager
def dotlock(host: Host, user: str) -> Iterator[None]:
    """A mail program on another host has the mailbox open: user.lock is there."""
    lock = f"{SPOOL}/{user}.lock"
    # "set -C" creates a file or fails, as a mail program's helper does.
    host.run("sh", "-c", f"set -C; : >{lock}")
    try:
        yield
    finally:
        host.run("rm", lock)


# Locks the file that it is given and leaves a process that holds the lock; prints its id.
_HOLD = """
import fcntl, os, signal, sys
ready, tell = os.pipe()
child = os.fork()
if child:
    os.read(ready, 1)
    print(child)
    sys.exit()
os.closerange(0, 3)
with open(sys.argv[1], "r+") as mailbox:
    fcntl.lockf(mailbox, fcntl.LOCK_EX)
    os.write(tell, b".")
    signal.pause()
"""


@contextlib.contextmanager
def fcntl_lock(host: Host, user: str) -> Iterator[None]:
    """A mail program on another host has the mailbox open: fcntl(2) says so."""
    holder = host.run("python3", "-c", _HOLD, f"{SPOOL}/{user}").stdout.strip()
    try:
        yield
    finally:
        host.run("sh", "-c", f"kill {holder}")


@dataclass(frozen=True)
class Editing:
    """What a mail program does that deletes a message: read all, write all back."""

    host: Host
    user: str
    text: str

    @classmethod
    def begin(cls, host: Host, user: str) -> "Editing":
        """Read the mailbox."""
        return cls(host, user, host.read(f"{SPOOL}/{user}") or "")

    def save(self) -> None:
        """Write it back."""
        self.host.write(f"{SPOOL}/{self.user}", self.text)


Lock = Callable[[Host, str], contextlib.AbstractContextManager[None]]

# The default is 20 attempts, a second apart.
IMPATIENT = {"deliver_lock_attempts": "1", "deliver_lock_delay": "1s"}


@pytest.mark.faq("workstations-servers", "2b")
def test_behaviour_users_read_the_shared_spool(lab: Lab) -> None:
    """What the server stores is there on the workstation, for its owner alone."""
    mail = lab.remote.send(to="alice@example.com")

    lab.settle(mail)

    assert mail.delivered_to(lab.server, mailbox="alice")
    assert mail.message_id in read_as(lab.ws2, "alice", "alice")
    assert not read_as(lab.ws2, "bob", "alice")
    assert not mail.reached(lab.ws2)


@pytest.mark.faq("workstations-servers", "2b")
@pytest.mark.parametrize(
    ("lock", "reason"),
    [
        (dotlock, "unable to create lock file /var/mail/alice.lock: File exists"),
        (fcntl_lock, "unable to lock for exclusive access: Resource temporarily unavailable"),
    ],
    ids=["dotlock", "fcntl"],
)
def test_behaviour_the_server_waits_for_a_reader_elsewhere(
    lab: Lab, lock: Lock, reason: str
) -> None:
    """A mailbox that is locked on a workstation is left alone, and the mail comes later."""
    lab.server.configure(**IMPATIENT)
    first = lab.remote.send(to="alice@example.com")
    lab.settle(first)

    with lock(lab.ws2, "alice"):
        second = lab.remote.send(to="alice@example.com")
        lab.settle(second)
        waits = bool(second.held_by(lab.server))
    why = f"cannot update mailbox /var/mail/alice for user alice. {reason}"
    put_off = bool(second.deferred(dsn="4.2.0", saying=why))
    lab.server.flush()
    lab.settle(second)

    assert waits
    assert put_off
    assert second.delivered_to(lab.server, mailbox="alice")
    assert second.message_id in read_as(lab.ws2, "alice", "alice")


@pytest.mark.faq("workstations-servers", "2b")
def test_symptom_hosts_that_lock_in_different_ways_lose_mail(lab: Lab) -> None:
    """The server does not look for the reader's lock file; the reader writes over its mail."""
    lab.server.configure(**IMPATIENT)
    lab.server.misconfigure(mailbox_delivery_lock="fcntl")
    lab.expects(lost=1, because="the reader's mailbox is older than the message")
    first = lab.remote.send(to="alice@example.com")
    lab.settle(first)

    with dotlock(lab.ws2, "alice"):
        reader = Editing.begin(lab.ws2, "alice")
        second = lab.remote.send(to="alice@example.com")
        lab.settle(second)
        reader.save()

    # By the server's log, but not in the mailbox.
    assert second.delivered_to(lab.server)
    assert not second.delivered_to(lab.server, mailbox="alice")
    assert first.delivered_to(lab.server, mailbox="alice")


@pytest.mark.faq("workstations-servers", "2b")
def test_cure_all_hosts_lock_in_the_same_way(lab: Lab) -> None:
    """With dotlock in mailbox_delivery_lock, as by default, the server waits for the reader."""
    lab.server.configure(mailbox_delivery_lock="fcntl", **IMPATIENT)
    lab.server.cure.configure(mailbox_delivery_lock="fcntl, dotlock")
    first = lab.remote.send(to="alice@example.com")
    lab.settle(first)

    with dotlock(lab.ws2, "alice"):
        reader = Editing.begin(lab.ws2, "alice")
        second = lab.remote.send(to="alice@example.com")
        lab.settle(second)
        reader.save()
    lab.server.flush()
    lab.settle(second)

    assert second.delivered_to(lab.server, mailbox="alice")
    assert first.delivered_to(lab.server, mailbox="alice")
