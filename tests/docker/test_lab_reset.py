"""A used lab is restored, or not used again. Needs an engine."""

from __future__ import annotations

from typing import Any

import pytest

from maillab.engine import compose
from maillab.engine.client import connect
from maillab.errors import HostGone, LabError
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.mail.maillog import Started, Stopped
from maillab.site import topology


def digests(lab: Lab) -> dict[str, dict[str, Any]]:
    return {host.name: host.channel.call("digest") for host in lab.mail_hosts}


def make_a_mess(lab: Lab) -> None:
    """Change everything that a scenario may change."""
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
    # Last, because users cannot send mail without these bits.
    host.run("chmod", "u+s", "/usr/sbin/sendmail")
    host.run("chmod", "g-s", "/usr/sbin/postdrop", "/usr/sbin/postqueue")


def test_reset_restores_every_host(lab: Lab) -> None:
    """Configuration, tables, users, files, mailboxes, queue and processes are restored."""
    before = digests(lab)
    make_a_mess(lab)
    lab.settle()
    messy = digests(lab)

    lab.reset()

    after = digests(lab)
    changed = {
        path
        for path in {*before["sender"]["paths"], *messy["sender"]["paths"]}
        if before["sender"]["paths"].get(path) != messy["sender"]["paths"].get(path)
    }
    assert {"/etc/postfix/main.cf", "/etc/passwd", "/home/joe", "/var/mail/bob"} <= changed
    assert {"/usr/sbin/sendmail", "/usr/sbin/postdrop", "/usr/sbin/postqueue"} <= changed
    for name, was in before.items():
        assert was["paths"] == after[name]["paths"], name
        assert "sleep" not in after[name]["processes"], name


def test_a_new_lab_has_kept_every_host_before_mail_can_reach_it(lab: Lab) -> None:
    """Otherwise the baseline could contain another host's mail."""
    new = labs.start(lab.topology, lab.requested_version)
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
    """A reset removes a fault left in force, and the earlier scenario's mail."""
    lab.primary.agent.call("smtp_fault_start", stage="greeting", reply="554 stays")
    lab.sender.send("alice@example.org")
    lab.settle()

    lab.reset()
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, "alice")
    assert len(lab.scenario.submissions) == 1
    assert len(lab.primary.mailbox("alice")) == 1


def test_mail_of_an_earlier_scenario_is_distinguished(lab: Lab) -> None:
    """A lab that was not completely restored gives no verdict."""
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)
    lab.conclude()
    lab.reset()
    left_behind = f"Message-ID: {mail.message_id}\n\nstill here\n"
    lab.sender.run("sendmail", "alice@example.org", stdin=left_behind)
    lab.settle(until=lambda: lab.primary.mailbox("alice"))

    with pytest.raises(LabError, match=f"mail of an earlier scenario arrived: {mail.message_id}"):
        lab.conclude()


def test_only_hosts_to_which_something_happened_are_restarted(lab: Lab) -> None:
    """Hosts that handled mail are stopped before the accounts; a bystander keeps running."""

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


def test_changes_without_a_log_line_are_restored(lab: Lab) -> None:
    """Any command makes a host one that a reset restores."""
    lab.victim.run("touch", "/etc/postfix/left-behind")
    lab.conclude()

    lab.reset()

    assert lab.victim.run("ls", "/etc/postfix/left-behind", check=False).status


def test_a_change_after_many_resets_is_undone(lab: Lab) -> None:
    """A reset reads a folder again after a change, however many resets did not touch it."""
    for _ in range(3):
        lab.victim.run("true")
        lab.conclude()
        lab.reset()
    before = lab.victim.channel.call("digest")["paths"]
    lab.victim.run("touch", "/etc/postfix/planted", "/home/joe/planted")
    lab.victim.run("sh", "-c", "echo planted >>/etc/dovecot/dovecot.conf")
    lab.victim.run("rm", "/etc/postfix/dynamicmaps.cf")
    lab.conclude()

    lab.reset()

    assert lab.victim.channel.call("digest")["paths"] == before


def test_settings_start_each_server_once_and_before_mail_from_elsewhere(lab: Lab) -> None:
    """After a reset by the pool Postfix starts at the first request that is not a setting."""
    lab.sender.send("alice@example.org")
    lab.settle()
    lab.conclude()
    lab.reset(start=False)

    lab.primary.configure(mynetworks="127.0.0.0/8")
    lab.primary.aliases({"list": "alice, bob"})
    lab.primary.configure(smtpd_recipient_restrictions="reject")
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)

    assert mail.bounced(saying="Access denied")
    assert [event.host for event in lab.events(Started)].count("primary") == 1
    assert not lab.events(Stopped, lab.primary)


def test_a_reset_leaves_every_server_running(lab: Lab) -> None:
    """The servers that are due start before the engine is asked for a container."""
    lab.sender.send("alice@example.org")
    lab.settle()
    lab.conclude()

    lab.reset()

    sender = connect().containers.get(lab.project.containers["sender"])
    assert sender.exec_run(["bash", "-c", "read banner </dev/tcp/127.0.0.1/25"]).exit_code == 0


