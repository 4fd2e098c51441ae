"""Getting rid of the Delivered-To: header.

By prepend_delivered_header, which names the kinds of delivery that write the
header: "command", "file" (mailboxes, too) and "forward". The FAQ advises to keep
"forward", and rightly: a host finds by its own earlier header that it forwarded
the message before. Without it a loop goes on until a message has hopcount_limit
Received: headers. Name and default have not changed since 1999; X-Original-To:,
which stands beside it since 2.0, is governed by enable_original_recipient.
"""

import pytest

from maillab.lab import Lab
from maillab.message import parse

pytestmark = pytest.mark.topology("standalone")

DEFAULT = "command, file, forward"
COMMAND, FILE = "/tmp/box.command", "/tmp/box.file"


def delivered_to(lab: Lab) -> dict[str, list[str]]:
    """Send to a command, a file, a mailbox and somebody elsewhere; their headers."""
    lab.mail.aliases({"cmd": f'"|cat > {COMMAND}"', "fil": FILE, "fw": "joe@example.net"})
    mail = lab.client.submit(
        [f"{name}@example.com" for name in ("cmd", "fil", "fw", "alice")], server=lab.mail
    )
    lab.settle(mail)
    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert mail.delivered_to(lab.remote, mailbox="joe")
    (mailbox,) = lab.mail.mailbox("alice")
    (forwarded,) = lab.remote.mailbox("joe")
    command, file = (parse((lab.mail.read(path) or "").encode()) for path in (COMMAND, FILE))
    copies = {"command": command, "file": file, "mailbox": mailbox, "forward": forwarded}
    return {kind: copy.get_all("Delivered-To", []) for kind, copy in copies.items()}


# The remote host's own header stands above it.
IN_FORWARD = ["joe@example.net", "fw@example.com"]


@pytest.mark.faq("delivered-to", "37-S1")
def test_symptom_every_delivery_writes_the_header(lab: Lab) -> None:
    """Command, file, mailbox and forwarded copy tell for whom they were."""
    lab.mail.configure(prepend_delivered_header="")
    lab.mail.misconfigure(prepend_delivered_header=DEFAULT)

    assert delivered_to(lab) == {
        "command": ["cmd@example.com"],
        "file": ["fil@example.com"],
        "mailbox": ["alice@example.com"],
        "forward": IN_FORWARD,
    }


@pytest.mark.faq("delivered-to", "37-S2")
@pytest.mark.parametrize(
    ("value", "command", "forward"),
    [
        ("forward", [], IN_FORWARD),
        ("command, forward", ["cmd@example.com"], IN_FORWARD),
        ("", [], IN_FORWARD[:1]),
    ],
    ids=["forward", "command-forward", "none"],
)
def test_cure_the_kinds_not_named_are_clean(
    lab: Lab, value: str, command: list[str], forward: list[str]
) -> None:
    """What is left out of prepend_delivered_header writes no header."""
    lab.mail.configure(prepend_delivered_header=DEFAULT)
    lab.mail.cure.configure(prepend_delivered_header=value)

    assert delivered_to(lab) == {
        "command": command, "file": [], "mailbox": [], "forward": forward,
    }  # fmt: skip


def two_hosts_forward_to_each_other(lab: Lab) -> None:
    """Aliases that send a message round and round."""
    lab.mail.aliases({"loop": "loop@example.net"})
    lab.remote.aliases({"loop": "loop@example.com"})


@pytest.mark.faq("delivered-to", "37-S3")
def test_symptom_without_the_header_a_loop_goes_on(lab: Lab) -> None:
    """With no header anywhere only the number of Received: headers ends a loop."""
    two_hosts_forward_to_each_other(lab)
    for host in (lab.mail, lab.remote):
        # The default is 50; 12 rounds show as much as 25.
        host.configure(prepend_delivered_header="forward", hopcount_limit="24")
        host.misconfigure(prepend_delivered_header="")

    mail = lab.client.submit("loop@example.com", server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.0", saying="too many hops")
    (notice,) = lab.remote.mailbox("joe")
    assert "too many hops" in str(notice)


@pytest.mark.faq("delivered-to", "37-S3")
@pytest.mark.parametrize("value", [DEFAULT, "forward"])
def test_cure_a_loop_ends_at_the_second_visit(lab: Lab, value: str) -> None:
    """The host knows its own header again and returns the message."""
    two_hosts_forward_to_each_other(lab)
    for host in (lab.mail, lab.remote):
        host.configure(prepend_delivered_header="", hopcount_limit="24")
        host.cure.configure(prepend_delivered_header=value)

    mail = lab.client.submit("loop@example.com", server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail forwarding loop for loop@example.com")
    assert [leg.host for leg in mail.journey.legs] == [
        "mail", "mail", "remote", "remote", "mail",
    ]  # fmt: skip


@pytest.mark.faq("delivered-to", "37-S4")
@pytest.mark.parametrize(
    ("user", "forward", "takers"),
    [
        ("alice", "alice@example.com", ["alice"]),
        ("carol", "\\carol, dave@example.com", ["carol", "dave"]),
    ],
    ids=["itself", "copy"],
)
def test_behaviour_forwarding_to_oneself_is_no_loop(
    lab: Lab, user: str, forward: str, takers: list[str]
) -> None:
    """A .forward that names its owner delivers to the owner's mailbox."""
    lab.mail.write(f"/home/{user}/.forward", f"{forward}\n", owner=user)

    mail = lab.client.submit(f"{user}@example.com", server=lab.mail)
    lab.settle(mail)

    assert [name for name in ("alice", "carol", "dave") if lab.mail.mailbox(name)] == takers
    for taker in takers:
        assert mail.delivered_to(lab.mail, mailbox=taker)
    assert not mail.bounced()


@pytest.mark.faq("delivered-to")
@pytest.mark.parametrize(("value", "header"), [("yes", ["cmd@example.com"]), ("no", [])])
def test_behaviour_x_original_to_has_a_setting_of_its_own(
    lab: Lab, value: str, header: list[str]
) -> None:
    """enable_original_recipient=no takes X-Original-To: away, and nothing else."""
    lab.mail.configure(enable_original_recipient=value)
    lab.mail.aliases({"cmd": "alice"})

    mail = lab.client.submit("cmd@example.com", server=lab.mail)
    lab.settle(mail)

    (copy,) = lab.mail.mailbox("alice")
    assert copy.get_all("X-Original-To", []) == header
    assert copy["Delivered-To"] == "cmd@example.com"
