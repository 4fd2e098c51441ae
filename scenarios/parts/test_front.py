"""A mail server behind a front: what it sees of its clients, and what follows from that.

Each scenario shows a front at work, or one way in which the server and the front disagree.
"""

import pytest

from maillab import (
    Complaint,
    Connected,
    FrontHost,
    HandedOver,
    Host,
    Lab,
    Mail,
    Rejected,
    Screened,
)
from maillab.faults import HostCrashed, HostFrozen

pytestmark = pytest.mark.topology("published")

# Debian's master.cf has these rows as comments.
POSTSCREEN = (
    "smtp inet n - n - 1 postscreen",
    "smtpd pass - - n - - smtpd",
    "dnsblog unix - - n - 0 dnsblog",
    "tlsproxy unix - - n - 0 tlsproxy",
)
NO_REVERSE_NAME = "Client host rejected: cannot find your reverse hostname"


def front(lab: Lab) -> FrontHost:
    """Return the front."""
    host: Host = lab.front
    assert isinstance(host, FrontHost)
    return host


def sent(lab: Lab, client: Host, to: str = "alice@example.com") -> Mail:
    """Send a message from a client through the front; settle."""
    mail = client.smtp(to, server=front(lab))
    lab.settle(mail)
    return mail


def seen(lab: Lab) -> list[str]:
    """Return the addresses of the clients that the mail server saw, in order."""
    return [event.client_address for event in lab.events(Connected, lab.mail)]


def complaints(lab: Lab) -> str:
    """Return the warnings of the mail server."""
    return "\n".join(event.text for event in lab.events(Complaint, lab.mail))


def trust_the_container_network(lab: Lab) -> None:
    """Let the mail server relay for the network that it shares with the front."""
    network = f"{front(lab).inner.rpartition('.')[0]}.128/25"
    lab.mail.configure(mynetworks=f"127.0.0.0/8, {network}")


def refuse_clients_without_a_name(lab: Lab) -> None:
    """Refuse every client whose address has no PTR record."""
    lab.mail.configure(smtpd_client_restrictions="reject_unknown_reverse_client_hostname")


def use_postscreen(lab: Lab) -> None:
    """Put postscreen(8) before smtpd(8) on port 25."""
    for row in POSTSCREEN:
        lab.mail.service(row)
    # Longer than a message on the way from HAProxy to its server.
    lab.mail.configure(postscreen_greet_wait="1s")


# The NAT.


def test_symptom_a_nat_that_rewrites_addresses_makes_an_open_relay(lab: Lab) -> None:
    """Every client has the front's address, which mynetworks contains: a stranger may relay."""
    trust_the_container_network(lab)
    front(lab).mistake.nat(rewrites_source=True)

    mail = sent(lab, lab.stranger, to="joe@example.net")

    assert seen(lab) == [front(lab).inner]
    assert mail.delivered_to(lab.remote, mailbox="joe")


def test_cure_mynetworks_without_the_container_network(lab: Lab) -> None:
    """With the loopback alone in mynetworks, the stranger may not relay; others still may write."""
    trust_the_container_network(lab)
    front(lab).nat(rewrites_source=True)
    lab.mail.cure.configure(mynetworks="127.0.0.0/8")

    mail = sent(lab, lab.stranger, to="joe@example.net")
    ours = sent(lab, lab.client)

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")
    assert ours.delivered_to(lab.mail, mailbox="alice")


def test_cure_the_proxy_protocol_closes_the_relay(lab: Lab) -> None:
    """The server sees the stranger's own address, so it is no client of mynetworks."""
    trust_the_container_network(lab)
    front(lab).balancer()
    front(lab).cure.balancer("v2")
    lab.mail.cure.configure(smtpd_upstream_proxy_protocol="haproxy")

    mail = sent(lab, lab.stranger, to="joe@example.net")

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")
    assert seen(lab) == [lab.stranger.address]


