"""Postfix logs SMTP clients as IP addresses.

A daemon with "y" in the chroot column of master.cf sees only the queue directory, so that
directory must contain readable copies of the files that the resolver reads. Copy
/etc/resolv.conf to /var/spool/postfix/etc/resolv.conf with mode 0644, or write "n" into
the column. Restart Postfix after that.

Without the copy the host resolves every name and Postfix none: clients are logged as
"unknown", and outgoing mail waits with "Host not found, try again". Debian 11 also needs
the library libnss_dns, and outgoing mail needs etc/services (see unknown-service).

Since the FAQ:
- 3.0: the default of the column is "n", unless compatibility_level is 0; Debian's
  master.cf says "y" up to release 13.
- glibc 2.34 (2021): of the files in the FAQ's list etc/resolv.conf is enough.
- Debian 11: configure-instance.sh fills the jail, at boot only.
- Debian 13: "postfix start" and "postfix check" fill the jail.
"""

import pytest

from maillab import Complaint, Connected, Lab

pytestmark = pytest.mark.topology("standalone")

IN, OUT = "smtp/inet", "smtp/unix"
RESOLV_CONF, HOSTS = "/etc/resolv.conf", "/etc/hosts"


def clients(lab: Lab) -> list[str]:
    """Return the client names that smtpd(8) logged, in order."""
    return [event.client_name for event in lab.events(Connected, lab.mail)]


def connect(lab: Lab) -> None:
    """Open and close one session from the outside client."""
    with lab.client.session(lab.mail) as session:
        session.quit()


def host_knows(lab: Lab) -> str:
    """Return the client's name as every program on the host except Postfix finds it."""
    return lab.mail.run("getent", "hosts", lab.client.address).stdout.split()[1]


def all_but_resolv_conf(lab: Lab) -> None:
    """Fill the jail with everything except resolv.conf."""
    lab.mail.jail.empty()
    lab.mail.jail.copy("/etc/services")
    if not lab.has("no libnss_dns needed"):
        lab.mail.jail.copy_library("libnss_dns")


@pytest.mark.faq("chroot-names", "13a")
def test_symptom_clients_have_no_name_in_an_empty_jail(lab: Lab) -> None:
    """The host resolves the client's name; smtpd(8) does not, and logs no warning."""
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
    """Without a resolv.conf smtp(8) queries its own host, and defers the mail."""
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
    """With a readable etc/resolv.conf, and on Debian 11 libnss_dns, names are back."""
    lab.mail.jail.empty()
    lab.mail.cure.jail.copy(RESOLV_CONF)
    if not lab.has("no libnss_dns needed"):
        lab.mail.cure.jail.copy_library("libnss_dns")
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]


@pytest.mark.faq("chroot-names", "13b")
def test_cure_resolv_conf_in_the_jail_sends_what_waited(lab: Lab) -> None:
    """Deferred mail leaves after a restart and a flush."""
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
    """With "n" in the chroot column Postfix reads the host's own files."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    lab.mail.cure.jail.let_out(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]


@pytest.mark.faq("chroot-names", "13b")
def test_behaviour_resolv_conf_alone_is_enough_since_glibc_2_34(lab: Lab) -> None:
    """Before glibc 2.34 the jail also needs the library libnss_dns."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)

    lab.mail.cure.jail.copy(RESOLV_CONF)
    connect(lab)
    lab.mail.cure.jail.copy_library("libnss_dns")
    lab.mail.restart()
    connect(lab)

    alone = "client.example.net" if lab.has("no libnss_dns needed") else "unknown"
    assert clients(lab) == [alone, "client.example.net"]


@pytest.mark.faq("chroot-names", "13b")
def test_cure_debian_fills_the_jail(lab: Lab) -> None:
    """configure-instance.sh fills the jail in Debian 11 and 12; "postfix check" since 13."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    lab.mail.stop()
    if lab.has("postfix start fills the jail"):
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
    """Since Debian 13 "postfix start" fills the jail; "postfix reload" still does not."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    if command == "start":
        lab.mail.stop()
    lab.mail.run("postfix", command)

    connect(lab)

    filled = fills_since_13 and lab.has("postfix start fills the jail")
    assert clients(lab) == ["client.example.net" if filled else "unknown"]


