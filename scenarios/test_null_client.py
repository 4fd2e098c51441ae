"""Null clients: machines that send mail and receive none.

Set myorigin = $mydomain, relayhost = $mydomain, inet_interfaces = loopback-only and an
empty mydestination; master.cf needs no change. Users read their mail on the server, by POP
or from a shared spool. The server has to know the machine's name if mail for
user@nullclient should arrive.

The FAQ removed the SMTP server and the local delivery agent from master.cf. That recipe has
a gap: mydestination still contains the machine's own name, and mail for it stays in the
queue for five days.

Since the FAQ:
- 2.2: inet_interfaces=loopback-only.
"""

import pytest

from maillab import Lab, pop3

pytestmark = pytest.mark.topology("workstations")

# Postfix's defaults.
OUT_OF_THE_BOX = {
    "myorigin": "$myhostname",
    "relayhost": "",
    "inet_interfaces": "all",
    "mydestination": "$myhostname, localhost.$mydomain, localhost",
}
# The FAQ's main.cf; other settings keep their defaults.
AS_IN_THE_FAQ = OUT_OF_THE_BOX | {"myorigin": "$mydomain", "relayhost": "$mydomain"}
TODAY = AS_IN_THE_FAQ | {"inet_interfaces": "loopback-only", "mydestination": ""}

ITSELF = "root@nullclient.example.com"
# The server's /var/mail as mounted on the null client.
SPOOL = "/mnt/spool"


@pytest.mark.faq("null-client", "3a")
def test_symptom_mail_stays_on_a_machine_where_nobody_reads_it(lab: Lab) -> None:
    """By default Postfix stores mail for local users and accepts it from the network."""
    lab.nullclient.misconfigure(**OUT_OF_THE_BOX)

    mail = lab.nullclient.send(to="joe")
    other = lab.ws1.smtp(f"joe@{lab.nullclient.fqdn}", server=lab.nullclient)
    lab.settle(mail, other)

    assert mail.delivered_to(lab.nullclient, mailbox="joe")
    assert other.delivered_to(lab.nullclient, mailbox="joe")
    assert not mail.reached(lab.server)


@pytest.mark.faq("null-client", "3b")
def test_cure_the_faqs_recipe_sends_and_takes_nothing(lab: Lab) -> None:
    """Without the two services mail goes to the server, and port 25 is closed."""
    lab.nullclient.configure(**OUT_OF_THE_BOX)
    lab.nullclient.cure.configure(**AS_IN_THE_FAQ)
    lab.nullclient.cure.no_service("smtp/inet")
    lab.nullclient.cure.no_service("local/unix")

    mail = lab.nullclient.send(to="joe", user="alice")
    lab.settle(mail)

    assert mail.delivered_to(lab.server, mailbox="joe")
    (copy,) = lab.server.mailbox("joe")
    assert copy["Return-Path"] == "<alice@example.com>"
    with lab.ws1.session(lab.nullclient) as session:
        assert session.greeting.code == 0
        assert "Connect call failed" in session.greeting.text


@pytest.mark.faq("null-client", "3b")
def test_symptom_the_faqs_recipe_forgets_the_machines_own_name(lab: Lab) -> None:
    """Mail for the machine's own name is local and undeliverable: it bounces after five days."""
    lab.nullclient.misconfigure(**AS_IN_THE_FAQ)
    lab.nullclient.mistake.no_service("smtp/inet")
    lab.nullclient.mistake.no_service("local/unix")

    mail = lab.nullclient.send(to=ITSELF, user="alice")
    lab.settle(mail)
    waits = mail.held_by(lab.nullclient).now()
    put_off = mail.deferred(dsn="4.3.0", saying="mail transport unavailable").now()
    reached = mail.reached(lab.server).now()
    lab.clock.advance(days=5, minutes=1)
    lab.settle(mail)

    assert waits
    assert put_off
    assert not reached
    (notice,) = lab.server.mailbox("alice")
    assert f"<{ITSELF}>: mail transport unavailable" in str(notice)


@pytest.mark.faq("null-client", "3c")
def test_cure_nothing_is_local_and_nobody_else_can_connect(lab: Lab) -> None:
    """All mail goes to the server; port 25 serves only programs on the machine itself."""
    lab.nullclient.configure(**OUT_OF_THE_BOX)
    lab.nullclient.cure.configure(**TODAY)

    mail = lab.nullclient.send(to="joe", user="alice")
    own = lab.nullclient.session("127.0.0.1")
    lab.settle(mail)

    assert mail.delivered_to(lab.server, mailbox="joe")
    (copy,) = lab.server.mailbox("joe")
    assert copy["Return-Path"] == "<alice@example.com>"
    assert own.greeting.code == 220
    own.close()
    with lab.ws1.session(lab.nullclient) as session:
        assert session.greeting.code == 0
        assert "Connect call failed" in session.greeting.text


