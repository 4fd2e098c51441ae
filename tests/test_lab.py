"""A lab as its users have it: waiting, reset, bad input, isolation. Needs an engine."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import psutil
import pytest

from maillab import lab as labs
from maillab import topology
from maillab.engine import compose
from maillab.engine.client import connect
from maillab.errors import (
    BadTable,
    CommandFailed,
    HostGone,
    LabError,
    NoSubnet,
    TimedOut,
    UnknownName,
)
from maillab.faults import Greeting, Paused
from maillab.lab import Lab
from maillab.labs import Labs
from maillab.maillog import Event

pytestmark = pytest.mark.xdist_group("labs")


@pytest.fixture(scope="module")
def some_labs() -> Iterator[Labs]:
    running = Labs()
    yield running
    running.close()


@pytest.fixture
def lab(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    version = request.config.option.postfix
    return some_labs.get(topology.load("backup-mx"), version)


def digests(lab: Lab) -> dict[str, object]:
    return {host.name: host.channel.call("digest") for host in lab.mail_hosts}


def make_a_mess(lab: Lab) -> None:
    """Change everything that a scenario may."""
    host = lab.sender
    host.configure(smtp_skip_5xx_greeting="no", relayhost="[primary.example.org]")
    host.aliases({"list": "alice, bob"})
    host.table("transport", {"example.com": "error:5.1.2 not there"})
    host.service("submission inet n - n - - smtpd")
    host.user("zoe")
    host.write("/usr/local/bin/filter", "#!/bin/sh\n", mode=0o755)
    host.write("/home/alice/.forward", "bob\n", owner="alice")
    host.write("/etc/hosts", "127.0.0.1 localhost elsewhere\n")
    host.run("ln", "-sf", "/etc/passwd", "/etc/aliases.link")
    host.run("chmod", "700", "/var/mail")
    host.run("chmod", "755", "/var/mail")
    host.run("rm", "-r", "/home/joe", "/etc/postfix/dynamicmaps.cf")
    host.run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
    host.send("bob", user="alice")
    lab.primary.stop()
    lab.sender.send("alice@example.org")
    lab.victim.send("joe", user="bob")
    # Last, since nobody can send mail without them.
    host.run("chmod", "u+s", "/usr/sbin/sendmail")
    host.run("chmod", "g-s", "/usr/sbin/postdrop", "/usr/sbin/postqueue")


def test_reset_makes_every_host_what_it_was(lab: Lab) -> None:
    """Configuration, tables, users, files, mailboxes, queue and processes: all as before."""
    before = digests(lab)
    make_a_mess(lab)
    lab.settle()
    messy = digests(lab)

    lab.reset()

    after = digests(lab)
    changed = {
        path
        for path in {*before["sender"]["paths"], *messy["sender"]["paths"]}  # type: ignore[index]  # JSON
        if before["sender"]["paths"].get(path) != messy["sender"]["paths"].get(path)  # type: ignore[index]  # JSON
    }
    assert {"/etc/postfix/main.cf", "/etc/passwd", "/home/joe", "/var/mail/bob"} <= changed
    assert {"/usr/sbin/sendmail", "/usr/sbin/postdrop", "/usr/sbin/postqueue"} <= changed
    for name, was in before.items():
        assert was["paths"] == after[name]["paths"], name  # type: ignore[index]  # JSON
        assert "sleep" not in after[name]["processes"], name  # type: ignore[index]  # JSON


def test_reset_lifts_faults_and_forgets_mail(lab: Lab) -> None:
    """A fault that was never lifted and mail of the scenario before are gone."""
    lab.primary.agent.call("smtp_fault_start", stage="greeting", reply="554 stays")
    lab.sender.send("alice@example.org")
    lab.settle()

    lab.reset()
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, "alice")
    assert len(lab.record.submissions) == 1
    assert len(lab.primary.mailbox("alice")) == 1


def test_only_hosts_to_which_something_happened_are_started_anew(lab: Lab) -> None:
    """Whose mail passed by is stopped before the accounts are done; the bystander goes on."""

    def masters() -> dict[str, str | None]:
        return {host.name: host.read("/var/spool/postfix/pid/master.pid") for host in (
            lab.sender, lab.primary, lab.victim,
        )}  # fmt: skip

    before = masters()
    lab.sender.send("alice@example.org")
    lab.settle()
    lab.conclude()
    running = {host.name for host in lab.mail_hosts if host.channel.call("queue_files")["running"]}
    lab.reset()
    after = masters()

    assert running == {"backup", "victim"}
    assert {name for name in before if before[name] != after[name]} == {"sender", "primary"}


def test_what_left_no_line_in_the_log_is_put_back_all_the_same(lab: Lab) -> None:
    """A command is enough to make a host one that is not left as it is."""
    lab.victim.run("touch", "/etc/postfix/left-behind")
    lab.conclude()

    lab.reset()

    assert lab.victim.run("ls", "/etc/postfix/left-behind", check=False).status


def test_what_cannot_be_put_back_discards_the_lab(some_labs: Labs, lab: Lab) -> None:
    """A difference that reset cannot explain makes the next test get another lab."""
    lab.victim.run("sh", "-c", "echo stuck >/etc/stuck")
    lab.victim.channel.call("write", path="/opt/maillab/machine.py", content="raise SystemExit\n")
    connect().containers.get(lab.project.containers["victim"]).kill()

    other = some_labs.get(lab.topology, lab.version)

    assert other.project.name != lab.project.name
    assert lab.project.name not in compose.projects()


def test_two_labs_of_one_topology_never_meet(lab: Lab) -> None:
    """Mail of one lab is not seen in the other, though all names are the same."""
    other = labs.start(lab.topology, lab.version)
    try:
        ours = lab.sender.send("alice@example.org")
        theirs = other.sender.send("bob@example.org")
        lab.settle(ours)
        other.settle(theirs)

        assert ours.delivered_to(lab.primary, "alice")
        assert theirs.delivered_to(other.primary, "bob")
        assert not lab.primary.mailbox("bob")
        assert not other.primary.mailbox("alice")
    finally:
        other.down()


@pytest.mark.parametrize("name", topology.names())
def test_nothing_in_a_lab_reaches_anything_outside(
    name: str, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """Neither the engine's host, at any of its addresses, nor anything beyond it."""
    reached = threading.Event()
    with socket.create_server(("0.0.0.0", 0)) as listener:  # noqa: S104  # the attempt must be able to succeed
        port = listener.getsockname()[1]
        threading.Thread(target=_accept, args=(listener, reached), daemon=True).start()
        lab = some_labs.get(topology.load(name), request.config.option.postfix)
        own = {
            address.address
            for interface in psutil.net_if_addrs().values()
            for address in interface
            if address.family == socket.AF_INET and not address.address.startswith("127.")
        }
        gateways = {f"{lab.project.net}.{number}" for number in (1, 129)}
        outside = "192.0.2.1"
        for host in lab.hosts.values():
            assert not host.agent.call("run", argv=["ip", "route", "show", "default"])["stdout"]
            for address in {*own, *gateways, outside}:
                tried = host.agent.call(
                    "run",
                    argv=["python3", "-c", _CONNECT, address, str(port)],
                )
                assert tried["stdout"].strip() != "connected", (host.name, address)
        assert not reached.is_set()


