"""Postfix logs SMTP clients as IP addresses.

A daemon whose chroot column in master.cf says "y" sees the queue directory and
nothing else, so what the resolver reads must be there, too, and be readable. If
it is not, the host finds every name and Postfix none: clients are "unknown", and
outgoing mail waits with "Host not found, try again".

Of the FAQ's list of files etc/resolv.conf is enough since glibc 2.34 (2021); on
Debian 11 the library libnss_dns is needed beside it, and for outgoing mail
etc/services (see unknown-service). What changed beyond that: the default of the
column is "n" since 3.0, unless compatibility_level is 0; Debian said "y" in its
master.cf until its release 13, and fills the jail itself: in 11 and 12 by
configure-instance.sh at boot only, in 13 and 14 each time that "postfix start"
or "postfix check" is run.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Complaint, Connected

pytestmark = pytest.mark.topology("standalone")

IN, OUT = "smtp/inet", "smtp/unix"
RESOLV_CONF, HOSTS = "/etc/resolv.conf", "/etc/hosts"
# The versions of Postfix in Debian 13 and 14, and in 11.
FILLS_JAIL_ITSELF = ("3.10", "3.11")
NEEDS_LIBRARY = "3.5"


def clients(lab: Lab) -> list[str]:
    """The names that smtpd(8) logged for its clients, in order."""
    return [event.client_name for event in lab.events(Connected, lab.mail)]


def connect(lab: Lab) -> None:
    """Have the outside client come and go."""
    with lab.client.session(lab.mail) as session:
        session.quit()


def host_knows(lab: Lab) -> str:
    """The client's name as every program of the host but Postfix finds it."""
    return lab.mail.run("getent", "hosts", lab.client.address).stdout.split()[1]


def all_but_resolv_conf(lab: Lab) -> None:
    """A jail that lacks nothing else."""
    lab.mail.jail.empty()
    lab.mail.jail.copy("/etc/services")
    if lab.version == NEEDS_LIBRARY:
        lab.mail.jail.copy_library("libnss_dns")


@pytest.mark.faq("chroot-names", "13a")
def test_symptom_clients_have_no_name_in_an_empty_jail(lab: Lab) -> None:
    """The host knows the client's name, smtpd(8) does not, and says nothing about it."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.mistake.jail.empty()
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["unknown"]
    assert host_knows(lab) == "client.example.net"
    assert not lab.events(Complaint, lab.mail)


@pytest.mark.faq("chroot-names", "13a")
def test_symptom_mail_waits_for_a_nameserver_that_is_none(lab: Lab) -> None:
    """smtp(8) without a resolv.conf asks the host itself, and tries again later."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.mistake.run("rm", lab.mail.jail.path(RESOLV_CONF))
    lab.mail.jail.lock_in(OUT)

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.deferred(
        dsn="4.4.3",
        saying="Host or domain name not found. Name service error for name=example.net type=MX: "
        "Host not found, try again",
    )
    assert mail.held_by(lab.mail)


@pytest.mark.faq("chroot-names", "13b")
def test_cure_resolv_conf_in_the_jail_gives_clients_their_names(lab: Lab) -> None:
    """With a readable copy of etc/resolv.conf, and on Debian 11 libnss_dns, names are back."""
    lab.mail.jail.empty()
    lab.mail.cure.jail.copy(RESOLV_CONF)
    if lab.version == NEEDS_LIBRARY:
        lab.mail.cure.jail.copy_library("libnss_dns")
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]


@pytest.mark.faq("chroot-names", "13b")
def test_cure_resolv_conf_in_the_jail_sends_what_waited(lab: Lab) -> None:
    """Mail that waited leaves after a restart and a flush."""
    all_but_resolv_conf(lab)
    lab.mail.jail.lock_in(OUT)
    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)

    lab.mail.cure.jail.copy(RESOLV_CONF)
    lab.mail.restart()
    lab.mail.flush()
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("chroot-names", "13b")
def test_cure_no_jail_needs_no_copies(lab: Lab) -> None:
    """With "n" in the chroot column the host's own files are read."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    lab.mail.cure.jail.let_out(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]


@pytest.mark.faq("chroot-names", "13b")
def test_behaviour_resolv_conf_alone_is_enough_since_glibc_2_34(lab: Lab) -> None:
    """Before that, the module that asks by DNS has to be found in the jail."""
    lab.mail.jail.empty()
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["unknown" if lab.version == NEEDS_LIBRARY else "client.example.net"]


@pytest.mark.faq("chroot-names", "13b")
def test_cure_debian_fills_the_jail(lab: Lab) -> None:
    """Its script does so in 11 and 12, as at boot; since 13 "postfix check" does."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    lab.mail.stop()
    if lab.version in FILLS_JAIL_ITSELF:
        lab.mail.cure.run("postfix", "check")
    else:
        lab.mail.cure.run("/usr/lib/postfix/configure-instance.sh", "")
    lab.mail.start()

    connect(lab)

    assert clients(lab) == ["client.example.net"]


