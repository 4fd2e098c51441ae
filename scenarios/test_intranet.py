"""Running Postfix inside an intranet: the gateway is the only way out.

Name the gateway as relayhost: in square brackets as a host, or without them as a domain
whose MX Postfix looks up. On the gateway list the machines inside in mynetworks. To send
mail within the intranet directly, list its domains in a transport map, or use
smtp_fallback_relay instead of relayhost.

Since the FAQ:
- 2.3: fallback_relay (of 1999) is smtp_fallback_relay: it needs no list of internal hosts,
  at the price of a failed attempt each time.
- 2.11: disable_dns_lookups, for sites without DNS, is smtp_dns_support_level; 3.9 and later
  warn about the old name.
- 3.0: Postfix trusts only itself (mynetworks_style), with compatibility_level 2 or later.
- 3.5: relayhost may be a list.
"""

import json

import pytest

from maillab import HopFailed, Lab
from maillab.faults import DnsAnswer, Refused, Unreachable

pytestmark = pytest.mark.topology("intranet")

GATEWAY = "[gateway.example.com]"
NO_DNS = DnsAnswer("*", rcode="SERVFAIL")
# The default is 30 s: with it a silent packet filter makes Postfix wait that long.
IMPATIENT = {"smtp_connect_timeout": "1s"}
# Internal mail goes by MX or address; relayhost applies to the rest.
DIRECT_INSIDE = "inline:{ {example.com=smtp:}, {.example.com=smtp:} }"


def dropped(lab: Lab) -> int:
    """Return the number of packets that the filter dropped since the last call."""
    answer = lab.filter.run("nft", "-j", "reset", "counter", "inet", "site", "dropped").stdout
    (packets,) = [
        entry["counter"]["packets"]
        for entry in json.loads(answer)["nftables"]
        if "counter" in entry
    ]
    return int(packets)


@pytest.mark.faq("intranet", "4a")
def test_symptom_mail_runs_into_the_packet_filter(lab: Lab) -> None:
    """A machine that delivers directly, the default, gets nothing through the filter."""
    lab.workstation.configure(**IMPATIENT)
    lab.workstation.misconfigure(relayhost="")
    dropped(lab)

    mail = lab.workstation.send(to="joe@example.net")
    lab.settle(mail)

    reason = f"connect to remote.example.net[{lab.remote.address}]:25"
    assert mail.deferred(dsn="4.4.1", saying=f"{reason}: Connection timed out")
    assert mail.held_by(lab.workstation)
    assert not mail.reached(lab.remote)
    assert dropped(lab) > 0


@pytest.mark.faq("intranet", "4a")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Refused, "Connection refused"), (Unreachable, "No route to host")],
    ids=["reset", "icmp"],
)
def test_symptom_a_packet_filter_may_say_no(
    lab: Lab, fault: type[Refused | Unreachable], reason: str
) -> None:
    """A filter that answers saves the wait; the mail is still deferred."""
    lab.workstation.misconfigure(relayhost="")

    with lab.filter.faulty(fault(client=lab.workstation.address)):
        mail = lab.workstation.send(to="joe@example.net")
        lab.settle(mail)

    attempt = f"connect to remote.example.net[{lab.remote.address}]:25"
    assert mail.deferred(dsn="4.4.1", saying=f"{attempt}: {reason}")
    assert mail.held_by(lab.workstation)


@pytest.mark.faq("intranet", "4b")
@pytest.mark.parametrize("relayhost", [GATEWAY, "$mydomain"], ids=["host", "domain"])
def test_cure_the_gateway_takes_mail_out(lab: Lab, relayhost: str) -> None:
    """With relayhost set to the gateway, or the domain whose MX it is, mail gets out."""
    lab.workstation.configure(relayhost="", **IMPATIENT)
    lab.workstation.cure.configure(relayhost=relayhost)
    dropped(lab)

    mail = lab.workstation.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert mail.reached(lab.gateway)
    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<alice@example.com>"
    assert dropped(lab) == 0


@pytest.mark.faq("intranet", "4b")
def test_symptom_the_gateway_does_not_know_who_is_inside(lab: Lab) -> None:
    """A gateway that trusts only itself, as by default today, refuses to relay."""
    lab.gateway.misconfigure(mynetworks="127.0.0.0/8")

    mail = lab.workstation.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.deferred(dsn="4.7.1", saying="said: 454 4.7.1 <joe@example.net>: Relay access")
    assert mail.held_by(lab.workstation)
    assert not mail.reached(lab.gateway)


@pytest.mark.faq("intranet", "4b")
def test_cure_the_gateway_trusts_the_machines_inside(lab: Lab) -> None:
    """The list mynetworks has the internal clients; outside clients are still refused."""
    inside = f"127.0.0.0/8, {lab.workstation.address.rpartition('.')[0]}.64/26"
    lab.gateway.configure(mynetworks="127.0.0.0/8")
    lab.gateway.cure.configure(mynetworks=inside)

    mail = lab.workstation.send(to="joe@example.net")
    stranger = lab.remote.smtp("joe@example.net", server=lab.gateway)
    lab.settle(mail, stranger)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert stranger.rejected(454, "4.7.1", saying="<joe@example.net>: Relay access denied")


@pytest.mark.faq("intranet", "4b")
def test_behaviour_mail_from_outside_comes_in_by_the_gateway(lab: Lab) -> None:
    """The filter lets port 25 in to the gateway, which is the domain's MX."""
    mail = lab.remote.send(to="alice@example.com")

    lab.settle(mail)

    assert mail.delivered_to(lab.gateway, mailbox="alice")