_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.3)
    print("connected")
except OSError as error:
    print(error)
"""


def _accept(listener: socket.socket, reached: threading.Event) -> None:
    with contextlib.suppress(OSError):
        listener.accept()
        reached.set()


@pytest.mark.parametrize("name", topology.names())
def test_names_come_from_the_labs_dns_forward_and_reverse(
    name: str, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """Every host finds every other by name and by address; other names do not exist."""
    lab = some_labs.get(topology.load(name), request.config.option.postfix)
    asker = lab.mail_hosts[0]
    for host in lab.hosts.values():
        forward = asker.run("getent", "ahostsv4", host.fqdn).stdout.split()
        assert forward[0] in host.addresses
        for address in host.addresses:
            backward = asker.run("getent", "hosts", address).stdout.split()
            assert backward[1].endswith(host.fqdn)
    assert asker.run("getent", "ahostsv4", "debian.org", check=False).status == 2
    assert asker.run("getent", "ahostsv4", "primary-net", check=False).status == 2


def test_settle_that_times_out_shows_the_journey_and_the_log(lab: Lab) -> None:
    """The error names the message's last state and the tail of the log."""
    mail = lab.sender.send("alice@example.org")

    with pytest.raises(TimedOut) as error:
        lab.wait_for(Event, saying="never said", within_s=0.2)

    assert "never said" in str(error.value)
    assert "last log lines" in str(error.value)
    lab.settle(mail)


