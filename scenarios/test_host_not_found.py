"""Mail stays queued with: Host not found, try again.

A nameserver gave no answer or an invalid one, so Postfix cannot know whether the domain
has MX hosts, and mail waits even if the domain's address is known. Check the host's own
/etc/resolv.conf, its copy in the jail (see chroot-names), and run "postfix reload" after a
repair. If only that domain's nameserver fails, ignore_mx_lookup_error = yes makes Postfix
use the address.

RFC 5321 section 5.1 requires MX hosts first. With a negative answer Postfix returns the
mail at once. A running smtp(8) keeps the resolver that it started with.

Since the FAQ:
- The log says "Host or domain name not found. Name service error for name=… type=…".
- 3.0: a domain can declare that it accepts no mail (RFC 7505).
- smtp_defer_if_no_mx_address_found makes mail wait for an MX host's address.
"""

import pytest

from maillab import Complaint, Delivery, Fault, Lab
from maillab.faults import DnsAnswer, DnsDrop, DnsTruncated, Rcode

pytestmark = pytest.mark.topology("standalone")

NOT_FOUND = "Host or domain name not found. Name service error for name="
TRY_AGAIN = f"{NOT_FOUND}example.net type=MX: Host not found, try again"
RESOLV_CONF = "/etc/resolv.conf"
# No server listens there, and the resolver gets an immediate refusal.
OF_OLD = "# maillab\nnameserver 127.0.0.9\n"

MX_FAILS = DnsAnswer("both.example.org", "MX", rcode="SERVFAIL")
MX_LOST = DnsDrop("both.example.org", "MX")
# A long answer, and a firewall that allows DNS over UDP only.
MX_BY_TCP_ONLY = DnsTruncated("both.example.org", "MX", tcp_refused=True)
NO_MX_ANSWER = pytest.mark.parametrize(
    "fault", [MX_FAILS, MX_LOST, MX_BY_TCP_ONLY], ids=["servfail", "lost", "tcp-refused"]
)
ASK_FOR_IPV6 = "import socket, sys; socket.getaddrinfo(sys.argv[1], 25, socket.AF_INET6)"


def remote_takes(lab: Lab, domain: str) -> None:
    """Make the remote accept mail for a domain of the zone."""
    lab.remote.configure(mydestination=f"$myhostname, $mydomain, {domain}")


def resolver_waits_less(lab: Lab) -> None:
    """Reduce the resolver's timeout to one second, so that a lost answer fails soon."""
    text = lab.mail.read(RESOLV_CONF) or ""
    lab.mail.write(RESOLV_CONF, text.replace("timeout:2", "timeout:1"))


def dig(lab: Lab, name: str, kind: str) -> list[str]:
    """Return the nameserver's own answer on the mail server, whatever resolv.conf says."""
    ask = (
        "import dns.message, dns.query, os, sys\n"
        "query = dns.message.make_query(*sys.argv[1:])\n"
        "for rrset in dns.query.udp(query, os.environ['NAMESERVER'], 5).answer:\n"
        "    print(*rrset, sep='\\n')\n"
    )
    answer = lab.mail.network.run("python3", "-c", ask, name, kind)
    return answer.stdout.split("\n")[:-1]


@pytest.mark.faq("host-not-found", "18a")
@NO_MX_ANSWER
def test_symptom_mail_waits_although_the_host_has_an_address(lab: Lab, fault: Fault) -> None:
    """Postfix ignores the address until it knows whether there are MX hosts."""
    remote_takes(lab, "both.example.org")
    resolver_waits_less(lab)

    with lab.mail.faulty(fault):
        mail = lab.mail.send(to="joe@both.example.org")
        lab.settle(mail)
        address = dig(lab, "both.example.org", "A")

    assert mail.deferred(
        dsn="4.4.3", saying=f"{NOT_FOUND}both.example.org type=MX: Host not found, try again"
    )
    assert mail.held_by(lab.mail)
    assert address == [lab.remote.address]


