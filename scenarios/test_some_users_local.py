"""Delivering some users locally while sending as user@domain.

List the exceptions in virtual_alias_maps, at least root, as user@machine: their mail stays
on this machine, and other users' mail goes to the domain's server. The reverse also works:
treat the whole domain as local and pass on mail for other users (fallback_transport). For a
machine without a domain that sends from an account at a provider, use smtp_generic_maps.

Since the FAQ:
- 2.0: virtual_maps is virtual_alias_maps.
- 2.2: smtp_generic_maps rewrites outgoing mail only; the FAQ's sender canonical maps rewrote
  local mail as well.
"""

import pytest

from maillab import Lab

pytestmark = pytest.mark.topology("workstations")

# The machine sends as user@domain, through the domain's server.
BY_THE_SERVER = {"myorigin": "$mydomain", "relayhost": "[server.example.com]"}
EXCEPTIONS = {"root": "root@localhost", "bob@example.com": "bob@localhost"}
OWN_NAMES = "$myhostname, localhost.$mydomain, localhost"


@pytest.mark.faq("some-users-local", "34-S1")
@pytest.mark.parametrize("user", ["root", "bob"])
def test_symptom_mail_for_local_users_leaves_the_machine(lab: Lab, user: str) -> None:
    """With user@domain every local name means the domain's user, root included."""
    exceptions = lab.ws1.table("virtual", EXCEPTIONS)
    lab.ws1.configure(virtual_alias_maps=exceptions, **BY_THE_SERVER)
    lab.ws1.misconfigure(virtual_alias_maps="")

    mail = lab.ws1.send(to=user, user="alice")
    lab.settle(mail)

    assert mail.reached(lab.server)
    assert not lab.ws1.stored()
    assert mail.delivered_to(lab.server, mailbox=user)


@pytest.mark.faq("some-users-local", "34-S2")
def test_cure_a_virtual_map_keeps_some_users_here(lab: Lab) -> None:
    """Mail for users in the map stays here, other mail goes to the server; senders are unchanged.

    A name without a domain matches, since myorigin is the address's domain. For the same
    reason an alias must say localhost, or its mail leaves after all.
    """
    lab.ws1.aliases({"root": "carol@localhost, dave"})
    lab.ws1.configure(**BY_THE_SERVER)
    exceptions = lab.ws1.cure.table("virtual", EXCEPTIONS)
    lab.ws1.cure.configure(virtual_alias_maps=exceptions)

    for_root = lab.ws1.send(to="root", user="alice")
    for_bob = lab.ws1.send(to="bob", user="alice", headers={"From": "alice"})
    for_dave = lab.ws1.send(to="dave", user="bob")
    lab.settle(for_root, for_bob, for_dave)

    assert for_root.delivered_to(lab.ws1, mailbox="carol")
    assert for_root.delivered_to(lab.server, mailbox="dave")
    assert for_bob.delivered_to(lab.ws1, mailbox="bob")
    assert for_dave.delivered_to(lab.server, mailbox="dave")
    assert not for_bob.reached(lab.server)
    (copy,) = lab.ws1.mailbox("bob")
    assert copy["Delivered-To"] == "bob@localhost"
    assert copy["X-Original-To"] == "bob"
    assert copy["From"] == "alice@example.com"
    assert copy["Return-Path"] == "<alice@example.com>"
    senders = [copy["Return-Path"] for copy in lab.server.mailbox("dave")]
    assert sorted(senders) == ["<alice@example.com>", "<bob@example.com>"]


@pytest.mark.faq("some-users-local", "34-S3")
def test_symptom_the_domain_taken_for_local_knows_no_remote_user(lab: Lab) -> None:
    """With the domain in mydestination alone a user without an account here is unknown."""
    passing_on = {"local_recipient_maps": "", "fallback_transport": "smtp:[server.example.com]"}
    lab.server.user("zoe")
    lab.ws1.configure(**BY_THE_SERVER, **passing_on, mydestination=f"{OWN_NAMES}, $mydomain")
    lab.ws1.misconfigure(fallback_transport="")

    mail = lab.ws1.send(to="zoe", user="alice")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "zoe"')
    (notice,) = lab.ws1.mailbox("alice")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"