def test_symptom_a_nat_that_rewrites_addresses_hides_every_name(lab: Lab) -> None:
    """A server that wants a reverse name of its clients then refuses everybody."""
    refuse_clients_without_a_name(lab)
    front(lab).mistake.nat(rewrites_source=True)

    mails = [sent(lab, lab.client), sent(lab, lab.stranger)]

    assert all(mail.rejected(450, "4.7.1", saying=NO_REVERSE_NAME) for mail in mails)
    assert {event.client_address for event in lab.events(Rejected, lab.mail)} == {front(lab).inner}


def test_cure_a_nat_that_keeps_the_clients_addresses(lab: Lab) -> None:
    """The server sees each client's own address and name: it neither relays nor refuses them."""
    trust_the_container_network(lab)
    refuse_clients_without_a_name(lab)
    front(lab).nat(rewrites_source=True)
    front(lab).cure.nat(rewrites_source=False)

    stranger = sent(lab, lab.stranger, to="joe@example.net")
    mail = sent(lab, lab.client)

    assert seen(lab) == [lab.stranger.address, lab.client.address]
    assert stranger.rejected(454, "4.7.1", saying="Relay access denied")
    assert mail.delivered_to(lab.mail, mailbox="alice")


def test_behaviour_the_servers_own_mail_leaves_from_the_public_address(lab: Lab) -> None:
    """The remote sees the address that the domain's MX has."""
    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (client,) = lab.events(Connected, lab.remote)
    assert (client.client_name, client.client_address) == ("mail.example.com", lab.front.address)


# The balancer and the PROXY protocol.


def test_symptom_a_balancer_hides_the_clients(lab: Lab) -> None:
    """HAProxy's log has the client's address, Postfix's log only HAProxy's."""
    front(lab).mistake.balancer()

    mail = sent(lab, lab.client)

    assert seen(lab) == [front(lab).inner]
    assert mail.delivered_to(lab.mail, mailbox="alice")
    (handed,) = lab.events(HandedOver, lab.front)
    assert (handed.client_address, handed.server) == (lab.client.address, "mail")


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_cure_the_proxy_protocol_shows_the_clients(lab: Lab, protocol: str) -> None:
    """Both versions work with smtpd_upstream_proxy_protocol; one log line each has the client."""
    front(lab).balancer()
    front(lab).cure.balancer(protocol)  # type: ignore[arg-type]  # one of the two
    lab.mail.cure.configure(smtpd_upstream_proxy_protocol="haproxy")

    mail = sent(lab, lab.client)

    assert seen(lab) == [lab.client.address]
    assert mail.delivered_to(lab.mail, mailbox="alice")
    (handed,) = lab.events(HandedOver, lab.front)
    assert handed.client_address == lab.client.address


def test_behaviour_port_465_needs_the_protocol_as_well(lab: Lab) -> None:
    """The header comes before TLS; a login then has the client's address."""
    front(lab).cure.balancer("v2")
    lab.mail.cure.configure(smtpd_upstream_proxy_protocol="haproxy")

    mail = lab.client.smtp(
        "joe@example.net", server=front(lab), port=465, tls=True, login=("alice", "secret")
    )
    lab.settle(mail)

    assert lab.events(HandedOver, lab.front)
    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert seen(lab) == [lab.client.address]


def test_symptom_the_server_expects_a_header_that_nobody_sends(lab: Lab) -> None:
    """Postfix waits for it, then says 421; the client gets no greeting before that."""
    front(lab).balancer("v2")
    lab.mail.configure(smtpd_upstream_proxy_protocol="haproxy", smtpd_upstream_proxy_timeout="2s")
    front(lab).mistake.balancer()

    mail = sent(lab, lab.client)

    assert mail.rejected(421, "4.3.0", saying="Server local error")
    assert "haproxy read: timeout error" in complaints(lab)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_symptom_a_header_that_the_server_does_not_expect(lab: Lab, protocol: str) -> None:
    """For Postfix the header is a client that speaks before the greeting: nothing gets in."""
    front(lab).mistake.balancer(protocol)  # type: ignore[arg-type]  # one of the two

    mail = sent(lab, lab.client)

    assert not mail.delivered_to(lab.mail, mailbox="alice")
    assert seen(lab) == [front(lab).inner]