def test_a_step_after_another_in_an_smtp_session(lab: Lab) -> None:
    """Each step is the scenario's, and its reply is kept with both its codes."""
    with lab.sender.session(lab.primary) as session:
        session.ehlo()
        session.mail("bob@example.net")
        refused = session.rcpt("nosuch@example.org")
        session.quit()

    assert (refused.code, refused.dsn) == (550, "5.1.1")
    assert [reply.code for _, reply in session.replies] == [220, 250, 250, 550, 221]


def test_the_queue_is_data(lab: Lab) -> None:
    """What waits is listed with its queue, recipients and reasons."""
    lab.primary.stop()
    lab.backup.stop()
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)

    (entry,) = lab.sender.queue()

    assert (entry.queue, entry.recipients) == ("deferred", ("alice@example.org",))
    assert "Connection refused" in entry.reasons[0]


def test_a_parameter_postfix_does_not_have_is_refused_and_left_out(lab: Lab) -> None:
    """The error names it, and main.cf stays what it was."""
    before = lab.sender.read("/etc/postfix/main.cf")

    with pytest.raises(UnknownName, match="smtp_skip_4xx_greeting"):
        lab.sender.configure(smtp_skip_4xx_greeting="no")

    assert lab.sender.read("/etc/postfix/main.cf") == before


def test_a_parameter_that_others_define_is_taken(lab: Lab) -> None:
    """Restriction classes and transports bring parameters of their own."""
    lab.sender.configure(smtpd_restriction_classes="local_only", local_only="reject")

    assert lab.sender.postconf("local_only") == "reject"


@pytest.mark.parametrize("kind", ["", "lmdb", "texthash", "regexp", "pcre", "cidr", "inline"])
def test_tables_of_every_kind_answer(kind: str, lab: Lab) -> None:
    """A table is written, built and found by the name that main.cf takes."""
    key = {"regexp": "/^key$/", "pcre": "/^key$/", "cidr": "192.0.2.0/24"}.get(kind, "key")
    asked = "192.0.2.7" if kind == "cidr" else "key"

    table = lab.sender.table("some", {key: "value"}, kind)

    assert lab.sender.run("postmap", "-q", asked, table).stdout.strip() == "value"


def test_a_table_that_changes_at_once_is_noticed_at_once(lab: Lab) -> None:
    """By a server that has it open, with no reload, though Postfix counts in whole seconds."""
    access = lab.primary.table("access", {"x@example.net": "550 not you"})
    lab.primary.configure(smtpd_sender_restrictions=f"check_sender_access {access}")

    before = lab.sender.submit("alice@example.org", server=lab.primary, sender="y@example.net")
    kind = access.partition(":")[0]
    lab.primary.write("/etc/postfix/access", "y@example.net 550 not you\n")
    lab.primary.run("postmap", f"{kind}:/etc/postfix/access")
    after = lab.sender.submit("alice@example.org", server=lab.primary, sender="y@example.net")
    lab.settle(before, after)

    assert before.delivered_to(lab.primary, "alice")
    assert after.rejected(550, "5.7.1")


@pytest.mark.parametrize(
    ("kind", "text"), [("", "no value here\nkey\n"), ("pcre", "/(/ x\n"), ("cidr", "no-net x\n")]
)
def test_a_table_that_does_not_build_is_named(kind: str, text: str, lab: Lab) -> None:
    """Postmap's complaint reaches the scenario, with the file's name."""
    with pytest.raises(BadTable, match="/etc/postfix/broken"):
        lab.sender.table("broken", text, kind)


def test_an_unknown_kind_of_table_lists_those_there_are(lab: Lab) -> None:
    """The version's own list is in the error."""
    with pytest.raises(UnknownName, match="regexp"):
        lab.sender.table("some", {"a": "b"}, "punchcards")


