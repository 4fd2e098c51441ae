"""Mail stays queued with: Host not found, try again.

"Try again" is the resolver's word for a nameserver that gives no answer, or none
that is one. Whether the domain has MX hosts is not known then, so mail waits
however well its address may be known: RFC 5321 section 5.1 wants MX hosts first.
An answer that says "no" is another matter: mail is returned at once.

The log's words changed ("Host or domain name not found. Name service error for
name=… type=…"), the answer did not. Where a domain's nameserver breaks
on MX queries, ignore_mx_lookup_error takes the address for it. Else the host's own
resolver is to be looked at, and the copy in the jail (see chroot-names). An smtp(8)
that runs keeps the resolver it started with, so reload after a repair. What came
since: a domain says itself that it wants no mail (RFC 7505, Postfix 3.0), and
smtp_defer_if_no_mx_address_found for those who wait for an MX host's address.
"""

import pytest

from maillab.faults import DnsAnswer, DnsDrop, DnsTruncated
from maillab.faults.names import Rcode
from maillab.host import Fault
from maillab.lab import Lab
from maillab.maillog import Complaint, Delivery

pytestmark = pytest.mark.topology("standalone")

NOT_FOUND = "Host or domain name not found. Name service error for name="
TRY_AGAIN = f"{NOT_FOUND}example.net type=MX: Host not found, try again"
RESOLV_CONF = "/etc/resolv.conf"
# Nobody listens there, which the resolver is told at once.
OF_OLD = "# maillab\nnameserver 127.0.0.9\n"

MX_FAILS = DnsAnswer("both.example.org", "MX", rcode="SERVFAIL")
MX_LOST = DnsDrop("both.example.org", "MX")
# As where a firewall knows DNS by UDP only, and the answer is long.
MX_BY_TCP_ONLY = DnsTruncated("both.example.org", "MX", tcp_refused=True)
NO_MX_ANSWER = pytest.mark.parametrize(
    "fault", [MX_FAILS, MX_LOST, MX_BY_TCP_ONLY], ids=["servfail", "lost", "tcp-refused"]
)


def remote_takes(lab: Lab, domain: str) -> None:
    """Make a domain of the zone one of those whose mail the remote stores."""
    lab.remote.configure(mydestination=f"$myhostname, $mydomain, {domain}")


def resolver_waits_less(lab: Lab) -> None:
    """Two tries of one second each, so that a lost answer is given up soon."""
    text = lab.mail.read(RESOLV_CONF) or ""
    lab.mail.write(RESOLV_CONF, text.replace("timeout:2", "timeout:1"))


def dig(lab: Lab, name: str, kind: str) -> list[str]:
    """What the nameserver itself answers on the mail server, whatever resolv.conf says."""
    ask = (
        "import dns.message, dns.query, os, sys\n"
        "query = dns.message.make_query(*sys.argv[1:])\n"
        "for rrset in dns.query.udp(query, os.environ['NAMESERVER'], 5).answer:\n"
        "    print(*rrset, sep='\\n')\n"
    )
    answer = lab.mail.agent.call("run", argv=["python3", "-c", ask, name, kind])
    return str(answer["stdout"]).split("\n")[:-1]


@pytest.mark.faq("host-not-found", "18a")
@NO_MX_ANSWER
def test_symptom_mail_waits_although_the_host_has_an_address(lab: Lab, fault: Fault) -> None:
    """As long as nobody can say whether there are MX hosts, the address does not count."""
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
    """ignore_mx_lookup_error=yes takes no answer for "no MX hosts"."""
    remote_takes(lab, "both.example.org")
    resolver_waits_less(lab)
    lab.mail.cure.configure(ignore_mx_lookup_error="yes")

    with lab.mail.faulty(fault):
        mail = lab.mail.send(to="joe@both.example.org")
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("host-not-found", "18b")
def test_symptom_the_nameserver_of_resolv_conf_is_no_more(lab: Lab) -> None:
    """Postfix asks whom resolv.conf names, dig whom it is told to ask."""
    lab.mail.mistake.write(RESOLV_CONF, OF_OLD)
    lab.mail.restart()

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.deferred(dsn="4.4.3", saying=TRY_AGAIN)
    assert dig(lab, "example.net", "MX") == ["10 remote.example.net."]


@pytest.mark.faq("host-not-found", "18b")
def test_symptom_the_jail_has_no_resolv_conf(lab: Lab) -> None:
    """smtp(8) in the jail says the same where the host's own file is not copied there."""
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
    """A flush alone is for nothing: the daemon that runs asks the old nameserver again."""
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
    """The sender is told at once, and why."""
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
    """A slip in somebody else's zone costs the message, by default."""
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
    """Of two MX hosts the first has no address, now or at all; the second is used."""
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
    """With inet_protocols=all, too, one address is enough, whichever kind is preferred."""
    lab.mail.configure(inet_protocols="all", smtp_address_preference=preference)

    with lab.mail.faulty(DnsAnswer("remote.example.net", "AAAA", rcode="SERVFAIL")):
        mail = lab.mail.send(to="joe@example.net")
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