def test_a_start_that_fails_names_the_settings_since_the_last_start(lab: Lab) -> None:
    """The settings are at other lines than the request that needs the server."""
    lab.primary.configure(smtpd_banner="$myhostname ESMTP")
    lab.primary.configure(inet_interfaces="nowhere.invalid")

    with pytest.raises(LabError, match="master does not start") as raised:
        lab.sender.send("alice@example.org")

    assert str(raised.value).count("test_lab_reset.py:") == 2
    assert "(configure inet_interfaces)" in str(raised.value)


def test_a_host_that_cannot_be_restored_discards_the_lab(some_labs: Labs, lab: Lab) -> None:
    """If a reset cannot restore a host, the next test gets another lab."""
    lab.victim.run("sh", "-c", "echo stuck >/etc/stuck")
    lab.victim.channel.call("write", path="/opt/maillab/machine.py", content="raise SystemExit\n")
    connect().containers.get(lab.project.containers["victim"]).kill()

    other = some_labs.get(lab.topology, lab.requested_version)

    assert other.project.name != lab.project.name
    assert lab.project.name not in compose.projects()


def test_daemons_go_into_the_jail_and_come_out(lab: Lab) -> None:
    """The row changes, the host's file is copied, and a reset restores everything."""
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
    """The error has master's own words, and a reset repairs the host."""
    lab.sender.configure(inet_interfaces="192.0.2.99")
    with pytest.raises(LabError, match="inet_interfaces"):
        lab.catch_up()

    lab.reset()
    lab.settle(lab.sender.send("alice@example.org"))


def test_a_host_that_disappears_is_named_in_one_line(some_labs: Labs, lab: Lab) -> None:
    """A removed container is a lab error, not a Postfix failure."""
    connect().containers.get(lab.project.containers["victim"]).remove(force=True)

    with pytest.raises(HostGone, match="victim") as error:
        lab.victim.run("true")

    assert "\n" not in str(error.value)
    some_labs.discard(lab)


def run_in(lab: Lab, service: str, script: str) -> str:
    """Run a script in a container without the harness, as a user with the engine may."""
    container = connect().containers.get(lab.project.containers[service])
    output = container.exec_run(["sh", "-c", script]).output
    assert isinstance(output, bytes)
    return output.decode()


# Lists the files in folders that programs write to, with checksums.
FILES = """
find /dev/shm /etc /home /media /mnt /opt /root /run /srv /tmp /usr/local /var \
  -path /var/cache -prune -o -path /var/spool/postfix -prune -o -path /run/maillab -prune \
  -o -name __pycache__ -prune -o -printf '%p %M %u %g %l\n' \
  -type f -exec sha256sum {} + | sort
"""
# Lists the names of all processes except those of this script and of a channel.
PROCESSES = """
for folder in /proc/[0-9]*; do read -r name <$folder/comm && echo $name; done 2>/dev/null |
grep -vx 'sh\\|python3\\|grep\\|sort' | sort
"""
MESS = """
echo left >/etc/left; echo left >/tmp/left; mkdir -p /run/left/below; echo left >/dev/shm/left
echo more >>/etc/passwd; rm /etc/fstab /etc/shells; chmod 700 /srv /var/mail; ln -s /etc /opt/link
chmod 666 /etc/group
setsid sleep 1000 >/dev/null 2>&1 </dev/null &
"""


@pytest.mark.parametrize("how", ["by its command", "past the harness"])
def test_hosts_without_a_mail_system_are_restored_too(some_labs: Labs, how: str) -> None:
    """Files and processes of clients, agents, name servers and scanners are restored."""
    site = topology.load("scanner")
    lab = some_labs.get(site, "3.10")
    services = ["client-net", "mail-net", "remote-net", "scanner-net", "dns", "clamd"]
    # The baselines were taken while the lab started.
    lab.reset()
    before = {name: (run_in(lab, name, FILES), run_in(lab, name, PROCESSES)) for name in services}
    digest = lab.client.channel.call("digest")

    if how == "by its command":
        for host in lab.hosts.values():
            host.agent.call("run", argv=["sh", "-c", MESS])
        services = ["client-net", "mail-net", "remote-net", "scanner-net"]
    else:
        for name in services:
            run_in(lab, name, MESS)
    messy = {name: (run_in(lab, name, FILES), run_in(lab, name, PROCESSES)) for name in services}
    lab.reset()
    after = {name: (run_in(lab, name, FILES), run_in(lab, name, PROCESSES)) for name in services}

    for name in services:
        assert "/etc/left" in messy[name][0], name
        assert "sleep" in messy[name][1], name
        assert after[name] == before[name], name
    assert lab.client.channel.call("digest") == digest
    # DNS and the scanner work as before.
    lab.settle(lab.mail.send("joe@example.net"))
    assert lab.remote.mailbox("joe")


def test_a_lab_without_its_name_server_is_discarded(some_labs: Labs, lab: Lab) -> None:
    """A container that does not answer cannot be restored."""
    connect().containers.get(lab.project.containers["dns"]).kill()

    other = some_labs.get(lab.topology, lab.requested_version)

    assert other.project.name != lab.project.name
    assert lab.project.name not in compose.projects()
