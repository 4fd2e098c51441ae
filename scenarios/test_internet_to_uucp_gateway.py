"""Setting up an Internet to UUCP gateway.

Define a "uucp" service in master.cf that pipes mail into uux(1), list the UUCP domains in
a transport map, and list them in relay_domains as well: a route is not a permission to
relay. Tell the gateway the users behind the line (relay_recipient_maps): otherwise it
accepts mail for every user and returns it two calls later.

Since the FAQ:
- 2.0: relay_recipient_maps.
- The service's flags have grown: "h" and "u" fold the case of domains and user names, "q"
  quotes user names as in a header.
- 3.10 (Debian 13): the service is commented out in master.cf.
"""

import pytest

from maillab import Delivery, Lab, PickedUp, pcap, uucp

pytestmark = pytest.mark.topology("uucp")

WAY_TO_LEAF = "inline:{ {leaf.example.com=uucp:leaf} }"
SERVICE = (
    "uucp unix - n n - - pipe flags=Fqhu user=uucp"
    " argv=uux -r -n -z -a$sender - $nexthop!rmail ($recipient)"
)
UUCP_UID = 10
PORT = 540


def nothing_failed(lab: Lab) -> bool:
    """Return True if no uuxqt(8) reported a failed command by mail."""
    return not (lab.gateway.mailbox("uucp") or lab.leaf.mailbox("uucp"))


@pytest.mark.faq("internet-to-uucp-gateway", "46-S1")
def test_cure_mail_for_the_leaf_waits_for_its_call_and_arrives(lab: Lab) -> None:
    """The transport map turns mail into one UUCP job for all its recipients."""
    lab.gateway.configure(transport_maps="")
    lab.gateway.cure.configure(transport_maps=WAY_TO_LEAF)

    mail = lab.world.send(to=["alice@leaf.example.com", "bob@leaf.example.com"], user="carol")
    lab.settle(mail)
    waiting = uucp.jobs(lab.gateway)
    call = uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    rmail = "rmail alice@leaf.example.com bob@leaf.example.com"
    assert [(job.system, job.command) for job in waiting] == [("leaf", rmail)]
    assert call.completed
    assert call.received == [rmail]
    assert mail.delivered_to(lab.leaf, mailbox="alice")
    assert mail.delivered_to(lab.leaf, mailbox="bob")
    (copy,) = lab.leaf.mailbox("alice")
    assert copy["Return-Path"] == "<carol@example.net>"
    (picked_up,) = lab.events(PickedUp, lab.leaf)
    assert (picked_up.uid, picked_up.sender) == (UUCP_UID, "carol@example.net")
    assert uucp.jobs(lab.gateway) == []
    assert nothing_failed(lab)


@pytest.mark.faq("internet-to-uucp-gateway", "46-S1")
def test_behaviour_postfix_calls_it_sent_when_uux_has_it(lab: Lab) -> None:
    """The gateway logs "sent" while the mail still waits for the call."""
    mail = lab.world.send(to="alice@leaf.example.com")
    lab.settle(mail)

    (given,) = [event for event in lab.events(Delivery, lab.gateway) if event.service == "pipe"]
    assert (given.relay, given.dsn, given.status) == ("uucp", "2.0.0", "sent")
    assert given.reply == "delivered via uucp service"
    assert lab.gateway.queue() == []
    assert mail.held_by(lab.gateway)
    assert not mail.reached(lab.leaf)
    (job,) = uucp.jobs(lab.gateway)
    assert job.command == "rmail alice@leaf.example.com"


@pytest.mark.faq("internet-to-uucp-gateway", "46-S1")
def test_behaviour_nothing_but_uucp_is_spoken_on_the_line(lab: Lab) -> None:
    """Mail goes both ways, and every packet belongs to a session on port 540."""
    lab.capture()
    incoming = lab.world.send(to="alice@leaf.example.com")
    outgoing = lab.leaf.send(to="joe@example.net", user="alice")
    lab.settle(incoming, outgoing)
    uucp.call(lab.leaf, lab.gateway)
    lab.settle(incoming, outgoing)
    with lab.leaf.session(lab.world) as beyond:
        answer = beyond.greeting
    captured = lab.captured()

    assert incoming.delivered_to(lab.leaf, mailbox="alice")
    assert outgoing.delivered_to(lab.world, mailbox="joe")
    line = [packet for packet in pcap.packets(captured["leaf"]) if not packet.inside]
    ends = {lab.leaf.address, lab.gateway.addresses[1]}
    assert {frozenset((packet.source, packet.destination)) for packet in line} == {frozenset(ends)}
    assert {packet.protocol for packet in line} == {"tcp"}
    assert {packet.ports[0] for packet in line} == {PORT}
    # The gateway is not a router, and the leaf has no other.
    assert answer.code == 0
    world = pcap.packets(captured["world"])
    assert not [
        packet for packet in world if lab.leaf.address in (packet.source, packet.destination)
    ]