@pytest.mark.faq("chroot-names", "13a")
@pytest.mark.parametrize(
    ("command", "fills_since_13"), [("start", True), ("reload", False)], ids=["start", "reload"]
)
def test_behaviour_postfix_start_fills_the_jail_since_debian_13(
    lab: Lab, command: str, *, fills_since_13: bool
) -> None:
    """Up to Debian 12 it knows of no copies; "postfix reload" does not to this day."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    if command == "start":
        lab.mail.stop()
    lab.mail.run("postfix", command)

    connect(lab)

    filled = fills_since_13 and lab.version in FILLS_JAIL_ITSELF
    assert clients(lab) == ["client.example.net" if filled else "unknown"]


@pytest.mark.faq("chroot-names", "13a", "13b")
def test_behaviour_a_running_daemon_notices_at_once(lab: Lab) -> None:
    """The resolver looks whether resolv.conf has changed (glibc 2.26): no restart is needed."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.jail.lock_in(IN)

    connect(lab)
    lab.mail.run("rm", lab.mail.jail.path(RESOLV_CONF))
    connect(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    connect(lab)

    assert clients(lab) == ["client.example.net", "unknown", "client.example.net"]
    assert len({event.pid for event in lab.events(Connected, lab.mail)}) == 1


@pytest.mark.faq("chroot-names", "13c")
def test_symptom_the_hosts_file_is_not_in_the_jail(lab: Lab) -> None:
    """The host calls its client by the name in /etc/hosts, Postfix by the one in the DNS."""
    lab.mail.write("/etc/hosts", f"{lab.client.address} friend.example.net\n")
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF, HOSTS)
    lab.mail.mistake.run("rm", lab.mail.jail.path(HOSTS))
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]
    assert host_knows(lab) == "friend.example.net"


@pytest.mark.faq("chroot-names", "13c")
@pytest.mark.parametrize("more", [(), ("/etc/nsswitch.conf",)], ids=["alone", "with-nsswitch"])
def test_cure_the_hosts_file_is_copied(lab: Lab, more: tuple[str, ...]) -> None:
    """With etc/hosts in the jail both agree; nsswitch.conf may, but need not, be there, too."""
    lab.mail.write("/etc/hosts", f"{lab.client.address} friend.example.net\n")
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.cure.jail.copy(HOSTS, *more)
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["friend.example.net"]


@pytest.mark.faq("chroot-names", "13d")
def test_symptom_a_copy_that_postfix_may_not_read_is_none(lab: Lab) -> None:
    """A resolv.conf that only root reads is passed over without a word."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.mistake.run("chmod", "0600", lab.mail.jail.path(RESOLV_CONF))
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["unknown"]
    assert not lab.events(Complaint, lab.mail)


@pytest.mark.faq("chroot-names", "13d")
def test_cure_a_copy_must_be_readable_for_all(lab: Lab) -> None:
    """With mode 0644 the same file serves."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.run("chmod", "0600", lab.mail.jail.path(RESOLV_CONF))
    lab.mail.cure.run("chmod", "0644", lab.mail.jail.path(RESOLV_CONF))
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]


NAMESERVER_OF_OLD = "# maillab\nnameserver 127.0.0.9\n"


@pytest.mark.faq("chroot-names", "13d")
def test_symptom_a_copy_gets_stale(lab: Lab) -> None:
    """The host has a new nameserver, the jail asks the old one."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.mistake.write(lab.mail.jail.path(RESOLV_CONF), NAMESERVER_OF_OLD)
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["unknown"]
    assert host_knows(lab) == "client.example.net"


@pytest.mark.faq("chroot-names", "13d")
def test_cure_a_stale_copy_is_made_anew(lab: Lab) -> None:
    """Whoever changes the host's resolv.conf has a second file to change."""
    all_but_resolv_conf(lab)
    lab.mail.write(lab.mail.jail.path(RESOLV_CONF), NAMESERVER_OF_OLD)
    lab.mail.cure.jail.copy(RESOLV_CONF)
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]


