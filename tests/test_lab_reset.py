"""A lab that was used is as it was, or is not used again. Needs an engine."""

from __future__ import annotations

import pytest

from maillab import lab as labs
from maillab.engine import compose
from maillab.engine.client import connect
from maillab.errors import HostGone, LabError
from maillab.lab import Lab
from maillab.labs import Labs

pytestmark = pytest.mark.xdist_group("labs")


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


def test_a_new_lab_has_kept_every_host_before_mail_can_reach_it(lab: Lab) -> None:
    """Else mail from another host would be part of what every reset puts back."""
    new = labs.start(lab.topology, lab.version)
    try:
        kept = {
            host.name: connect()
            .containers.get(host.channel.container)
            .exec_run(["test", "-s", "/run/maillab/baseline"])
            .exit_code
            for host in new.mail_hosts
        }
    finally:
        new.down()

    assert kept == dict.fromkeys(kept, 0)


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


def test_mail_of_an_earlier_scenario_is_told_from_this_ones(lab: Lab) -> None:
    """A lab that was not put back whole gives no verdict."""
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)
    lab.conclude()
    lab.reset()
    left_behind = f"Message-ID: {mail.message_id}\n\nstill here\n"
    lab.sender.run("sendmail", "alice@example.org", stdin=left_behind)
    lab.settle(until=lambda: lab.primary.mailbox("alice"))

    with pytest.raises(LabError, match=f"mail of an earlier scenario came: {mail.message_id}"):
        lab.conclude()


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


def test_a_host_that_goes_away_is_named_in_one_line(some_labs: Labs, lab: Lab) -> None:
    """A container removed under our hands is an error of the lab, not of Postfix."""
    connect().containers.get(lab.project.containers["victim"]).remove(force=True)

    with pytest.raises(HostGone, match="victim") as error:
        lab.victim.run("true")

    assert "\n" not in str(error.value)
    some_labs.discard(lab)