@pytest.mark.faq("internet-to-uucp-gateway", "46-S1")
def test_symptom_without_a_transport_the_gateway_finds_only_itself(lab: Lab) -> None:
    """The leaf's MX is the gateway, which has no other host to send the mail to."""
    lab.gateway.misconfigure(transport_maps="")

    mail = lab.world.send(to="alice@leaf.example.com")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail for leaf.example.com loops back to myself")
    assert uucp.jobs(lab.gateway) == []


@pytest.mark.faq("internet-to-uucp-gateway", "46-S1")
def test_symptom_without_the_service_mail_stays_in_the_queue(lab: Lab) -> None:
    """The transport map names a service that master.cf does not have."""
    lab.gateway.mistake.no_service("uucp/unix")

    mail = lab.world.send(to="alice@leaf.example.com")
    lab.settle(mail)

    assert mail.deferred(dsn="4.3.0", saying="mail transport unavailable")
    assert mail.held_by(lab.gateway)


@pytest.mark.faq("internet-to-uucp-gateway", "46-S1")
def test_behaviour_debian_ships_the_service_commented_out_since_13(lab: Lab) -> None:
    """The shipped master.cf has the FAQ's row, up to Debian 12 in use and then as a comment."""
    shipped = lab.gateway.read("/usr/share/postfix/master.cf.dist") or ""

    rows = [line for line in shipped.splitlines() if "uucp" in line]

    service, argv = (row.removeprefix("#").split() for row in rows)
    assert [*service, *argv] == SERVICE.split()
    commented = [row.startswith("#") for row in rows]
    assert commented == [lab.has("no uucp service in master.cf")] * 2


@pytest.mark.faq("internet-to-uucp-gateway", "46-S1")
def test_cure_the_service_is_put_into_master_cf(lab: Lab) -> None:
    """The FAQ's line restores a service that master.cf does not have."""
    lab.gateway.no_service("uucp/unix")
    lab.gateway.cure.service(SERVICE)

    mail = lab.world.send(to="alice@leaf.example.com")
    lab.settle(mail)
    uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    assert mail.delivered_to(lab.leaf, mailbox="alice")


@pytest.mark.faq("internet-to-uucp-gateway", "46-S2")
def test_symptom_a_transport_is_no_permission(lab: Lab) -> None:
    """A domain with a route is still refused if relay_domains does not list it."""
    lab.gateway.misconfigure(relay_domains="")

    mail = lab.world.smtp("alice@leaf.example.com", server=lab.gateway)
    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying="<alice@leaf.example.com>: Relay access denied")
    assert uucp.jobs(lab.gateway) == []


@pytest.mark.faq("internet-to-uucp-gateway", "46-S2")
def test_cure_the_uucp_domain_is_a_relay_domain(lab: Lab) -> None:
    """With the domain in relay_domains strangers' mail for it becomes a UUCP job."""
    lab.gateway.configure(relay_domains="")
    lab.gateway.cure.configure(relay_domains="leaf.example.com")

    mail = lab.world.smtp("alice@leaf.example.com", server=lab.gateway)
    lab.settle(mail)
    uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    assert mail.delivered_to(lab.leaf, mailbox="alice")


@pytest.mark.faq("internet-to-uucp-gateway", "46-S2")
def test_symptom_an_unknown_system_returns_the_mail_at_once(lab: Lab) -> None:
    """The next hop is a UUCP node name, and uux(1) refuses an unknown node."""
    lab.gateway.misconfigure(transport_maps="inline:{ {leaf.example.com=uucp:nosuchsys} }")

    mail = lab.world.send(to="alice@leaf.example.com")
    lab.settle(mail)

    unknown = "service unavailable. Command output: uux: nosuchsys: System not found"
    assert mail.bounced(dsn="5.3.0", saying=unknown)
    (notice,) = lab.world.mailbox("bob")
    assert "uux: nosuchsys: System not found" in str(notice)


@pytest.mark.faq("internet-to-uucp-gateway", "46-S2")
def test_cure_unknown_users_are_refused_at_the_gateway(lab: Lab) -> None:
    """With relay_recipient_maps mail for unknown users is refused before the line."""
    users = lab.gateway.table("relay_recipients", {"alice@leaf.example.com": "x"})
    lab.gateway.cure.configure(relay_recipient_maps=users)

    nobody = lab.world.smtp("nosuch@leaf.example.com", server=lab.gateway)
    alice = lab.world.smtp("alice@leaf.example.com", server=lab.gateway)
    lab.settle(nobody, alice)

    refusal = "Recipient address rejected: User unknown in relay recipient table"
    assert nobody.rejected(550, "5.1.1", saying=f"<nosuch@leaf.example.com>: {refusal}")
    (job,) = uucp.jobs(lab.gateway)
    assert job.command == "rmail alice@leaf.example.com"


