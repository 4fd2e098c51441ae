"""Hosts of a lab: sessions, queues, settings, tables, commands. Needs an engine."""

from __future__ import annotations

import pytest

from maillab.errors import BadTable, CommandFailed, TimedOut, UnknownName
from maillab.faults import Greeting, HostFrozen
from maillab.lab.lab import Lab
from maillab.mail.maillog import Event


def test_settle_that_times_out_shows_the_journey_and_the_log(lab: Lab) -> None:
    """The error names the awaited text and the tail of the log."""
    mail = lab.sender.send("alice@example.org")

    with pytest.raises(TimedOut) as error:
        lab.wait_for(Event, saying="never said", within_s=0.2)

    assert "never said" in str(error.value)
    assert "last log lines" in str(error.value)
    lab.settle(mail)


def test_a_step_after_another_in_an_smtp_session(lab: Lab) -> None:
    """The scenario makes each step, and the session keeps each reply with both codes."""
    with lab.sender.session(lab.primary) as session:
        session.ehlo()
        session.mail("bob@example.net")
        refused = session.rcpt("nosuch@example.org")
        session.quit()

    assert (refused.code, refused.dsn) == (550, "5.1.1")
    assert [reply.code for _, reply in session.replies] == [220, 250, 250, 550, 221]


def test_the_queue_is_data(lab: Lab) -> None:
    """Queued mail is listed with its queue, recipients and reasons."""
    lab.primary.stop()
    lab.backup.stop()
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)

    (entry,) = lab.sender.queue()

    assert (entry.queue, entry.recipients) == ("deferred", ("alice@example.org",))
    assert "Connection refused" in entry.reasons[0]


def test_a_parameter_postfix_does_not_have_is_refused_and_left_out(lab: Lab) -> None:
    """The error names the parameter, and main.cf is unchanged."""
    before = lab.sender.read("/etc/postfix/main.cf")

    with pytest.raises(UnknownName, match="smtp_skip_4xx_greeting"):
        lab.sender.configure(smtp_skip_4xx_greeting="no")

    assert lab.sender.read("/etc/postfix/main.cf") == before


def test_a_parameter_that_others_define_is_accepted(lab: Lab) -> None:
    """Restriction classes and transports define their own parameters."""
    lab.sender.configure(smtpd_restriction_classes="local_only", local_only="reject")

    assert lab.sender.postconf("local_only") == "reject"


@pytest.mark.parametrize("kind", ["", "lmdb", "texthash", "regexp", "pcre", "cidr", "inline"])
def test_tables_of_every_kind_answer(kind: str, lab: Lab) -> None:
    """A table is written, built and found under its main.cf name."""
    key = {"regexp": "/^key$/", "pcre": "/^key$/", "cidr": "192.0.2.0/24"}.get(kind, "key")
    asked = "192.0.2.7" if kind == "cidr" else "key"

    table = lab.sender.table("some", {key: "value"}, kind)

    assert lab.sender.run("postmap", "-q", asked, table).stdout.strip() == "value"


def test_a_table_that_changes_at_once_is_noticed_at_once(lab: Lab) -> None:
    """A server with the table open notices at once, though Postfix counts whole seconds."""
    access = lab.primary.table("access", {"x@example.net": "550 not you"})
    lab.primary.configure(smtpd_sender_restrictions=f"check_sender_access {access}")

    before = lab.sender.smtp("alice@example.org", server=lab.primary, sender="y@example.net")
    kind = access.partition(":")[0]
    lab.primary.write("/etc/postfix/access", "y@example.net 550 not you\n")
    lab.primary.run("postmap", f"{kind}:/etc/postfix/access")
    after = lab.sender.smtp("alice@example.org", server=lab.primary, sender="y@example.net")
    lab.settle(before, after)

    assert before.delivered_to(lab.primary, "alice")
    assert after.rejected(550, "5.7.1")


@pytest.mark.parametrize(
    ("kind", "text"), [("", "no value here\nkey\n"), ("pcre", "/(/ x\n"), ("cidr", "no-net x\n")]
)
def test_a_table_that_does_not_build_is_named(kind: str, text: str, lab: Lab) -> None:
    """The scenario gets postmap's error with the file's name."""
    with pytest.raises(BadTable, match="/etc/postfix/broken"):
        lab.sender.table("broken", text, kind)


def test_an_unknown_kind_of_table_lists_the_known_ones(lab: Lab) -> None:
    """The error lists the version's own table types."""
    with pytest.raises(UnknownName, match="regexp"):
        lab.sender.table("some", {"a": "b"}, "punchcards")


def test_an_unknown_host_lists_the_hosts(lab: Lab) -> None:
    """The error lists the topology's roles."""
    with pytest.raises(AttributeError, match="primary"):
        _ = lab.primray


def test_a_failed_command_has_its_status_and_error(lab: Lab) -> None:
    """The error has the status and the standard error."""
    with pytest.raises(CommandFailed, match=r"status 1: .*No such file"):
        lab.sender.run("rm", "/does/not/exist")


def test_a_command_past_its_time_limit_is_killed(lab: Lab) -> None:
    """The command's limit kills it, and no process remains."""
    with pytest.raises(CommandFailed, match=r"killed after 0\.2 s"):
        lab.sender.run("sleep", "4711", timeout_s=0.2)

    assert lab.sender.run("pgrep", "-f", "sleep 4711", check=False).stdout == ""


def test_a_session_waits_for_a_greeting_up_to_its_time_limit(lab: Lab) -> None:
    """A server that accepts the connection and stays silent has code 0."""
    with lab.primary.faulty(HostFrozen()):
        session = lab.sender.session(lab.primary, timeout_s=0.5)

    assert session.greeting.code == 0
    assert "Timeout" in session.greeting.text


def test_a_greeting_counts_the_clients_it_greeted(lab: Lab) -> None:
    """The witness counts the clients, and the real server is back afterwards."""
    with lab.primary.faulty(Greeting("421 busy")):
        greeted = [lab.sender.session(lab.primary) for _ in range(3)]
    with lab.sender.session(lab.primary) as after:
        pass

    assert [session.greeting.code for session in greeted] == [421] * 3
    assert after.greeting.code == 220
    assert [witness.count for witness in lab.scenario.witnesses] == [3]
