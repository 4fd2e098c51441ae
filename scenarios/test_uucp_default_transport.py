"""Using UUCP as the default transport.

Set default_transport = uucp, and relayhost to the neighbour's node name, without brackets.
Both settings are needed, unless default_transport itself has the next hop (uucp:gateway).
Postfix does not control when the machine calls: uux -r only queues; cron or a timer starts
uucico(8).

Since the FAQ:
- The answer is unchanged.
"""

import pytest

from maillab import Lab, PickedUp, uucp
from maillab.faults import Refused

pytestmark = pytest.mark.topology("uucp")

PORT = 540
UUCP_UID = 10
CALL = "/etc/uucp/call"


@pytest.mark.faq("uucp-default-transport", "47-S1")
@pytest.mark.parametrize(
    "settings",
    [
        {"default_transport": "uucp", "relayhost": "gateway"},
        {"default_transport": "uucp:gateway", "relayhost": ""},
    ],
    ids=["two-settings", "next-hop-in-transport"],
)
def test_cure_all_foreign_mail_leaves_by_uucp(lab: Lab, settings: dict[str, str]) -> None:
    """The leaf's mail waits for its own call, and the gateway sends it on."""
    lab.leaf.configure(default_transport="smtp", relayhost="")
    lab.leaf.cure.configure(**settings)

    mail = lab.leaf.send(to="joe@example.net", user="alice")
    own = lab.leaf.send(to="bob", user="alice")
    lab.settle(mail, own)
    waiting = uucp.jobs(lab.leaf)
    call = uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    assert [(job.system, job.command) for job in waiting] == [("gateway", "rmail joe@example.net")]
    assert call.sent == ["rmail joe@example.net"]
    assert mail.delivered_to(lab.world, mailbox="joe")
    assert own.delivered_to(lab.leaf, mailbox="bob")
    (copy,) = lab.world.mailbox("joe")
    assert copy["Return-Path"] == "<alice@leaf.example.com>"
    received = copy.get_all("Received")
    assert received is not None
    by_world, by_gateway, by_leaf = received
    assert "from gateway.example.com" in by_world
    assert f"by gateway.example.com (Postfix, from userid {UUCP_UID})" in by_gateway
    assert "by leaf.example.com (Postfix, from userid 100" in by_leaf
    # rmail submits locally, so no relay restriction applies.
    (picked_up,) = lab.events(PickedUp, lab.gateway)
    assert (picked_up.uid, picked_up.sender) == (UUCP_UID, "alice@leaf.example.com")
    assert not lab.gateway.mailbox("uucp")


@pytest.mark.faq("uucp-default-transport", "47-S1")
def test_behaviour_one_call_carries_mail_both_ways(lab: Lab) -> None:
    """One call transfers the mail that waits on either side."""
    outgoing = lab.leaf.send(to="joe@example.net", user="alice")
    incoming = lab.world.send(to="alice@leaf.example.com", user="joe")
    lab.settle(outgoing, incoming)

    call = uucp.call(lab.leaf, lab.gateway)
    lab.settle(outgoing, incoming)

    assert (call.sent, call.received) == (
        ["rmail joe@example.net"],
        ["rmail alice@leaf.example.com"],
    )
    assert outgoing.delivered_to(lab.world, mailbox="joe")
    assert incoming.delivered_to(lab.leaf, mailbox="alice")


@pytest.mark.faq("uucp-default-transport", "47-S2")
def test_behaviour_what_the_world_refuses_comes_back_with_the_next_call(lab: Lab) -> None:
    """The gateway's notice waits in the UUCP spool and keeps its empty sender."""
    mail = lab.leaf.send(to="nosuch@example.net", user="alice")
    lab.settle(mail)
    uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)
    waiting = uucp.jobs(lab.gateway)
    call = uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying="said: 550 5.1.1 <nosuch@example.net>")
    assert [job.command for job in waiting] == ["rmail alice@leaf.example.com"]
    assert call.received == ["rmail alice@leaf.example.com"]
    (notice,) = lab.leaf.mailbox("alice")
    assert notice["Return-Path"] == "<>"
    assert "MAILER-DAEMON@gateway.example.com" in notice["From"]
    assert "Status: 5.1.1" in str(notice)


@pytest.mark.faq("uucp-default-transport", "47-S3")
def test_symptom_a_relayhost_alone_is_looked_up_in_the_dns(lab: Lab) -> None:
    """Without default_transport Postfix looks up the node name as an Internet host."""
    lab.leaf.misconfigure(default_transport="smtp")

    mail = lab.leaf.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    failure = "Host or domain name not found. Name service error for name=gateway type=MX"
    assert mail.deferred(dsn="4.4.3", saying=f"{failure}: Host not found, try again")
    assert mail.held_by(lab.leaf)
    assert uucp.jobs(lab.leaf) == []