def test_cure_both_sides_agree_on_the_header(lab: Lab) -> None:
    """With the setting of the service that the balancer connects to, mail comes in."""
    front(lab).balancer("v1")
    lab.mail.cure.configure(smtpd_upstream_proxy_protocol="haproxy")

    mail = sent(lab, lab.client)

    assert mail.delivered_to(lab.mail, mailbox="alice")


def test_behaviour_a_probe_that_connects_and_closes(lab: Lab) -> None:
    """A health check without the header: Postfix warns, and mail is not affected."""
    front(lab).balancer("v2")
    lab.mail.configure(smtpd_upstream_proxy_protocol="haproxy")

    with front(lab).mistake.connections(lab.mail, 1):
        pass
    mail = sent(lab, lab.client)

    assert "haproxy read: EOF" in complaints(lab)
    assert mail.delivered_to(lab.mail, mailbox="alice")


# postscreen(8).


def test_cure_postscreen_has_a_setting_of_its_own(lab: Lab) -> None:
    """postscreen_upstream_proxy_protocol on port 25: the client's address in both daemons."""
    use_postscreen(lab)
    front(lab).balancer("v2")
    lab.mail.cure.configure(postscreen_upstream_proxy_protocol="haproxy")

    mail = sent(lab, lab.client)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    passed = [event for event in lab.events(Screened, lab.mail) if event.action == "PASS NEW"]
    assert [event.client_address for event in passed] == [lab.client.address]
    assert seen(lab) == [lab.client.address]


def test_behaviour_smtpds_setting_is_ignored_behind_postscreen(lab: Lab) -> None:
    """smtpd(8) warns of its own setting, and has the client's address from postscreen(8)."""
    use_postscreen(lab)
    front(lab).balancer("v2")
    lab.mail.configure(postscreen_upstream_proxy_protocol="haproxy")
    lab.mail.misconfigure(smtpd_upstream_proxy_protocol="haproxy")

    mail = sent(lab, lab.client)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert seen(lab) == [lab.client.address]
    ignored = "ignoring non-empty smtpd_upstream_proxy_protocol setting behind postscreen"
    assert ignored in complaints(lab)


def test_symptom_the_header_is_a_pregreet_for_postscreen(lab: Lab) -> None:
    """Without its setting postscreen(8) takes the header for a client that talks too early."""
    use_postscreen(lab)
    front(lab).mistake.balancer("v1")

    mail = sent(lab, lab.client)

    assert not mail.delivered_to(lab.mail, mailbox="alice")
    (early,) = (e for e in lab.events(Screened, lab.mail) if e.action == "PREGREET")
    assert early.client_address == front(lab).inner


# A front that is down.


def test_symptom_a_balancer_that_is_down(lab: Lab) -> None:
    """Mail waits at its sender; after the restart a flush delivers."""
    front(lab).balancer("v2")
    lab.mail.configure(smtpd_upstream_proxy_protocol="haproxy")

    with lab.front.faulty(HostCrashed()):
        mail = lab.remote.send(to="alice@example.com")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.1", saying="Connection refused")
    lab.remote.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.mail, mailbox="alice")


def test_symptom_a_balancer_that_hangs(lab: Lab) -> None:
    """The kernel still accepts connections, but no greeting comes."""
    front(lab).balancer("v2")
    lab.mail.configure(smtpd_upstream_proxy_protocol="haproxy")
    lab.remote.configure(smtp_helo_timeout="2s")

    with lab.front.faulty(HostFrozen()):
        mail = lab.remote.send(to="alice@example.com")
        lab.settle(mail)

    waited = "timed out while receiving the initial server greeting"
    assert mail.deferred(dsn="4.4.2", saying=waited)
    lab.remote.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.mail, mailbox="alice")


def test_behaviour_a_balancer_without_a_server(lab: Lab) -> None:
    """Postfix is down: HAProxy takes the connection, tries for a while, and closes it."""
    front(lab).balancer("v2")
    lab.mail.mistake.stop()

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)

    assert mail.deferred(dsn="4.4.2", saying="lost connection with mail.example.com")
    handed = lab.wait_for(HandedOver, host=lab.front)
    assert handed.state == "SC"