@pytest.mark.faq("intranet", "4c")
def test_symptom_without_dns_the_gateway_has_no_address(lab: Lab) -> None:
    """Without a working nameserver Postfix cannot find a relayhost given by name."""
    with lab.workstation.faulty(NO_DNS):
        mail = lab.workstation.send(to="joe@example.net")
        lab.settle(mail)

    reason = "Name service error for name=gateway.example.com type=A: Host not found, try again"
    assert mail.deferred(dsn="4.4.3", saying=f"Host or domain name not found. {reason}")
    assert mail.held_by(lab.workstation)


@pytest.mark.faq("intranet", "4c")
def test_cure_the_gateway_is_given_by_address(lab: Lab) -> None:
    """An address in relayhost needs no nameserver."""
    with lab.workstation.faulty(NO_DNS):
        mail = lab.workstation.send(to="joe@example.net")
        lab.settle(mail)
        lab.workstation.cure.configure(relayhost=f"[{lab.gateway.address}]")
        lab.workstation.flush()
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("intranet", "4c")
@pytest.mark.parametrize(
    "settings",
    [{"smtp_dns_support_level": "disabled"}, {"disable_dns_lookups": "yes"}],
    ids=["today", "the-FAQ"],
)
def test_cure_the_gateway_is_in_the_hosts_file(lab: Lab, settings: dict[str, str]) -> None:
    """With DNS off in Postfix /etc/hosts names the gateway; the old setting still works.

    Only Postfix 3.9 and later warn that the old name will go.
    """
    hosts = lab.workstation.read("/etc/hosts") or ""
    lab.workstation.write("/etc/hosts", f"{hosts}{lab.gateway.address} gateway.example.com\n")

    with lab.workstation.faulty(NO_DNS):
        mail = lab.workstation.send(to="joe@example.net")
        lab.settle(mail)
        lab.workstation.cure.configure(**settings)
        lab.workstation.flush()
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    warned = 'specify "smtp_dns_support_level"' in lab.workstation.run("postconf", "-n").stderr
    old_name = "disable_dns_lookups" in settings
    assert warned == (old_name and lab.has("postconf names deprecated parameters"))


@pytest.mark.faq("intranet", "4d")
def test_symptom_mail_within_the_intranet_takes_the_detour(lab: Lab) -> None:
    """A bare relayhost sends everything to the gateway, even mail for the next desk."""
    lab.workstation.configure(transport_maps=DIRECT_INSIDE)
    lab.workstation.misconfigure(transport_maps="")

    mail = lab.workstation.send(to="joe@colleague.example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.colleague, mailbox="joe")
    assert mail.reached(lab.gateway)


@pytest.mark.faq("intranet", "4d")
def test_cure_mail_within_the_intranet_goes_straight(lab: Lab) -> None:
    """A transport map exempts the domain and its subdomains from relayhost."""
    lab.workstation.cure.configure(transport_maps=DIRECT_INSIDE)

    desk = lab.workstation.send(to="joe@colleague.example.com")
    domain = lab.workstation.send(to="alice@example.com")
    outside = lab.workstation.send(to="joe@example.net")
    lab.settle(desk, domain, outside)

    assert desk.delivered_to(lab.colleague, mailbox="joe")
    assert not desk.reached(lab.gateway)
    assert domain.delivered_to(lab.gateway, mailbox="alice")
    assert outside.delivered_to(lab.remote, mailbox="joe")
    assert outside.reached(lab.gateway)


@pytest.mark.faq("intranet", "4d")
def test_cure_a_fallback_relay_needs_no_list_of_what_is_inside(lab: Lab) -> None:
    """After direct delivery fails, Postfix sends the mail to smtp_fallback_relay."""
    lab.workstation.configure(relayhost="", **IMPATIENT)
    lab.workstation.cure.configure(smtp_fallback_relay=GATEWAY)
    dropped(lab)

    desk = lab.workstation.send(to="joe@colleague.example.com")
    outside = lab.workstation.send(to="joe@example.net")
    lab.settle(desk, outside)

    assert outside.delivered_to(lab.remote, mailbox="joe")
    assert outside.reached(lab.gateway)
    assert desk.delivered_to(lab.colleague, mailbox="joe")
    assert not desk.reached(lab.gateway)
    (failed,) = lab.events(HopFailed, lab.workstation)
    assert f"connect to remote.example.net[{lab.remote.address}]:25" in failed.text
    assert dropped(lab) > 0


@pytest.mark.faq("intranet", "4b")
def test_symptom_everything_waits_for_the_one_gateway(lab: Lab) -> None:
    """While the only relayhost is down, nothing leaves."""
    lab.colleague.stop()
    lab.workstation.misconfigure(relayhost="[colleague.example.com]")

    mail = lab.workstation.send(to="joe@example.net")
    lab.settle(mail)

    reason = f"connect to colleague.example.com[{lab.colleague.address}]:25"
    assert mail.deferred(dsn="4.4.1", saying=f"{reason}: Connection refused")
    assert mail.held_by(lab.workstation)


@pytest.mark.faq("intranet", "4b")
def test_cure_relayhost_is_a_list_since_3_5(lab: Lab) -> None:
    """When the first gateway is down, Postfix uses the second in the list."""
    lab.colleague.stop()
    lab.workstation.configure(relayhost="[colleague.example.com]")
    lab.workstation.cure.configure(relayhost=f"[colleague.example.com], {GATEWAY}")

    mail = lab.workstation.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert mail.reached(lab.gateway)
    (failed,) = lab.events(HopFailed, lab.workstation)
    reason = f"connect to colleague.example.com[{lab.colleague.address}]:25"
    assert failed.text == f"{reason}: Connection refused"