@pytest.mark.faq("uucp-default-transport", "47-S3")
def test_symptom_a_default_transport_alone_takes_the_domain_for_the_node(lab: Lab) -> None:
    """Without a next hop uux(1) looks for a system named after the recipient's domain."""
    lab.leaf.misconfigure(relayhost="")

    mail = lab.leaf.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    unknown = "service unavailable. Command output: uux: example.net: System not found"
    assert mail.bounced(dsn="5.3.0", saying=unknown)
    (notice,) = lab.leaf.mailbox("alice")
    assert "uux: example.net: System not found" in str(notice)


@pytest.mark.faq("uucp-default-transport", "47-S3")
def test_symptom_own_mail_goes_round_by_the_gateway(lab: Lab) -> None:
    """A leaf without its own name in mydestination sends its own mail to the gateway."""
    lab.leaf.misconfigure(mydestination="localhost")

    mail = lab.leaf.send(to="bob@leaf.example.com", user="alice")
    lab.settle(mail)
    first = uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)
    second = uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    there_and_back = "rmail bob@leaf.example.com"
    assert first.sent == [there_and_back]
    assert second.received == [there_and_back]
    assert [job.command for job in uucp.jobs(lab.leaf)] == [there_and_back]
    assert not lab.leaf.mailbox("bob")


@pytest.mark.faq("uucp-default-transport", "47-S3")
def test_cure_the_leafs_own_name_is_in_mydestination(lab: Lab) -> None:
    """With the leaf's name in mydestination its own mail is delivered without a call."""
    lab.leaf.configure(mydestination="localhost")
    lab.leaf.cure.configure(mydestination="$myhostname, localhost")

    mail = lab.leaf.send(to="bob@leaf.example.com", user="alice")
    lab.settle(mail)

    assert mail.delivered_to(lab.leaf, mailbox="bob")
    assert uucp.jobs(lab.leaf) == []


@pytest.mark.faq("uucp-default-transport", "47-S1")
def test_symptom_a_call_that_fails_is_not_repeated_at_once(lab: Lab) -> None:
    """The mail waits, and UUCP does not call a neighbour again before the retry time."""
    mail = lab.leaf.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    with lab.gateway.faulty(Refused(port=PORT)):
        refused = uucp.call(lab.leaf, lab.gateway)
    again = uucp.call(lab.leaf, lab.gateway, force=False)

    assert not refused.completed
    assert refused.errors[0].endswith("Connection refused")
    assert "Retry time not reached" in again.log
    assert not again.completed
    assert [job.command for job in uucp.jobs(lab.leaf)] == ["rmail joe@example.net"]
    assert not mail.reached(lab.gateway)


@pytest.mark.faq("uucp-default-transport", "47-S1")
def test_behaviour_a_call_that_failed_is_made_good_later(lab: Lab) -> None:
    """After the retry time cron's next call succeeds and delivers the mail."""
    mail = lab.leaf.send(to="joe@example.net", user="alice")
    lab.settle(mail)
    with lab.gateway.faulty(Refused(port=PORT)):
        failed = uucp.call(lab.leaf, lab.gateway)

    lab.clock.advance(hours=1)
    call = uucp.call(lab.leaf, lab.gateway, force=False)
    lab.settle(mail)

    assert not failed.completed
    assert call.completed
    assert mail.delivered_to(lab.world, mailbox="joe")


@pytest.mark.faq("uucp-default-transport", "47-S1")
def test_symptom_a_wrong_password_ends_the_call(lab: Lab) -> None:
    """The gateway hangs up after a wrong password; the mail stays in the spool."""
    lab.leaf.mistake.write(CALL, "gateway leaf wrong\n", mode=0o640, owner="uucp")

    mail = lab.leaf.send(to="joe@example.net", user="alice")
    lab.settle(mail)
    call = uucp.call(lab.leaf, lab.gateway)

    assert not call.completed
    assert call.errors == ["Line disconnected"]
    assert [job.command for job in uucp.jobs(lab.leaf)] == ["rmail joe@example.net"]
    assert "ERROR: Bad login" in (lab.gateway.read(uucp.LOG) or "")


@pytest.mark.faq("uucp-default-transport", "47-S1")
def test_cure_with_the_right_password_the_same_mail_goes(lab: Lab) -> None:
    """The next call carries the mail that an earlier call could not."""
    lab.leaf.write(CALL, "gateway leaf wrong\n", mode=0o640, owner="uucp")
    mail = lab.leaf.send(to="joe@example.net", user="alice")
    lab.settle(mail)
    first = uucp.call(lab.leaf, lab.gateway)

    lab.leaf.cure.write(CALL, "gateway leaf s3cret\n", mode=0o640, owner="uucp")
    second = uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    assert not first.completed
    assert second.completed
    assert mail.delivered_to(lab.world, mailbox="joe")