@pytest.mark.faq("internet-to-uucp-gateway", "46-S3")
def test_symptom_mail_for_an_unknown_user_comes_back_two_calls_later(lab: Lab) -> None:
    """The leaf returns the mail by UUCP, and the notice keeps its empty sender."""
    users = lab.gateway.table("relay_recipients", {"alice@leaf.example.com": "x"})
    lab.gateway.configure(relay_recipient_maps=users)
    lab.gateway.misconfigure(relay_recipient_maps="")

    mail = lab.world.send(to="nosuch@leaf.example.com", user="carol")
    lab.settle(mail)
    uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)
    before = lab.world.mailbox("carol")
    call = uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "nosuch"')
    assert before == []
    assert call.sent == ["rmail carol@example.net"]
    (notice,) = lab.world.mailbox("carol")
    assert notice["Return-Path"] == "<>"
    assert "MAILER-DAEMON@leaf.example.com" in notice["From"]
    assert "Final-Recipient: rfc822; nosuch@leaf.example.com" in str(notice)
    (handed_in,) = lab.events(PickedUp, lab.gateway)
    assert handed_in.uid == UUCP_UID
    assert nothing_failed(lab)


@pytest.mark.faq("internet-to-uucp-gateway", "46-S3")
def test_behaviour_a_notice_that_nobody_wants_starts_no_second_one(lab: Lab) -> None:
    """Mail from <> for an unknown user stops at the leaf, which treats it as a notice."""
    mail = lab.world.smtp("nosuch@leaf.example.com", server=lab.gateway, sender="")
    lab.settle(mail)
    uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "nosuch"')
    assert mail.journey.notices == ()
    assert uucp.jobs(lab.leaf) == []


# BSMTP of the FAQ's days: an SMTP session in a file. No package provides a sender.
SEND_BSMTP = """\
#!/bin/sh
hop=$1 from=$2
shift 2
{
  echo "EHLO $(hostname)"
  echo "MAIL FROM:<$from>"
  for recipient; do echo "RCPT TO:<$recipient>"; done
  echo DATA
  cat
  echo .
  echo QUIT
} | uux - -r -n -z "$hop!rsmtp"
"""
RECEIVE_BSMTP = "#!/bin/sh\nexec /usr/sbin/sendmail -bs >/dev/null\n"
BSMTP = (
    "bsmtp unix - n n - - pipe flags=q. user=uucp null_sender="
    " argv=/usr/local/bin/bsmtp-out $nexthop $sender $recipient"
)


@pytest.mark.faq("internet-to-uucp-gateway", "46-S4")
@pytest.mark.parametrize("sender", ["carol@example.net", ""], ids=["sender", "null"])
def test_cure_bsmtp_carries_the_envelope_in_the_data(lab: Lab, sender: str) -> None:
    """Recipients, the empty sender and lines that begin with a dot arrive unchanged."""
    lab.gateway.write("/usr/local/bin/bsmtp-out", SEND_BSMTP, mode=0o755)
    lab.leaf.write("/usr/local/bin/rsmtp", RECEIVE_BSMTP, mode=0o755)
    lab.gateway.service(BSMTP)
    lab.gateway.configure(transport_maps="")
    lab.gateway.cure.configure(transport_maps="inline:{ {leaf.example.com=bsmtp:leaf} }")

    mail = lab.world.smtp(
        ["alice@leaf.example.com", "bob@leaf.example.com"],
        server=lab.gateway,
        sender=sender,
        body="first\n.\n.dot line\nlast",
    )
    lab.settle(mail)
    call = uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    assert call.received == ["rsmtp"]
    assert mail.delivered_to(lab.leaf, mailbox="alice")
    (copy,) = lab.leaf.mailbox("bob")
    assert copy["Return-Path"] == f"<{sender}>"
    assert copy.get_content().rstrip() == "first\n.\n.dot line\nlast"
    (picked_up,) = lab.events(PickedUp, lab.leaf)
    assert (picked_up.uid, picked_up.sender) == (UUCP_UID, sender)
    assert nothing_failed(lab)


@pytest.mark.faq("internet-to-uucp-gateway", "46-S4")
def test_behaviour_a_bang_path_leads_to_the_leaf(lab: Lab) -> None:
    """Postfix rewrites leaf!bob to bob@leaf (swap_bangpath), which has a route by UUCP."""
    lab.gateway.cure.configure(transport_maps="inline:{ {leaf=uucp:leaf} }")
    lab.leaf.configure(mydestination="$myhostname, localhost, leaf")

    mail = lab.gateway.send(to="leaf!bob", user="carol")
    lab.settle(mail)
    given = [event for event in lab.events(Delivery, lab.gateway) if event.service == "pipe"]
    call = uucp.call(lab.leaf, lab.gateway)
    lab.settle(mail)

    assert [(line.to, line.orig_to, line.relay) for line in given] == [
        ("bob@leaf", "leaf!bob", "uucp")
    ]
    assert call.received == ["rmail bob@leaf"]
    assert mail.delivered_to(lab.leaf, mailbox="bob")


@pytest.mark.faq("internet-to-uucp-gateway", "46-S4")
def test_symptom_without_swap_bangpath_it_is_a_users_name(lab: Lab) -> None:
    """Without swap_bangpath the "!" is part of the user's name."""
    lab.gateway.configure(transport_maps="inline:{ {leaf=uucp:leaf} }")
    lab.gateway.misconfigure(swap_bangpath="no")

    mail = lab.gateway.send(to="leaf!bob", user="carol")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "leaf!bob"')