def test_an_unknown_host_lists_those_there_are(lab: Lab) -> None:
    """The error names the roles of the topology."""
    with pytest.raises(AttributeError, match="primary"):
        _ = lab.primray


def test_a_failing_command_says_what_it_said(lab: Lab) -> None:
    """Status and standard error are in the error."""
    with pytest.raises(CommandFailed, match=r"status 1: .*No such file"):
        lab.sender.run("rm", "/does/not/exist")


def test_a_command_that_takes_longer_than_it_may_is_ended(lab: Lab) -> None:
    """The bound is the command's, and nothing of it is left."""
    with pytest.raises(CommandFailed, match=r"killed after 0\.2 s"):
        lab.sender.run("sleep", "4711", timeout_s=0.2)

    assert lab.sender.run("pgrep", "-f", "sleep 4711", check=False).stdout == ""


def test_a_session_waits_for_a_greeting_as_long_as_it_is_told(lab: Lab) -> None:
    """A server that takes the connection and says nothing has code 0."""
    with lab.primary.faulty(Paused()):
        session = lab.sender.session(lab.primary, timeout_s=0.5)

    assert session.greeting.code == 0
    assert "Timeout" in session.greeting.text


def test_daemons_go_into_the_jail_and_come_out(lab: Lab) -> None:
    """The row says so, a file of the host is there, and all is emptied and reset."""
    jail = lab.sender.jail
    before = digests(lab)

    jail.empty()
    jail.copy("/etc/services")
    jail.copy_library("libresolv")
    jail.lock_in("smtp/inet")
    locked_in = lab.sender.run("postconf", "-Fh", "smtp/inet/chroot").stdout
    services = lab.sender.read(jail.path("/etc/services"))
    jail.let_out("smtp/inet")
    let_out = lab.sender.run("postconf", "-Fh", "smtp/inet/chroot").stdout
    jail.empty()

    assert (locked_in, let_out) == ("y\n", "n\n")
    assert services == lab.sender.read("/etc/services")
    assert lab.sender.read(jail.path("/etc/services")) is None
    lab.reset()
    assert digests(lab) == before


def test_a_configuration_that_master_refuses_is_named(lab: Lab) -> None:
    """The last words of the log are in the error, and reset repairs the host."""
    with pytest.raises(LabError, match="inet_interfaces"):
        lab.sender.configure(inet_interfaces="192.0.2.99")

    lab.reset()
    lab.settle(lab.sender.send("alice@example.org"))


def test_a_greeting_counts_the_clients_it_greeted(lab: Lab) -> None:
    """The witness is the number of clients, and the server behind is back afterwards."""
    with lab.primary.faulty(Greeting("421 busy")):
        greeted = [lab.sender.session(lab.primary) for _ in range(3)]
    with lab.sender.session(lab.primary) as after:
        pass

    assert [session.greeting.code for session in greeted] == [421] * 3
    assert after.greeting.code == 220
    assert [witness.count for witness in lab.record.witnesses] == [3]


def test_a_host_that_goes_away_is_named_in_one_line(some_labs: Labs, lab: Lab) -> None:
    """A container removed under our hands is an error of the lab, not of Postfix."""
    connect().containers.get(lab.project.containers["victim"]).remove(force=True)

    with pytest.raises(HostGone, match="victim") as error:
        lab.victim.run("true")

    assert "\n" not in str(error.value)
    some_labs.discard(lab)


def test_a_taken_subnet_makes_a_lab_take_the_next(lab: Lab) -> None:
    """The pool is walked; only when all of it is taken there is an error, and nothing left."""
    net = lab.project.net
    # Few, but more than the labs of runs beside this one may take of them.
    pool_of_eight = f"{net.rsplit('.', 1)[0]}.{int(net.rsplit('.', 1)[1]) & ~7}.0/21"
    other = labs.start(lab.topology, lab.version, pool=pool_of_eight)
    try:
        before = set(compose.projects())
        with pytest.raises(NoSubnet, match="maillab sweep"):
            labs.start(lab.topology, lab.version, pool=f"{other.project.net}.0/24")
        assert set(compose.projects()) <= before
    finally:
        other.down()
