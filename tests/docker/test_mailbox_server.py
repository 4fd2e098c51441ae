"""A mailbox server in a lab: its reset, its start, and what it refuses. Needs an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from maillab import imap
from maillab.engine import compose
from maillab.engine.client import connect
from maillab.errors import BadInput, LabError
from maillab.faults import HostCrashed
from maillab.hosts.dovecot import DovecotHost
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.mail.dovecotlog import MailSaved
from maillab.mail.maillog import Started
from maillab.site import resources, topology

ALICE = "alice@example.com"


@pytest.fixture
def lab(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """Return a lab of "submission" in its initial state, whose mail is not judged."""
    return some_labs.get(topology.load("submission"), request.config.option.postfix)


def dovecot(lab: Lab) -> DovecotHost:
    """Return the mailbox server."""
    (host,) = lab.dovecot_hosts
    return host


def arrives(lab: Lab) -> bool:
    """Return True if mail to alice is delivered."""
    mail = lab.client.smtp(ALICE, server=lab.mail)
    lab.settle(mail)
    return bool(mail.delivered_to(lab.mailbox, mailbox=ALICE))


def test_a_reset_restores_a_mailbox_server(lab: Lab) -> None:
    """Settings, users, scripts, mailboxes and processes are as before, and mail arrives."""
    host = dovecot(lab)
    before = host.channel.call("digest")
    host.configure("quota_storage_size = 1M")
    host.sieve(ALICE, "keep;\n")
    host.users({ALICE: "another"})
    host.run("useradd", "--create-home", "zoe")
    host.run("chown", "root:root", "/var/vmail/example.com")
    host.run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
    host.run("chown", "vmail:vmail", "/var/vmail/example.com")
    assert arrives(lab)
    lab.clock.advance(hours=1)
    messy = host.channel.call("digest")

    lab.reset()
    after = host.channel.call("digest")

    changed = {
        path
        for path in {*before["paths"], *messy["paths"]}
        if before["paths"].get(path) != messy["paths"].get(path)
    }
    assert {"/etc/dovecot/users", "/etc/dovecot/conf.d/scenario.conf", "/home/zoe"} <= changed
    assert "/var/vmail/example.com/alice/sieve/main.sieve" in changed
    assert after["paths"] == before["paths"]
    assert "sleep" not in after["processes"]
    assert host.stored() == []
    assert arrives(lab)


def masters(lab: Lab) -> list[str]:
    """Return the ids of Dovecot's master processes; the engine reports them, not the host."""
    found = connect().api.top(lab.mailbox.channel.container, ps_args="-eo pid,args")
    return [pid for pid, title in found["Processes"] if Path(title.split()[0]).name == "dovecot"]


def test_a_mailbox_server_that_nothing_happened_to_goes_on(lab: Lab) -> None:
    """Like a mail host, it keeps its processes."""
    lab.reset()
    before = masters(lab)
    begun = lab.stream.position

    lab.conclude()
    lab.reset()

    started = [event for event in lab.stream.since(begun) if isinstance(event, Started)]
    assert "mailbox" not in {event.host for event in started}
    assert len(before) == 1
    assert masters(lab) == before


def test_a_crash_loses_no_line_and_no_mailbox(lab: Lab) -> None:
    assert arrives(lab)
    with lab.mailbox.faulty(HostCrashed()):
        pass

    assert len(lab.events(MailSaved, lab.mailbox)) == 1
    assert len(imap.read(lab.client, lab.mailbox, ALICE, "secret").inbox) == 1
    assert arrives(lab)


def test_settings_and_scripts_that_dovecot_refuses_are_errors(lab: Lab) -> None:
    """Each names the line, and nothing of them stays."""
    host = dovecot(lab)

    with pytest.raises(BadInput, match=r"mailbox: Dovecot 2\.\d.* line 1: nonsense: Unknown sett"):
        host.configure("nonsense = 1")
    with pytest.raises(BadInput, match=r"refused: .*main: line 1: unknown command 'nonsense'"):
        host.sieve(ALICE, "nonsense;\n")

    assert arrives(lab)


def test_a_start_that_fails_names_the_file_and_the_setting(lab: Lab) -> None:
    """The setting is well formed, so Dovecot refuses it only when it starts."""
    refused = r"open\(/nowhere\) failed.*test_mailbox_server\.py:\d+ \(configure\)"
    dovecot(lab).configure("ssl_server_cert_file = /nowhere")

    with pytest.raises(LabError, match=refused):
        lab.mailbox.stored()


@pytest.mark.parametrize(
    ("was", "broken", "words"),
    [
        (
            "postmaster_address = postmaster@example.com",
            "postmaster_addres = x",
            r"/etc/dovecot/host\.conf line \d: postmaster_addres: Unknown setting",
        ),
        (
            "mailbox-setup:\n    content: |\n      sh /opt/maillab/certify.sh",
            "mailbox-setup:\n    content: |\n      sh /opt/maillab/certifi.sh",
            r"/opt/maillab/certifi\.sh",
        ),
    ],
    ids=["settings", "setup"],
)
def test_a_topology_whose_mailbox_server_does_not_start_is_removed(
    tmp_path: Path, was: str, broken: str, words: str
) -> None:
    """The error has the server's own words and the topology's file; no half a lab is left."""
    text = (resources.compose() / "submission.yaml").read_text(encoding="utf-8")
    assert was in text
    file = tmp_path / "broken.yaml"
    base = resources.compose() / "base.yaml"
    file.write_text(text.replace(was, broken).replace("file: base.yaml", f"file: {base}"))

    with pytest.raises(LabError, match=rf"(?s)mailbox does not start: .*{words}.*{file}") as error:
        labs.start(topology.load(str(file)), "3.10")

    assert "\n" not in str(error.value)
    assert not [lab for lab in compose.projects() if "broken" in lab]


def test_a_message_is_traced_by_the_id_of_its_lmtp_session(lab: Lab) -> None:
    """The search in whole logs follows Postfix's line about Dovecot's reply."""
    assert arrives(lab)
    (saved,) = lab.events(MailSaved, lab.mailbox)

    history = lab.history_of(saved.queue_id)

    assert {event.host for event in history.events} >= {"mail", "mailbox"}
