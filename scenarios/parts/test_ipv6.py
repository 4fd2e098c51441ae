"""Mail by IPv6, by IPv4, and by whichever of the two works.

Each host of a lab has an address of each, and Postfix speaks both where inet_protocols=all.
"""

import ipaddress

import pytest

from maillab import Connected, Delivery, Event, HopFailed, Lab, Mail, Rejected
from maillab.faults import DnsAnswer, ForeignPtr, NoRoute, SilentDrop
from maillab.lab import pcap

pytestmark = [pytest.mark.topology("standalone"), pytest.mark.ipv6]

# As a large provider words it.
NO_PTR = (
    "550 5.7.1 Our system has detected that this message does not meet IPv6 sending "
    "guidelines regarding PTR records and authentication"
)


@pytest.fixture(autouse=True)
def dual(lab: Lab) -> None:
    """Let both servers speak both versions of IP, and do not wait long for a connection."""
    lab.mail.configure(inet_protocols="all", smtp_connect_timeout="2s")
    lab.remote.configure(inet_protocols="all")


def sent(lab: Lab) -> Mail:
    """Send from the mail server to the remote correspondent; settle."""
    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)
    return mail


def arrived_by(lab: Lab) -> list[str]:
    """Return the addresses of the remote by which mail was delivered, in order."""
    events = lab.events(Delivery, lab.mail)
    return [event.relay_address for event in events if event.status == "sent"]


def failed_by(lab: Lab, saying: str) -> set[str]:
    """Return the addresses of the remote that failed with these words."""
    return {e.relay_address for e in lab.events(HopFailed, lab.mail) if saying in e.text}


def asks_for_names_by_ipv6(lab: Lab) -> None:
    """Let the remote refuse clients by IPv6 whose address has no name that leads back to it."""
    guidelines = lab.remote.table("guidelines", {"unknown": NO_PTR}, "texthash")
    by_version = lab.remote.table("by_version", {"::/0": "guidelines"}, "cidr")
    lab.remote.configure(
        smtpd_restriction_classes="guidelines",
        guidelines=f"check_client_access {guidelines}",
        smtpd_client_restrictions=f"check_client_access {by_version}",
    )


# Which of the two.


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_behaviour_the_preferred_version_carries_the_mail(lab: Lab, version: str) -> None:
    """smtp_address_preference decides between the addresses of one host, as seen on the wire."""
    # By default, "any", chance decides.
    lab.mail.configure(smtp_address_preference={"ipv4": "ipv6", "ipv6": "ipv4"}[version])
    lab.mail.cure.configure(smtp_address_preference=version)
    lab.capture()

    mail = sent(lab)

    there = {"ipv4": lab.remote.address, "ipv6": lab.remote.address6}[version]
    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert arrived_by(lab) == [there]
    wire = pcap.packets(lab.captured()["mail"])
    assert {p.destination for p in wire if p.destination_port == 25} == {there}


def test_behaviour_a_server_that_speaks_ipv6_only_in_a_world_of_ipv4(lab: Lab) -> None:
    """A host without any IPv4 address sends, receives and asks the DNS by IPv6."""
    lab.mail.mistake.ipv6_only()
    lab.capture()

    there = sent(lab)
    back = lab.remote.send(to="alice@example.com")
    lab.settle(back)

    assert there.delivered_to(lab.remote, mailbox="joe")
    assert back.delivered_to(lab.mail, mailbox="alice")
    wire = [p for p in pcap.packets(lab.captured()["mail"]) if not p.inside]
    assert {ipaddress.ip_address(p.destination).version for p in wire} == {6}
    assert {25, 53} <= {port for p in wire for port in p.ports}


def test_symptom_a_sender_by_ipv4_cannot_reach_a_host_with_ipv6_only(lab: Lab) -> None:
    """With inet_protocols=ipv4 smtp(8) asks for A records only: the mail bounces at once."""
    lab.mail.configure(inet_protocols="ipv4")
    lab.remote.mistake.ipv6_only()

    mail = sent(lab)

    assert mail.bounced(dsn="5.4.4", saying="Name service error for name=remote.example.net type=A")


