"""Workstations and servers: every user is user@domain, on whichever machine.

Each machine sends as user@domain (myorigin = $mydomain), and one machine, the domain's MX,
accepts the domain as its own (mydestination) and relays for the others (mynetworks). Users
fetch their mail by POP, share the mail spool by NFS, or have their mail forwarded to their
own workstation by aliases. All machines that share a spool must lock in the same way.

For encryption between the machines see test_workstations_servers_encrypted.py. Here a volume
replaces NFS: two hosts, one spool, one kernel. Locks therefore behave as over NFS with a
working lock manager.

Since the FAQ:
- 3.0: the server no longer trusts the workstations' network (mynetworks_style), with
  compatibility_level 2 or later.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from maillab import Host, Lab, pop3

pytestmark = pytest.mark.topology("workstations")

# The default of mydestination: the machine's own names and no domain.
NO_DOMAIN = "$myhostname, localhost.$mydomain, localhost"
TRUST_NOBODY = "127.0.0.0/8"

# The server's /var/mail as mounted on ws2.
SPOOL = "/mnt/spool"


@pytest.mark.topology("as-installed")
@pytest.mark.faq("workstations-servers", "2a")
def test_behaviour_as_installed_a_user_is_user_at_the_machine(lab: Lab) -> None:
    """Debian's myorigin is /etc/mailname, whose default is the machine's own name."""
    mail = lab.mail.send(to="joe@remote.example.net", user="alice")
    lab.settle(mail)

    (copy,) = lab.remote.mailbox("joe")
    assert (copy["From"], copy["Return-Path"]) == (
        "alice@mail.example.com",
        "<alice@mail.example.com>",
    )


@pytest.mark.topology("as-installed")
@pytest.mark.faq("workstations-servers", "2a")
def test_cure_as_installed_a_user_is_user_at_the_domain(lab: Lab) -> None:
    """With the domain in /etc/mailname users send as user@domain."""
    lab.mail.cure.write("/etc/mailname", "example.com\n")
    lab.mail.restart()

    mail = lab.mail.send(to="joe@remote.example.net", user="alice")
    lab.settle(mail)

    (copy,) = lab.remote.mailbox("joe")
    assert (copy["From"], copy["Return-Path"]) == ("alice@example.com", "<alice@example.com>")


@pytest.mark.faq("workstations-servers", "2a")
def test_symptom_the_server_does_not_know_its_domain(lab: Lab) -> None:
    """With only the workstations configured the domain's MX refuses to relay their mail."""
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
    """With $mydomain in mydestination the server stores mail for and from all users."""
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
    """The list mynetworks has the network that the server trusted by default before 3.0."""
    site = f"{TRUST_NOBODY}, {lab.server.address.rpartition('.')[0]}.0/27"
    lab.server.configure(mynetworks=TRUST_NOBODY)
    lab.ws1.configure(relayhost="$mydomain")
    lab.server.cure.configure(mynetworks=site)

    mail = lab.ws1.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert mail.reached(lab.server)


@pytest.mark.faq("workstations-servers", "2b")
def test_cure_the_server_relays_for_names_in_its_own_domain(lab: Lab) -> None:
    """With check_client_access the server relays for clients with a name in the domain.

    The FAQ's Postfix did so by default.
    """
    by_name = "permit_mynetworks, check_client_access inline:{ example.com=OK }"
    lab.server.configure(mynetworks=TRUST_NOBODY)
    lab.server.cure.configure(smtpd_relay_restrictions=f"{by_name}, reject_unauth_destination")

    inside = lab.ws1.smtp("joe@example.net", server=lab.server)
    outside = lab.remote.smtp("joe@example.net", server=lab.server)
    lab.settle(inside, outside)

    assert inside.delivered_to(lab.remote, mailbox="joe")
    assert outside.rejected(554, "5.7.1", saying="<joe@example.net>: Relay access denied")


@pytest.mark.faq("workstations-servers", "2b")
def test_historic_check_relay_domains_trusted_names_in_the_domain(lab: Lab) -> None:
    """Until 3.9 removed it, check_relay_domains relayed for client names in relay_domains."""
    lab.server.configure(
        mynetworks=TRUST_NOBODY, relay_domains="$mydomain", mydestination=NO_DOMAIN
    )
    lab.server.misconfigure(smtpd_relay_restrictions="check_relay_domains, reject")

    inside = lab.ws1.smtp("joe@example.net", server=lab.server)
    outside = lab.remote.smtp("joe@example.net", server=lab.server)
    lab.settle(inside, outside)

    if lab.has("check_relay_domains removed"):
        assert inside.rejected(451, "4.3.5", saying="Server configuration error")
    else:
        assert inside.delivered_to(lab.remote, mailbox="joe")
        assert outside.rejected(554, "5.7.1", saying="<joe@example.net>: ")


@pytest.mark.faq("workstations-servers", "2b")
@pytest.mark.faq("root-mail-to-nobody", "30-S2")
def test_behaviour_postconf_names_the_alias_file(lab: Lab) -> None:
    """The FAQ's "postconf alias_maps" names the file that newaliases(1) builds."""
    name, _, table = lab.server.run("postconf", "alias_maps").stdout.strip().partition(" = ")
    kind, _, path = table.partition(":")
    lab.server.write(path, "postmaster: root\nteam: dave\n")
    lab.server.run("newaliases")

    mail = lab.remote.send(to="team@server.example.com")
    lab.settle(mail)

    assert (name, path) == ("alias_maps", "/etc/aliases")
    assert lab.server.run("postmap", "-q", "team", f"{kind}:{path}").stdout == "dave\n"
    assert mail.delivered_to(lab.server, mailbox="dave")