@pytest.mark.faq("chroot-names", "13d")
def test_behaviour_postfix_check_finds_a_stale_copy(lab: Lab) -> None:
    """Up to Debian 12 it warns that the files differ; since 13 it copies anew, and says so."""
    copy = lab.mail.jail.path(RESOLV_CONF)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.write(copy, NAMESERVER_OF_OLD)

    done = lab.mail.run("postfix", "check")

    differ = [event.text for event in lab.events(Complaint, lab.mail) if "differ" in event.text]
    if lab.version in FILLS_JAIL_ITSELF:
        assert f"updating {RESOLV_CONF} => /var/spool/postfix//etc/resolv.conf\n" in done.stdout
        assert not differ
        assert lab.mail.read(copy) == lab.mail.read(RESOLV_CONF)
    else:
        assert differ == [f"{copy} and {RESOLV_CONF} differ"]
        assert lab.mail.read(copy) == NAMESERVER_OF_OLD


@pytest.mark.faq("chroot-names", "13a")
@pytest.mark.parametrize(
    ("level", "name"), [("0", "unknown"), ("1", "client.example.net")], ids=["before-3.0", "now"]
)
def test_historic_the_jail_was_the_default_until_3_0(lab: Lab, level: str, name: str) -> None:
    """A "-" in the chroot column is a "y" only with compatibility_level 0."""
    lab.mail.jail.empty()
    lab.mail.run("postconf", "-F", "smtp/inet/chroot=-")
    # Level 0 has no relay restrictions, and smtpd(8) none of 2.10 then (SMTPD_ACCESS_README).
    lab.mail.configure(
        compatibility_level=level, smtpd_relay_restrictions="permit_mynetworks, reject"
    )

    connect(lab)

    assert clients(lab) == [name]


@pytest.mark.faq("chroot-names")
def test_behaviour_debian_ships_the_jail_until_14(lab: Lab) -> None:
    """The master.cf of the package says "y" for smtpd(8) up to Debian 13."""
    shipped = lab.mail.read("/usr/share/postfix/master.cf.dist") or ""

    rows = [line.split() for line in shipped.splitlines() if line.startswith("smtp ")]

    assert [row[4] for row in rows] == ["n" if lab.version == "3.11" else "y"] * 2


USERS = "unix:passwd.byname $alias_maps"


@pytest.mark.faq("chroot-names")
def test_symptom_users_cannot_be_looked_up_in_the_jail(lab: Lab) -> None:
    """Names of users are as far from the jail as names of hosts: it has no etc/passwd."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    lab.mail.misconfigure(local_recipient_maps=USERS)

    mail = lab.client.submit("joe@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(451, "4.3.0", saying="<joe@example.com>: Temporary lookup failure")


@pytest.mark.faq("chroot-names")
def test_cure_proxymap_looks_up_what_the_jail_has_not(lab: Lab) -> None:
    """proxy:unix:passwd.byname, the default, asks a daemon outside of the jail."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    lab.mail.configure(local_recipient_maps=USERS)
    lab.mail.cure.configure(local_recipient_maps=f"proxy:{USERS}")

    mail = lab.client.submit("joe@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")


# As systemd-resolved(8) does: asks on behalf of the host's programs. It listens once
# its parent has ended.
STUB = """
import os, socket, sys
stub = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stub.bind(("127.0.0.53", 53))
if os.fork():
    os._exit(0)
os.setsid()
os.dup2(os.open("/root/asked", os.O_WRONLY | os.O_CREAT), 1)
os.dup2(1, 2)
while True:
    query, program = stub.recvfrom(4096)
    os.write(1, b"asked\\n")
    with socket.create_connection((sys.argv[1], 53), 5) as nameserver:
        nameserver.sendall(len(query).to_bytes(2, "big") + query)
        length = int.from_bytes(nameserver.recv(2), "big")
        stub.sendto(nameserver.recv(length), program)
"""


@pytest.mark.faq("chroot-names")
def test_behaviour_a_stub_resolver_is_within_reach_of_the_jail(lab: Lab) -> None:
    """Where resolv.conf names 127.0.0.53 its copy is never stale: the network is not jailed."""
    nameserver = (lab.mail.read(RESOLV_CONF) or "").split("nameserver ")[1].split()[0]
    lab.mail.run("python3", "-c", STUB, nameserver)
    all_but_resolv_conf(lab)
    lab.mail.write(lab.mail.jail.path(RESOLV_CONF), "nameserver 127.0.0.53\n")
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]
    assert lab.mail.read("/root/asked") == "asked\nasked\n"