@pytest.mark.faq("null-client", "3c")
def test_symptom_a_server_that_does_not_trust_the_machine(lab: Lab) -> None:
    """Mail for the machine itself goes to the server, which refuses to relay it."""
    lab.server.misconfigure(mynetworks="127.0.0.0/8")

    mail = lab.nullclient.send(to=ITSELF)
    lab.settle(mail)

    assert mail.deferred(dsn="4.7.1", saying=f"said: 454 4.7.1 <{ITSELF}>: Relay access denied")
    assert mail.held_by(lab.nullclient)


@pytest.mark.faq("null-client", "3c")
def test_symptom_a_server_that_sends_it_back(lab: Lab) -> None:
    """A server that trusts the machine tries to connect to it, and is refused."""
    lab.server.configure(virtual_alias_maps=f"inline:{{ {{{ITSELF}=root@example.com}} }}")
    lab.server.misconfigure(virtual_alias_maps="")

    mail = lab.nullclient.send(to=ITSELF)
    lab.settle(mail)

    reason = f"connect to nullclient.example.com[{lab.nullclient.address}]:25"
    assert mail.deferred(dsn="4.4.1", saying=f"{reason}: Connection refused")
    assert mail.held_by(lab.server)


@pytest.mark.faq("null-client", "3c")
def test_cure_the_server_knows_whose_mail_it_is(lab: Lab) -> None:
    """A virtual map on the server sends the machine's mail to a real user."""
    lab.server.cure.configure(virtual_alias_maps=f"inline:{{ {{{ITSELF}=dave@example.com}} }}")

    mail = lab.nullclient.send(to=ITSELF)
    lab.settle(mail)

    assert mail.delivered_to(lab.server, mailbox="dave")


@pytest.mark.faq("null-client", "3d")
def test_cure_mail_for_the_machine_is_returned(lab: Lab) -> None:
    """local_transport=error: bounces the mail at once, with the notice on the server."""
    lab.nullclient.configure(**AS_IN_THE_FAQ)
    lab.nullclient.cure.configure(local_transport="error:5.1.1 Mailbox unavailable")

    mail = lab.nullclient.send(to=ITSELF, user="alice")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying="Mailbox unavailable")
    assert not mail.reached(lab.server)
    (notice,) = lab.server.mailbox("alice")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"
    assert f"<{ITSELF}>: Mailbox unavailable" in str(notice)


@pytest.mark.faq("null-client", "3c")
def test_symptom_the_server_takes_no_mail_for_the_internet(lab: Lab) -> None:
    """By default a server relays only for itself: the null client's off-site mail waits."""
    lab.server.misconfigure(mynetworks="127.0.0.0/8")

    mail = lab.nullclient.send(to="joe@example.net")
    lab.settle(mail)

    refusal = "said: 454 4.7.1 <joe@example.net>: Relay access denied"
    assert mail.deferred(dsn="4.7.1", saying=refusal)
    assert mail.held_by(lab.nullclient)


@pytest.mark.faq("null-client", "3c")
def test_cure_the_server_relays_for_the_null_client(lab: Lab) -> None:
    """With the machine in the server's mynetworks its off-site mail is delivered."""
    lab.server.configure(mynetworks="127.0.0.0/8")
    lab.server.cure.configure(mynetworks=f"127.0.0.0/8, {lab.nullclient.address}")

    mail = lab.nullclient.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert mail.reached(lab.server)
    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<alice@example.com>"


@pytest.mark.faq("null-client", "3c")
def test_cure_users_of_a_null_client_read_by_pop(lab: Lab) -> None:
    """The mail is on the server, and users read it from a POP server there."""
    pop3.serve(lab.server.cure, {"joe": "secret"})

    mail = lab.nullclient.send(to="joe", user="alice")
    lab.settle(mail)
    inbox = pop3.read(lab.nullclient, lab.server, "joe", "secret")

    assert [copy["Message-ID"] for copy in inbox.messages] == [mail.message_id]
    assert inbox.messages[0]["From"] == "alice@example.com"


@pytest.mark.faq("null-client", "3c")
def test_behaviour_users_of_a_null_client_read_the_servers_spool(lab: Lab) -> None:
    """The lab shares one spool by a volume instead of NFS; only the server delivers to it.

    For locks see workstations-servers.
    """
    mail = lab.nullclient.send(to="joe", user="alice")
    lab.settle(mail)
    owner = lab.nullclient.run("cat", f"{SPOOL}/joe", user="joe")
    other = lab.nullclient.run("cat", f"{SPOOL}/joe", user="alice", check=False)

    assert mail.delivered_to(lab.server, mailbox="joe")
    assert mail.message_id in owner.stdout
    assert other.status == 1
    assert "Permission denied" in other.stderr