@pytest.mark.faq("workstations-servers", "2b")
@pytest.mark.parametrize("relayhost", ["", "$mydomain"], ids=["straight", "by-the-server"])
def test_behaviour_mail_for_the_internet(lab: Lab, relayhost: str) -> None:
    """Internet mail leaves directly unless relayhost names the server."""
    if relayhost:
        lab.ws1.cure.configure(relayhost=relayhost)

    mail = lab.ws1.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert bool(mail.reached(lab.server)) == bool(relayhost)


@pytest.mark.faq("workstations-servers", "2b")
def test_symptom_mail_stays_on_the_server(lab: Lab) -> None:
    """Without an alias a user's mail stays on the server."""
    lab.server.aliases({"joe": "joe@ws1.example.com"})
    lab.server.mistake.aliases({})

    mail = lab.remote.send(to="joe@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.server, mailbox="joe")
    assert not mail.reached(lab.ws1)


@pytest.mark.faq("workstations-servers", "2b")
def test_cure_an_alias_brings_mail_to_the_users_workstation(lab: Lab) -> None:
    """The server forwards to user@workstation; other users' mail stays on the server."""
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
    """Delivered-To stops the loop when the mail returns, and the sender gets a bounce."""
    lab.server.aliases({"joe": "joe@ws1.example.com"})
    lab.ws1.mistake.aliases({"joe": "joe@example.com"})

    mail = lab.ws2.send(to="joe", user="alice")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail forwarding loop for joe@example.com")
    assert not lab.ws1.stored()
    (notice,) = lab.server.mailbox("alice")
    assert "MAILER-DAEMON@example.com" in notice["From"]
    assert "Diagnostic-Code: X-Postfix; mail forwarding loop for joe@example.com" in str(notice)


# Reading mail on the server: by POP.


@pytest.mark.faq("workstations-servers", "2b")
@pytest.mark.parametrize(
    ("mailboxes", "home_mailbox"), [("mbox", ""), ("maildir", "Maildir/")], ids=["mbox", "maildir"]
)
def test_cure_users_fetch_their_mail_by_pop(lab: Lab, mailboxes: str, home_mailbox: str) -> None:
    """A POP server on the same host reads the mailboxes that Postfix writes."""
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


# Reading mail on the server: by sharing its spool.


def read_as(host: Host, user: str, whose: str) -> str:
    """Return a shared mailbox as a user reads it, or "" without permission."""
    return host.run("cat", f"{SPOOL}/{whose}", user=user, check=False).stdout


@contextlib.contextmanager
def dotlock(host: Host, user: str) -> Iterator[None]:
    """Lock the mailbox as another host's mail program does: user.lock exists."""
    lock = f"{SPOOL}/{user}.lock"
    # "set -C" creates a file or fails, as a mail program's helper does.
    host.run("sh", "-c", f"set -C; : >{lock}")
    try:
        yield
    finally:
        host.run("rm", lock)


# Locks the given file in a process that stays, and prints the process id.
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
    """Lock the mailbox as another host's mail program does: with fcntl(2)."""
    holder = host.run("python3", "-c", _HOLD, f"{SPOOL}/{user}").stdout.strip()
    try:
        yield
    finally:
        host.run("sh", "-c", f"kill {holder}")


@dataclass(frozen=True)
class Editing:
    """A mail program's rewrite of a mailbox: read all, write all back."""

    host: Host
    user: str
    text: str

    @classmethod
    def begin(cls, host: Host, user: str) -> "Editing":
        """Read the mailbox."""
        return cls(host, user, host.read(f"{SPOOL}/{user}") or "")

    def save(self) -> None:
        """Write the text back to the mailbox."""
        self.host.write(f"{SPOOL}/{self.user}", self.text)


Lock = Callable[[Host, str], contextlib.AbstractContextManager[None]]

# The default is 20 attempts, a second apart.
IMPATIENT = {"deliver_lock_attempts": "1", "deliver_lock_delay": "1s"}


@pytest.mark.faq("workstations-servers", "2b")
def test_behaviour_users_read_the_shared_spool(lab: Lab) -> None:
    """The workstation shows mail that the server stored, to its owner alone."""
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
    """The server leaves a mailbox locked on a workstation alone and delivers later."""
    lab.server.configure(**IMPATIENT)
    first = lab.remote.send(to="alice@example.com")
    lab.settle(first)

    with lock(lab.ws2, "alice"):
        second = lab.remote.send(to="alice@example.com")
        lab.settle(second)
        waits = second.held_by(lab.server).now()
    why = f"cannot update mailbox /var/mail/alice for user alice. {reason}"
    put_off = second.deferred(dsn="4.2.0", saying=why).now()
    lab.server.flush()
    lab.settle(second)

    assert waits
    assert put_off
    assert second.delivered_to(lab.server, mailbox="alice")
    assert second.message_id in read_as(lab.ws2, "alice", "alice")


@pytest.mark.faq("workstations-servers", "2b")
def test_symptom_hosts_that_lock_in_different_ways_lose_mail(lab: Lab) -> None:
    """The server ignores the reader's lock file, and the reader overwrites new mail."""
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

    # The server's log says delivered; the mailbox does not have the message.
    assert second.delivered_to(lab.server)
    assert not second.delivered_to(lab.server, mailbox="alice")
    assert first.delivered_to(lab.server, mailbox="alice")


@pytest.mark.faq("workstations-servers", "2b")
def test_cure_all_hosts_lock_in_the_same_way(lab: Lab) -> None:
    """With dotlock in mailbox_delivery_lock, the default, the server waits for the reader."""
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