@pytest.mark.faq("chroot-names", "13a", "13b")
def test_behaviour_a_running_daemon_notices_at_once(lab: Lab) -> None:
    """The resolver checks resolv.conf for changes (glibc 2.26): no restart is needed."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.jail.lock_in(IN)

    connect(lab)
    lab.mail.mistake.run("rm", lab.mail.jail.path(RESOLV_CONF))
    connect(lab)
    lab.mail.cure.jail.copy(RESOLV_CONF)
    connect(lab)

    assert clients(lab) == ["client.example.net", "unknown", "client.example.net"]
    assert len({event.pid for event in lab.events(Connected, lab.mail)}) == 1


@pytest.mark.faq("chroot-names", "13c")
def test_symptom_the_hosts_file_is_not_in_the_jail(lab: Lab) -> None:
    """The host uses the client's name from /etc/hosts, Postfix the one from DNS."""
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
    """With etc/hosts in the jail both names agree, with or without nsswitch.conf."""
    lab.mail.write("/etc/hosts", f"{lab.client.address} friend.example.net\n")
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.cure.jail.copy(HOSTS, *more)
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["friend.example.net"]


@pytest.mark.faq("chroot-names", "13d")
def test_symptom_a_copy_that_postfix_may_not_read_is_none(lab: Lab) -> None:
    """Postfix silently ignores a resolv.conf that only root can read."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.mistake.run("chmod", "0600", lab.mail.jail.path(RESOLV_CONF))
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["unknown"]
    assert not lab.events(Complaint, lab.mail)


@pytest.mark.faq("chroot-names", "13d")
def test_cure_a_copy_must_be_readable_for_all(lab: Lab) -> None:
    """Mode 0644 makes the same file work."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.run("chmod", "0600", lab.mail.jail.path(RESOLV_CONF))
    lab.mail.cure.run("chmod", "0644", lab.mail.jail.path(RESOLV_CONF))
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]


@pytest.mark.faq("chroot-names", "13d")
def test_symptom_a_directory_that_postfix_may_not_search_hides_the_copy(lab: Lab) -> None:
    """With mode 0700 on the jail's etc a readable resolv.conf in it does not help."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.mistake.run("chmod", "0700", lab.mail.jail.path("/etc"))
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["unknown"]
    assert not lab.events(Complaint, lab.mail)


@pytest.mark.faq("chroot-names", "13d")
def test_cure_directories_can_be_searched_by_all(lab: Lab) -> None:
    """With mode 0755, as the FAQ requires, Postfix reads the copy."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.run("chmod", "0700", lab.mail.jail.path("/etc"))
    lab.mail.cure.run("chmod", "0755", lab.mail.jail.path("/etc"))
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]


def not_roots(lab: Lab) -> list[str]:
    """Return the paths that "postfix check" reports as not owned by root."""
    # Takes some seconds, and many on a busy machine.
    lab.mail.run("postfix", "check", timeout_s=120)
    texts = [event.text for event in lab.events(Complaint, lab.mail)]
    return sorted(text.split()[-1] for text in texts if text.startswith("not owned by root"))


@pytest.mark.faq("chroot-names", "13d")
def test_symptom_the_copies_belong_to_another_user(lab: Lab) -> None:
    """If the user postfix owns the copies, a daemon can change them: "postfix check" warns."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    folder, copy = lab.mail.jail.path("/etc"), lab.mail.jail.path(RESOLV_CONF)
    lab.mail.mistake.run("chown", "postfix", folder, copy)

    assert not_roots(lab) == [folder, copy]


@pytest.mark.faq("chroot-names", "13d")
def test_cure_the_copies_belong_to_root(lab: Lab) -> None:
    """If root owns the copies, "postfix check" logs no warning."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    both = lab.mail.jail.path("/etc"), lab.mail.jail.path(RESOLV_CONF)
    lab.mail.run("chown", "postfix", *both)
    lab.mail.cure.run("chown", "root", *both)

    assert not_roots(lab) == []


NAMESERVER_OF_OLD = "# maillab\nnameserver 127.0.0.9\n"


@pytest.mark.faq("chroot-names", "13d")
def test_symptom_a_copy_gets_stale(lab: Lab) -> None:
    """The host uses the new nameserver, and the jail still queries the old one."""
    all_but_resolv_conf(lab)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.mistake.write(lab.mail.jail.path(RESOLV_CONF), NAMESERVER_OF_OLD)
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["unknown"]
    assert host_knows(lab) == "client.example.net"


@pytest.mark.faq("chroot-names", "13d")
def test_cure_a_stale_copy_is_made_again(lab: Lab) -> None:
    """After a change to the host's resolv.conf a new copy gives clients their names again."""
    all_but_resolv_conf(lab)
    lab.mail.write(lab.mail.jail.path(RESOLV_CONF), NAMESERVER_OF_OLD)
    lab.mail.cure.jail.copy(RESOLV_CONF)
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]


