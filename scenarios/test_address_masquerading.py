"""Masquerading: the world sees user@domain, whichever machine sends the mail.

Set masquerade_domains on the gateway. List users whose machine must stay visible in
masquerade_exceptions, and put "!" before domains that are left alone. For mail that other
machines submit by SMTP, name these clients in local_header_rewrite_clients, or use
smtp_generic_maps, which rewrites addresses on the way out only.

Since the FAQ:
- 1.1: masquerade_classes selects the addresses to rewrite.
- 2.2: headers of mail from remote clients stay unchanged unless
  local_header_rewrite_clients matches the client; only the envelope is rewritten.
- 2.2: smtp_generic_maps.
"""

import pytest

from maillab import Lab

pytestmark = pytest.mark.topology("intranet")

MACHINE = "workstation.example.com"
SENT_BY_BOB = {
    "From": f"bob@{MACHINE}",
    "Cc": f"alice@{MACHINE}",
    "Reply-To": f"bob@{MACHINE}",
    "Message-ID": f"<masquerade-1@{MACHINE}>",
}
WITH_RECIPIENTS = "envelope_sender, envelope_recipient, header_sender, header_recipient"
# The default: the gateway's own users only.
OWN_HEADERS = "permit_inet_interfaces"


@pytest.mark.faq("address-masquerading", "44-S1")
def test_symptom_the_machines_name_goes_out(lab: Lab) -> None:
    """The recipient sees an address that the packet filter makes unreachable."""
    lab.remote.configure(smtp_connect_timeout="1s")
    lab.gateway.configure(masquerade_domains="$mydomain")
    lab.gateway.misconfigure(masquerade_domains="")

    mail = lab.gateway.send(to="joe@example.net", sender=f"bob@{MACHINE}", headers=SENT_BY_BOB)
    lab.settle(mail)
    (copy,) = lab.remote.mailbox("joe")
    reply = lab.remote.send(to=str(copy["Reply-To"]))
    lab.settle(reply)

    assert copy["From"] == f"bob@{MACHINE}"
    assert copy["Return-Path"] == f"<bob@{MACHINE}>"
    reason = f"connect to {MACHINE}[{lab.workstation.address}]:25"
    assert reply.deferred(dsn="4.4.1", saying=f"{reason}: Connection timed out")


@pytest.mark.faq("address-masquerading", "44-S1")
def test_cure_the_domain_stands_for_its_machines(lab: Lab) -> None:
    """The envelope sender and header addresses lose the machine; nothing else changes."""
    lab.remote.configure(smtp_connect_timeout="1s")
    lab.gateway.cure.configure(masquerade_domains="$mydomain")

    mail = lab.gateway.send(to="joe@example.net", sender=f"bob@{MACHINE}", headers=SENT_BY_BOB)
    lab.settle(mail)
    (copy,) = lab.remote.mailbox("joe")
    reply = lab.remote.send(to=str(copy["Reply-To"]))
    lab.settle(reply)

    assert copy["From"] == "bob@example.com"
    assert copy["Cc"] == "alice@example.com"
    assert copy["Reply-To"] == "bob@example.com"
    assert copy["Return-Path"] == "<bob@example.com>"
    assert copy["Message-ID"] == f"<masquerade-1@{MACHINE}>"
    assert "by gateway.example.com (Postfix, from userid " in str(copy)
    assert reply.delivered_to(lab.gateway, mailbox="bob")