@pytest.mark.faq("some-users-local", "34-S3")
def test_cure_a_fallback_transport_passes_on_who_is_not_here(lab: Lab) -> None:
    """Users with an account here get mail here, other users at the server."""
    lab.server.user("zoe")
    lab.ws1.configure(**BY_THE_SERVER, mydestination=f"{OWN_NAMES}, $mydomain")
    lab.ws1.cure.configure(local_recipient_maps="", fallback_transport="smtp:[server.example.com]")

    for_bob = lab.ws1.send(to="bob", user="alice")
    for_zoe = lab.ws1.send(to="zoe", user="alice")
    lab.settle(for_bob, for_zoe)

    assert for_zoe.delivered_to(lab.server, mailbox="zoe")
    assert for_bob.delivered_to(lab.ws1, mailbox="bob")
    assert not for_bob.reached(lab.server)


@pytest.mark.faq("some-users-local", "34-S3")
def test_symptom_a_server_that_sends_it_back_makes_a_loop(lab: Lab) -> None:
    """If each host passes unknown users on to the other, mail loops up to hopcount_limit."""
    lab.ws1.configure(
        mydestination=f"{OWN_NAMES}, $mydomain",
        local_recipient_maps="",
        fallback_transport="smtp:[server.example.com]",
        hopcount_limit="6",
        **BY_THE_SERVER,
    )
    lab.server.misconfigure(local_recipient_maps="", fallback_transport="smtp:[ws1.example.com]")

    mail = lab.ws1.send(to="zoe", user="alice")
    lab.settle(mail)

    assert mail.reached(lab.server)
    assert mail.bounced(dsn="5.4.0", saying="too many hops")


ACCOUNT = "acct@isp.example.net"
ALIKE = "acct+local@isp.example.net"
HOME = "hostname.localdomain"
# alice's account, and one for all other users.
IDENTITIES = f"inline:{{ {{alice@{HOME}={ACCOUNT}}}, {{@{HOME}={ALIKE}}} }}"
# A machine with an invented name.
AT_HOME = {
    "myhostname": HOME,
    "mydomain": "localdomain",
    "myorigin": "$myhostname",
    "mydestination": OWN_NAMES,
}


@pytest.mark.faq("some-users-local", "34-S4")
@pytest.mark.topology("dialup")
def test_symptom_nobody_can_answer_a_name_that_is_not_in_dns(lab: Lab) -> None:
    """The address of a machine without a domain goes out unchanged; a reply bounces."""
    lab.home.configure(**AT_HOME, smtp_generic_maps=IDENTITIES)
    lab.home.misconfigure(smtp_generic_maps="")

    mail = lab.home.send(to="joe@example.org", user="alice", headers={"From": "alice"})
    lab.settle(mail)
    (copy,) = lab.remote.mailbox("joe")
    reply = lab.remote.send(to=str(copy["From"]), user="joe")
    lab.settle(reply)

    assert copy["From"] == f"alice@{HOME}"
    assert copy["Return-Path"] == f"<alice@{HOME}>"
    assert reply.bounced(dsn="5.4.4", saying=f"Name service error for name={HOME} type=A")


@pytest.mark.faq("some-users-local", "34-S4")
@pytest.mark.topology("dialup")
def test_cure_mail_goes_out_under_the_accounts_name(lab: Lab) -> None:
    """smtp_generic_maps rewrites outgoing mail; local mail keeps the users' own addresses."""
    lab.home.configure(**AT_HOME)
    lab.home.cure.configure(smtp_generic_maps=IDENTITIES)

    mail = lab.home.send(
        to=["joe@example.org", "bob"],
        user="alice",
        headers={"From": "alice", "To": "joe@example.org, bob"},
    )
    from_bob = lab.home.send(to="carol@example.org", user="bob", headers={"From": "bob"})
    lab.settle(mail, from_bob)

    (copy,) = lab.remote.mailbox("joe")
    assert copy["From"] == ACCOUNT
    assert copy["Return-Path"] == f"<{ACCOUNT}>"
    assert copy["To"] == f"joe@example.org, {ALIKE}"
    (copy,) = lab.remote.mailbox("carol")
    assert copy["From"] == ALIKE
    assert copy["Return-Path"] == f"<{ALIKE}>"
    (copy,) = lab.home.mailbox("bob")
    assert copy["From"] == f"alice@{HOME}"
    assert copy["Return-Path"] == f"<alice@{HOME}>"
    assert copy["To"] == f"joe@example.org, bob@{HOME}"