@pytest.mark.faq("chroot-names", "13d")
def test_behaviour_postfix_check_finds_a_stale_copy(lab: Lab) -> None:
    """Up to 3.7 "postfix check" warns of a difference; Debian's later packages update the copy."""
    copy = lab.mail.jail.path(RESOLV_CONF)
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.mistake.write(copy, NAMESERVER_OF_OLD)
    lab.mail.run("touch", "-d", "1 hour ago", copy)

    before = lab.mail.read(copy)
    done = lab.mail.run("postfix", "check")
    after = lab.mail.read(copy)

    differ = [event.text for event in lab.events(Complaint, lab.mail) if "differ" in event.text]
    if lab.has("postfix start fills the jail"):
        printed = f"updating {RESOLV_CONF} => /var/spool/postfix//etc/resolv.conf\n" in done.stdout
        assert printed is lab.has("postfix check prints what it updates")
        assert not differ
        assert after == lab.mail.read(RESOLV_CONF)
        assert after != before
    else:
        assert differ == [f"{copy} and {RESOLV_CONF} differ"]
        assert after == NAMESERVER_OF_OLD


@pytest.mark.faq("chroot-names", "13a")
@pytest.mark.parametrize(
    ("level", "name"), [("0", "unknown"), ("1", "client.example.net")], ids=["before-3.0", "now"]
)
def test_historic_the_jail_was_the_default_until_3_0(lab: Lab, level: str, name: str) -> None:
    """A "-" in the chroot column means "y" only with compatibility_level 0."""
    lab.mail.jail.empty()
    lab.mail.run("postconf", "-F", "smtp/inet/chroot=-")
    # Level 0 has no relay restrictions by default (SMTPD_ACCESS_README).
    lab.mail.configure(
        compatibility_level=level, smtpd_relay_restrictions="permit_mynetworks, reject"
    )

    connect(lab)

    assert clients(lab) == [name]


@pytest.mark.faq("chroot-names")
def test_behaviour_debian_ships_the_jail_until_14(lab: Lab) -> None:
    """Debian's master.cf says "y" for smtpd(8) up to release 13."""
    shipped = lab.mail.read("/usr/share/postfix/master.cf.dist") or ""

    rows = [line.split() for line in shipped.splitlines() if line.startswith("smtp ")]

    assert [row[4] for row in rows] == ["n" if lab.has("no jail in master.cf") else "y"] * 2


@pytest.mark.topology("as-installed")
@pytest.mark.faq("chroot-names", "13a")
def test_behaviour_as_installed_clients_have_names(lab: Lab) -> None:
    """As Debian installs it Postfix logs names; up to Debian 13 an emptied jail costs them.

    Debian fills the jail before Postfix starts. Since Debian 14 smtpd(8) runs outside the
    jail.
    """
    connect(lab)
    lab.mail.jail.empty()
    lab.mail.restart()
    connect(lab)

    outside = lab.has("no jail in master.cf")
    assert clients(lab) == ["client.example.net", "client.example.net" if outside else "unknown"]


USERS = "unix:passwd.byname $alias_maps"


@pytest.mark.faq("chroot-names")
def test_symptom_users_cannot_be_looked_up_in_the_jail(lab: Lab) -> None:
    """The jail has no etc/passwd, so user lookups fail as host lookups do."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    lab.mail.misconfigure(local_recipient_maps=USERS)

    mail = lab.client.smtp("joe@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(451, "4.3.0", saying="<joe@example.com>: Temporary lookup failure")


@pytest.mark.faq("chroot-names")
def test_cure_proxymap_looks_up_what_the_jail_has_not(lab: Lab) -> None:
    """proxy:unix:passwd.byname, the default, asks a daemon outside the jail."""
    lab.mail.jail.empty()
    lab.mail.jail.lock_in(IN)
    lab.mail.configure(local_recipient_maps=USERS)
    lab.mail.cure.configure(local_recipient_maps=f"proxy:{USERS}")

    mail = lab.client.smtp("joe@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")


# Forwards queries for the host's programs, as systemd-resolved(8) does. The stub
# listens by the time its parent exits.
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
    """A resolv.conf with 127.0.0.53 never goes stale: the jail shares the host's network."""
    nameserver = (lab.mail.read(RESOLV_CONF) or "").split("nameserver ")[1].split()[0]
    lab.mail.run("python3", "-c", STUB, nameserver)
    all_but_resolv_conf(lab)
    lab.mail.cure.write(lab.mail.jail.path(RESOLV_CONF), "nameserver 127.0.0.53\n")
    lab.mail.jail.lock_in(IN)

    connect(lab)

    assert clients(lab) == ["client.example.net"]
    assert lab.mail.read("/root/asked") == "asked\nasked\n"