@pytest.mark.faq("address-masquerading", "44-S1")
def test_behaviour_recipients_in_the_envelope_are_not_masqueraded(lab: Lab) -> None:
    """Mail for a user of a machine still goes to that machine."""
    lab.gateway.cure.configure(masquerade_domains="$mydomain")

    mail = lab.gateway.send(to="carol@colleague.example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.colleague, mailbox="carol")
    (copy,) = lab.colleague.mailbox("carol")
    assert copy["Delivered-To"] == "carol@colleague.example.com"
    # Header recipients are masqueraded.
    assert copy["To"] == "carol@example.com"


@pytest.mark.faq("address-masquerading", "44-S2")
@pytest.mark.parametrize("user", ["root", "ROOT", "Mailer-Daemon"])
def test_symptom_nobody_knows_whose_root_it_is(lab: Lab, user: str) -> None:
    """Masquerading turns every machine's root into the same root address."""
    lab.gateway.configure(
        masquerade_domains="$mydomain", masquerade_exceptions="root, mailer-daemon"
    )
    lab.gateway.misconfigure(masquerade_exceptions="")
    address = f"{user}@{MACHINE}"

    mail = lab.gateway.send(to="joe@example.net", sender=address, headers={"From": address})
    lab.settle(mail)

    (copy,) = lab.remote.mailbox("joe")
    assert copy["From"] == f"{user}@example.com"
    assert copy["Return-Path"] == f"<{user}@example.com>"


@pytest.mark.faq("address-masquerading", "44-S2")
@pytest.mark.parametrize(
    "address",
    [
        f"root@{MACHINE}",
        f"ROOT@{MACHINE}",
        f"Mailer-Daemon@{MACHINE}",
        "bob@pc.adm.example.com",
        "bob@adm.example.com",
    ],
)
def test_cure_some_users_and_domains_are_left_alone(lab: Lab, address: str) -> None:
    """Exceptions match users in any case, and subdomains listed first with "!"."""
    lab.gateway.configure(masquerade_domains="$mydomain")
    lab.gateway.cure.configure(
        masquerade_domains="!adm.example.com, $mydomain",
        masquerade_exceptions="root, mailer-daemon",
    )

    kept = lab.gateway.send(to="joe@example.net", sender=address, headers={"From": address})
    other = lab.gateway.send(
        to="carol@example.net", sender=f"bob@{MACHINE}", headers={"From": f"bob@{MACHINE}"}
    )
    lab.settle(kept, other)

    (copy,) = lab.remote.mailbox("joe")
    assert copy["From"] == address
    assert copy["Return-Path"] == f"<{address}>"
    (copy,) = lab.remote.mailbox("carol")
    assert copy["From"] == "bob@example.com"
    assert copy["Return-Path"] == "<bob@example.com>"


@pytest.mark.faq("address-masquerading", "44-S2")
def test_symptom_an_exception_that_comes_last_is_none(lab: Lab) -> None:
    """The first matching domain decides: "!adm.example.com" is never reached."""
    lab.gateway.configure(masquerade_domains="!adm.example.com, $mydomain")
    lab.gateway.misconfigure(masquerade_domains="$mydomain, !adm.example.com")

    mail = lab.gateway.send(to="joe@example.net", sender="bob@pc.adm.example.com")
    lab.settle(mail)

    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<bob@example.com>"


@pytest.mark.faq("address-masquerading", "44-S3")
def test_symptom_the_gateway_leaves_the_workstations_headers_alone(lab: Lab) -> None:
    """Mail that arrives by SMTP has only its envelope masqueraded, not its headers."""
    lab.workstation.configure(myorigin="$myhostname")
    lab.gateway.configure(
        masquerade_domains="$mydomain", local_header_rewrite_clients="permit_mynetworks"
    )
    lab.gateway.misconfigure(local_header_rewrite_clients=OWN_HEADERS)

    mail = lab.workstation.send(to="joe@example.net", user="alice", headers={"From": "alice"})
    lab.settle(mail)

    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<alice@example.com>"
    assert copy["From"] == f"alice@{MACHINE}"


@pytest.mark.faq("address-masquerading", "44-S3")
def test_cure_the_gateway_rewrites_headers_of_the_machines_inside(lab: Lab) -> None:
    """permit_mynetworks in local_header_rewrite_clients covers the machines inside only."""
    lab.workstation.configure(myorigin="$myhostname")
    lab.gateway.configure(masquerade_domains="$mydomain", local_header_rewrite_clients=OWN_HEADERS)
    lab.gateway.cure.configure(
        local_header_rewrite_clients="permit_inet_interfaces, permit_mynetworks"
    )

    inside = lab.workstation.send(to="joe@example.net", user="alice", headers={"From": "alice"})
    outside = lab.remote.smtp(
        "carol@example.com", server=lab.gateway, headers={"From": f"bob@{MACHINE}"}
    )
    lab.settle(inside, outside)

    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<alice@example.com>"
    assert copy["From"] == "alice@example.com"
    (copy,) = lab.gateway.mailbox("carol")
    assert copy["From"] == f"bob@{MACHINE}"


@pytest.mark.faq("address-masquerading", "44-S3")
def test_cure_generic_maps_rewrite_on_the_way_out_only(lab: Lab) -> None:
    """smtp_generic_maps rewrites all outgoing mail; internal mail still shows the machine."""
    lab.workstation.configure(myorigin="$myhostname")
    lab.gateway.configure(masquerade_domains="")
    lab.gateway.cure.configure(smtp_generic_maps=f"inline:{{ {{@{MACHINE}=@example.com}} }}")

    mail = lab.workstation.send(
        to=["joe@example.net", "carol@example.com"], user="alice", headers={"From": "alice"}
    )
    lab.settle(mail)

    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<alice@example.com>"
    assert copy["From"] == "alice@example.com"
    (copy,) = lab.gateway.mailbox("carol")
    assert copy["Return-Path"] == f"<alice@{MACHINE}>"
    assert copy["From"] == f"alice@{MACHINE}"


@pytest.mark.faq("address-masquerading", "44-S4")
def test_symptom_mail_for_a_machines_user_goes_to_the_machine(lab: Lab) -> None:
    """Old addresses work only while the machine is up."""
    lab.workstation.stop()
    lab.gateway.configure(masquerade_domains="$mydomain", masquerade_classes=WITH_RECIPIENTS)
    lab.gateway.misconfigure(masquerade_classes="envelope_sender, header_sender, header_recipient")

    mail = lab.gateway.send(to=f"carol@{MACHINE}")
    lab.settle(mail)

    reason = f"connect to {MACHINE}[{lab.workstation.address}]:25"
    assert mail.deferred(dsn="4.4.1", saying=f"{reason}: Connection refused")


@pytest.mark.faq("address-masquerading", "44-S4")
def test_cure_recipients_are_masqueraded_too(lab: Lab) -> None:
    """With envelope_recipient in masquerade_classes, the domain gets the machine's mail."""
    lab.workstation.stop()
    lab.gateway.configure(masquerade_domains="$mydomain")
    lab.gateway.cure.configure(masquerade_classes=WITH_RECIPIENTS)

    mail = lab.gateway.send(to=f"carol@{MACHINE}")
    lab.settle(mail)

    assert mail.delivered_to(lab.gateway, mailbox="carol")
    (copy,) = lab.gateway.mailbox("carol")
    assert copy["Delivered-To"] == "carol@example.com"


@pytest.mark.faq("address-masquerading", "44-S4")
def test_behaviour_relaying_is_judged_before_masquerading(lab: Lab) -> None:
    """The SMTP server checks relaying against the machine's name and refuses it."""
    lab.gateway.configure(masquerade_domains="$mydomain", masquerade_classes=WITH_RECIPIENTS)

    mail = lab.remote.smtp(f"carol@{MACHINE}", server=lab.gateway)
    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying=f"<carol@{MACHINE}>: Relay access denied")
    assert not mail.reached(lab.gateway)