@pytest.mark.faq("host-not-found", "18a")
@NO_MX_ANSWER
def test_cure_the_address_is_used_when_the_mx_lookup_fails(lab: Lab, fault: Fault) -> None:
    """With ignore_mx_lookup_error=yes a failed lookup counts as "no MX hosts"."""
    remote_takes(lab, "both.example.org")
    resolver_waits_less(lab)
    lab.mail.cure.configure(ignore_mx_lookup_error="yes")

    with lab.mail.faulty(fault):
        mail = lab.mail.send(to="joe@both.example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("host-not-found", "18b")
def test_symptom_the_nameserver_of_resolv_conf_is_no_more(lab: Lab) -> None:
    """Postfix queries the nameserver in resolv.conf; dig queries the one it is given."""
    lab.mail.mistake.write(RESOLV_CONF, OF_OLD)
    lab.mail.restart()

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.deferred(dsn="4.4.3", saying=TRY_AGAIN)
    assert dig(lab, "example.net", "MX") == ["10 remote.example.net."]


@pytest.mark.faq("host-not-found", "18b")
def test_symptom_the_jail_has_no_resolv_conf(lab: Lab) -> None:
    """A jailed smtp(8) logs the same error if the host's resolv.conf is not copied there."""
    lab.mail.jail.empty()
    lab.mail.jail.copy("/etc/services", RESOLV_CONF)
    lab.mail.mistake.run("rm", lab.mail.jail.path(RESOLV_CONF))
    lab.mail.jail.lock_in("smtp/unix")

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.deferred(dsn="4.4.3", saying=TRY_AGAIN)


@pytest.mark.faq("host-not-found", "18b")
def test_cure_resolv_conf_names_a_nameserver_that_answers(lab: Lab) -> None:
    """With the file repaired before Postfix starts, mail leaves."""
    good = lab.mail.read(RESOLV_CONF) or ""
    lab.mail.write(RESOLV_CONF, OF_OLD)
    lab.mail.cure.write(RESOLV_CONF, good)
    lab.mail.restart()

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("host-not-found", "18b")
def test_cure_a_reload_after_the_repair(lab: Lab) -> None:
    """A flush alone does not help: the running daemon still queries the old nameserver."""
    good = lab.mail.read(RESOLV_CONF) or ""
    lab.mail.write(RESOLV_CONF, OF_OLD)
    lab.mail.restart()
    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)

    lab.mail.write(RESOLV_CONF, good)
    lab.mail.flush()
    lab.settle(mail)
    assert mail.deferred(dsn="4.4.3", saying=TRY_AGAIN)
    first, second = lab.events(Delivery, lab.mail)
    assert first.pid == second.pid
    lab.mail.cure.reload()
    lab.mail.flush()
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("host-not-found", "18c")
@pytest.mark.parametrize(
    ("domain", "dsn", "reason"),
    [
        ("nowhere.example.org", "5.4.4", f"{NOT_FOUND}nowhere.example.org type=A: Host not found"),
        (
            "text.example.org",
            "5.4.4",
            f"{NOT_FOUND}text.example.org type=A: Host found but no data record of requested type",
        ),
        ("nomail.example.org", "5.1.0", "Domain nomail.example.org does not accept mail (nullMX)"),
        ("gone.example.org", "5.4.4", f"{NOT_FOUND}nowhere.example.org type=A: Host not found"),
    ],
    ids=["no-such-domain", "text-only", "null-mx", "mx-host-gone"],
)
def test_behaviour_an_answer_that_says_no_returns_mail(
    lab: Lab, domain: str, dsn: str, reason: str
) -> None:
    """The sender gets a bounce at once, with the reason."""
    mail = lab.mail.send(to=f"joe@{domain}", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn=dsn, saying=reason)
    (notice,) = lab.mail.mailbox("bob")
    assert f"Status: {dsn}" in str(notice)
    assert f"Diagnostic-Code: X-Postfix; {reason[:40]}" in str(notice)
    warnings = [event.text for event in lab.events(Complaint, lab.mail)]
    assert warnings == [f"no MX host for {domain} has a valid address record"] * (
        domain == "gone.example.org"
    )


@pytest.mark.faq("host-not-found", "18c")
def test_symptom_an_mx_host_without_an_address_returns_mail(lab: Lab) -> None:
    """By default an error in the recipient's zone makes mail bounce."""
    lab.mail.configure(smtp_defer_if_no_mx_address_found="yes")
    lab.mail.misconfigure(smtp_defer_if_no_mx_address_found="no")

    mail = lab.mail.send(to="joe@gone.example.org", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.4", saying=f"{NOT_FOUND}nowhere.example.org type=A")
    assert len(lab.mail.mailbox("bob")) == 1


@pytest.mark.faq("host-not-found", "18c")
def test_cure_mail_waits_for_the_address_of_an_mx_host(lab: Lab) -> None:
    """smtp_defer_if_no_mx_address_found=yes gives the zone's owner time."""
    lab.mail.cure.configure(smtp_defer_if_no_mx_address_found="yes")

    mail = lab.mail.send(to="joe@gone.example.org", user="bob")
    lab.settle(mail)

    assert mail.deferred(
        dsn="4.4.4", saying=f"{NOT_FOUND}nowhere.example.org type=A: Host not found"
    )
    assert mail.held_by(lab.mail)
    assert not lab.mail.mailbox("bob")


@pytest.mark.faq("host-not-found", "18c")
@pytest.mark.parametrize("rcode", ["SERVFAIL", "NXDOMAIN"])
def test_behaviour_one_mx_host_with_an_address_is_enough(lab: Lab, rcode: Rcode) -> None:
    """Postfix uses the second MX host if the first has no address."""
    remote_takes(lab, "twomx.example.org")

    with lab.mail.faulty(DnsAnswer("first.example.org", "A", rcode=rcode)):
        mail = lab.mail.send(to="joe@twomx.example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (sent,) = lab.events(Delivery, lab.mail)
    assert sent.relay_host == "remote.example.net"


@pytest.mark.faq("host-not-found")
@pytest.mark.parametrize("preference", ["any", "ipv4", "ipv6"])
def test_behaviour_a_nameserver_that_fails_on_aaaa_queries_holds_up_nothing(
    lab: Lab, preference: str
) -> None:
    """With inet_protocols=all one address is enough, whichever kind is preferred."""
    lab.mail.configure(inet_protocols="all", smtp_address_preference=preference)

    with lab.mail.faulty(DnsAnswer("remote.example.net", "AAAA", rcode="SERVFAIL")):
        mail = lab.mail.send(to="joe@example.net")
        lab.settle(mail)
        asked = lab.mail.run("python3", "-c", ASK_FOR_IPV6, "remote.example.net", check=False)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert "Temporary failure in name resolution" in asked.stderr