def test_cure_both_protocols_reach_a_host_with_ipv6_only(lab: Lab) -> None:
    """With inet_protocols=all the AAAA record is enough."""
    lab.mail.configure(inet_protocols="ipv4")
    lab.remote.ipv6_only()
    lab.mail.cure.configure(inet_protocols="all")

    mail = sent(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert arrived_by(lab) == [lab.remote.address6]


def test_behaviour_a_host_with_ipv4_only_is_reached_by_it(lab: Lab) -> None:
    """Without an AAAA record there is nothing to fail first, whatever is preferred."""
    lab.mail.configure(smtp_address_preference="ipv6")
    lab.remote.mistake.ipv4_only()

    mail = sent(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert arrived_by(lab) == [lab.remote.address]
    assert not lab.events(HopFailed, lab.mail)


# IPv6 that half works.


def test_symptom_no_route_by_ipv6_is_unreachable(lab: Lab) -> None:
    """A host with an IPv6 address and no way out: the mail waits if IPv6 is all it may use."""
    lab.mail.configure(inet_protocols="ipv6")

    with lab.mail.faulty(NoRoute()):
        mail = sent(lab)

    words = f"connect to remote.example.net[{lab.remote.address6}]:25: Network is unreachable"
    assert mail.deferred(dsn="4.4.1", saying=words)


def test_symptom_ipv6_turned_off_under_postfix_cannot_assign_an_address(lab: Lab) -> None:
    """As in a container without IPv6 while inet_protocols says that there is some."""
    lab.mail.configure(smtp_address_preference="ipv6")
    lab.mail.mistake.ipv6_off()

    mail = sent(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert failed_by(lab, "Cannot assign requested address") == {lab.remote.address6}
    assert arrived_by(lab) == [lab.remote.address]


def test_behaviour_broken_ipv6_falls_back_to_ipv4(lab: Lab) -> None:
    """Postfix waits smtp_connect_timeout for the IPv6 address, then tries the IPv4 address."""
    lab.mail.configure(smtp_address_preference="ipv6")

    with lab.remote.faulty(SilentDrop(over="ipv6")):
        mail = sent(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert failed_by(lab, "Connection timed out") == {lab.remote.address6}
    assert arrived_by(lab) == [lab.remote.address]


def test_cure_without_ipv6_nothing_is_tried_in_vain(lab: Lab) -> None:
    """On a host whose IPv6 is broken, inet_protocols=ipv4 ends the failures."""
    lab.mail.configure(smtp_address_preference="ipv6")
    lab.mail.cure.configure(inet_protocols="ipv4")

    with lab.mail.faulty(NoRoute()):
        mail = sent(lab)
        # The kernel counts: there is no route, for Postfix or any other program.
        lab.mail.run("bash", "-c", f"</dev/tcp/{lab.remote.address6}/25", check=False)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert not failed_by(lab, "Network is unreachable")


def test_symptom_a_bind_address_that_the_host_does_not_have(lab: Lab) -> None:
    """smtp_bind_address6 names an address of before: smtp(8) warns, and takes another."""
    lab.mail.configure(smtp_address_preference="ipv6")
    gone = "2001:db8::dead"
    lab.mail.misconfigure(smtp_bind_address6=gone)

    mail = sent(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert [
        event
        for event in lab.events(Event, lab.mail)
        if f"bind {gone}: Cannot assign requested address" in event.text
    ]


def test_behaviour_a_bind_address_decides_who_the_client_is(lab: Lab) -> None:
    """With a second IPv6 address, smtp_bind_address6 decides which one the receiver sees."""
    lab.mail.configure(smtp_address_preference="ipv6")
    second = lab.mail.add_address6(77)
    lab.mail.configure(smtp_bind_address6=lab.mail.address6)
    lab.mail.cure.configure(smtp_bind_address6=second)

    mail = sent(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (client,) = lab.events(Connected, lab.remote)
    assert client.client_address == second


# Names of IPv6 addresses.


def test_symptom_an_ipv6_address_without_a_name_is_refused(lab: Lab) -> None:
    """The receiver asks for a PTR record by IPv6 alone; the site has one for IPv4 alone."""
    lab.mail.configure(smtp_address_preference="ipv6")
    asks_for_names_by_ipv6(lab)
    lab.mail.mistake.publish(lab.mail.address6, "PTR")

    mail = sent(lab)

    assert mail.bounced(dsn="5.7.1", saying="does not meet IPv6 sending guidelines regarding PTR")
    assert not mail.reached(lab.remote)


def test_cure_a_ptr_record_for_the_ipv6_address(lab: Lab) -> None:
    """The address has a name, and the name has the address."""
    lab.mail.configure(smtp_address_preference="ipv6")
    asks_for_names_by_ipv6(lab)
    lab.mail.publish(lab.mail.address6, "PTR")
    lab.mail.cure.publish(lab.mail.address6, "PTR", "mail.example.com.")

    mail = sent(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert arrived_by(lab) == [lab.remote.address6]


def test_cure_by_ipv4_nobody_asks(lab: Lab) -> None:
    """smtp_address_preference=ipv4 avoids the question where the PTR record is not one's own."""
    lab.mail.configure(smtp_address_preference="ipv6")
    asks_for_names_by_ipv6(lab)
    lab.mail.publish(lab.mail.address6, "PTR")
    lab.mail.cure.configure(smtp_address_preference="ipv4")

    mail = sent(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert arrived_by(lab) == [lab.remote.address]


def test_symptom_a_name_of_the_ipv6_address_that_is_another_hosts(lab: Lab) -> None:
    """A PTR record whose name does not lead back counts as none."""
    lab.mail.configure(smtp_address_preference="ipv6")
    asks_for_names_by_ipv6(lab)
    foreign = ForeignPtr(lab.mail.address6, points_to="client.example.net")

    with lab.remote.faulty(foreign):
        mail = sent(lab)

    assert mail.bounced(dsn="5.7.1", saying="does not meet IPv6 sending guidelines regarding PTR")
    (client,) = lab.events(Connected, lab.remote)
    assert (client.client_name, client.client_address) == ("unknown", lab.mail.address6)


def test_behaviour_a_temporary_refusal_by_ipv6_leads_to_ipv4(lab: Lab) -> None:
    """A name server that fails on the PTR record means 450, not 550: smtp(8) tries IPv4 then."""
    lab.mail.configure(smtp_address_preference="ipv6")
    lab.remote.configure(
        smtpd_client_restrictions="reject_unknown_client_hostname",
        unknown_client_reject_code="550",
    )

    with lab.remote.faulty(DnsAnswer(lab.mail.address6, "PTR", rcode="SERVFAIL")):
        mail = sent(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    refusals = [(e.client_address, e.code, e.dsn) for e in lab.events(Rejected, lab.remote)]
    assert refusals == [(lab.mail.address6, 450, "4.7.25")]
    assert arrived_by(lab) == [lab.remote.address]


# Who may relay.


def test_symptom_mynetworks_without_ipv6_refuses_ones_own(lab: Lab) -> None:
    """A client that the site knows by its IPv4 address comes by IPv6."""
    known = f"127.0.0.0/8, {lab.client.address}/32"
    lab.mail.configure(mynetworks=f"{known}, [{lab.client.address6}]/128")
    lab.mail.misconfigure(mynetworks=known)

    mail = lab.client.smtp(to="joe@example.net", server=lab.mail, address=lab.mail.address6)

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")


def test_cure_mynetworks_has_the_ipv6_address_in_brackets(lab: Lab) -> None:
    """An IPv6 address is in brackets there, its length after them."""
    lab.mail.configure(mynetworks=f"127.0.0.0/8, {lab.client.address}/32")
    lab.mail.cure.configure(
        mynetworks=f"127.0.0.0/8, {lab.client.address}/32, [{lab.client.address6}]/128"
    )

    mail = lab.client.smtp(to="joe@example.net", server=lab.mail, address=lab.mail.address6)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


def test_symptom_a_program_on_the_host_that_comes_from_its_ipv6_loopback(lab: Lab) -> None:
    """A mynetworks of 127.0.0.0/8 alone refuses what a program sends to [::1]."""
    lab.mail.misconfigure(mynetworks="127.0.0.0/8")

    mail = lab.mail.smtp(to="joe@example.net", server=lab.mail, address="::1")
    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")
    (client,) = lab.events(Connected, lab.mail)
    assert client.client_address == "::1"


def test_cure_the_ipv6_loopback_is_in_mynetworks(lab: Lab) -> None:
    """[::1]/128 belongs to 127.0.0.0/8, as in Postfix's own default."""
    lab.mail.configure(mynetworks="127.0.0.0/8")
    lab.mail.cure.configure(mynetworks="127.0.0.0/8, [::1]/128")

    mail = lab.mail.smtp(to="joe@example.net", server=lab.mail, address="::1")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
