"""The kinds of server: their common verbs, and what only Postfix has."""

from __future__ import annotations

import pytest

from maillab.engine.channel import Channel
from maillab.errors import BadInput
from maillab.faults import DaemonKilled, DiskFull, HostCrashed, HostFrozen, SlowFsync
from maillab.hosts.dovecot import DovecotHost
from maillab.hosts.host import Fault, Host
from maillab.hosts.mailserver import MailServer
from maillab.hosts.postfix import MailHost, PostfixHost
from maillab.hosts.sendmail import SendmailHost
from maillab.hosts.serverhost import ServerHost
from maillab.scenario.state import ScenarioState
from maillab.scenario.stream import Stream
from maillab.site.topology import Role


class Unasked(Channel):
    """A channel that refuses every request."""

    def __init__(self) -> None:
        super().__init__("", "")


def sendmail_host() -> SendmailHost:
    role = Role("old", "old.example.com", (10,), "sendmail")
    return SendmailHost(role, "198.18.0", Unasked(), Unasked(), ScenarioState(Stream(), {}))


def test_both_kinds_are_mail_servers_and_neither_is_the_other() -> None:
    assert issubclass(PostfixHost, MailServer)
    assert issubclass(SendmailHost, MailServer)
    assert not issubclass(SendmailHost, PostfixHost)


def dovecot_host() -> DovecotHost:
    role = Role("m", "m.example.com", (40,), "dovecot")
    return DovecotHost(role, "198.18.0", Unasked(), Unasked(), ScenarioState(Stream(), {}))


@pytest.mark.parametrize("verb", ["table", "main_cf", "service", "postconf", "jail"])
def test_a_sendmail_host_has_no_verb_of_postfix(verb: str) -> None:
    """The attribute is missing, so it need not refuse."""
    assert not hasattr(sendmail_host(), verb)


@pytest.mark.parametrize("fault", [DiskFull(), DaemonKilled("smtpd"), SlowFsync(delay_s=1)])
def test_a_fault_of_postfix_refuses_a_sendmail_host(fault: Fault) -> None:
    """The error comes before any request to the host's channel."""
    with pytest.raises(BadInput, match="it runs no Postfix"), fault.on(sendmail_host()):
        pass


@pytest.mark.parametrize("fault", [DiskFull(), DaemonKilled("smtpd"), SlowFsync(delay_s=1)])
def test_a_fault_of_postfix_refuses_a_mailbox_server(fault: Fault) -> None:
    """The error comes before any request to the host's channel."""
    with pytest.raises(BadInput, match="it runs no Postfix"), fault.on(dovecot_host()):
        pass


@pytest.mark.parametrize("fault", [HostCrashed(), HostFrozen()])
def test_a_fault_of_a_server_refuses_a_host_without_one(fault: Fault) -> None:
    role = Role("client", "client.example.com", (30,))
    client = Host(role, "198.18.0", Unasked(), ScenarioState(Stream(), {}))

    with pytest.raises(BadInput, match="it runs no server"), fault.on(client):
        pass


def test_a_mailbox_server_is_a_server_but_no_mta() -> None:
    """It has no queue, and sends nothing."""
    assert issubclass(DovecotHost, ServerHost)
    assert not issubclass(DovecotHost, MailServer)
    assert not hasattr(dovecot_host(), "queue")


@pytest.mark.parametrize(
    ("received", "queue_id"),
    [
        ("by m.example.com with LMTP\n\tid a+b/c\n\tfor <a@b>; x", "a+b/c"),
        ("(using TLSv1.3)\n\tby m.example.com with LMTPS\n\tid abc; x", "abc"),
        ("by m.example.com (Postfix) with SMTP id 4F2A; x", "4F2A"),
        ("by other.example.com with LMTP\n\tid abc; x", ""),
    ],
)
def test_a_copy_names_the_session_or_queue_id_that_stored_it(received: str, queue_id: str) -> None:
    """Dovecot's Received header has the id of the LMTP session."""
    raw = f"Received: from x ([198.18.0.1])\n\t{received}\nMessage-ID: <m1@t>\n\nhello\n"
    collected = {
        "mailboxes": [["alice", "maildir", raw, "/x"]],
        "queued": [],
        "rewriting": {"headers": ["x-sieve"]},
    }

    contents = dovecot_host().contents(collected)

    assert [copy.queue_id for copy in contents.stored] == [queue_id]
    assert contents.rewriting.headers == {"x-sieve"}


def test_the_old_name_stays_for_one_release() -> None:
    assert MailHost is PostfixHost
