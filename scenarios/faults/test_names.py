"""DNS answers that are late, wrong or missing, for a host with running daemons."""

import pytest

from maillab import Complaint, Connected, Delivery, Fault, Lab
from maillab.faults import (
    DeadNameserver,
    DnsAnswer,
    DnsDelay,
    DnsDrop,
    DnsTruncated,
    ForeignPtr,
    StaleAnswer,
)

pytestmark = pytest.mark.topology("standalone")

# smtp(8)'s reason if a name server fails to answer properly.
TRY_AGAIN = (
    "Host or domain name not found. Name service error for name=example.net type=MX: "
    "Host not found, try again"
)
NOT_FOUND = (
    "Host or domain name not found. Name service error for name=example.net type=A: Host not found"
)

NO_MX = DnsAnswer("*", "MX", rcode="SERVFAIL")


def state(lab: Lab) -> str:
    """Return what a DNS fault may change: rules, routes, resolver, listeners, redirected flows."""
    flows = "conntrack -L -p udp --orig-port-dst 53 2>/dev/null | grep -v 'sport=53 ' || :"
    more = f"cat /etc/resolv.conf; ss -Hlntu; {flows}"
    networks = (lab.mail.network, lab.mail.nameserver.network)
    return "".join(net.state() + str(net.run("sh", "-c", more).stdout) for net in networks)


def smtp_runs_already(lab: Lab) -> None:
    """Start an smtp(8) before the fault: it keeps the resolver that it started with."""
    lab.settle(lab.mail.send("joe@example.net"))


def mail_flows(lab: Lab) -> None:
    """Check after the fault that deferred mail and new mail are delivered."""
    later = lab.mail.send("joe@example.net")
    lab.mail.flush()
    lab.settle()
    assert later.delivered_to(lab.remote, "joe")
    assert not lab.mail.queue()


@pytest.mark.parametrize(
    "fault",
    [
        DnsDrop("example.net", "MX"),
        DnsAnswer("example.net", "MX", rcode="SERVFAIL"),
        DnsAnswer("*", rcode="REFUSED"),
        DnsTruncated("example.net", "MX", tcp_refused=True),
    ],
    ids=["drop", "servfail", "refused", "tcp-refused"],
)
def test_symptom_mail_waits_for_names(lab: Lab, fault: Fault) -> None:
    """If a name server fails, Postfix defers the mail and does not return it."""
    smtp_runs_already(lab)

    with lab.mail.faulty(fault):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.3", saying=TRY_AGAIN)
    mail_flows(lab)
    assert mail.delivered_to(lab.remote, "joe")


def test_symptom_a_name_that_does_not_exist_returns_mail(lab: Lab) -> None:
    """An NXDOMAIN answer is final."""
    smtp_runs_already(lab)

    with lab.mail.faulty(DnsAnswer("example.net", rcode="NXDOMAIN")):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)

    assert mail.bounced(dsn="5.4.4", saying=NOT_FOUND)
    mail_flows(lab)


def test_symptom_a_truncated_answer_is_asked_for_by_tcp(lab: Lab) -> None:
    """The sender connects to the nameserver by TCP; the mail is sent."""
    with lab.mail.faulty(DnsTruncated("example.net", "MX")):
        lab.capture()
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)
        lab.captured()

    assert mail.delivered_to(lab.remote, "joe")
    assert lab.mail.network.packets("dst port 53 and tcp[tcpflags] == tcp-syn")
    mail_flows(lab)


@pytest.mark.parametrize(
    ("fault", "rcode", "truncated"),
    [
        (DnsDrop("example.net", "MX"), "", False),
        (DnsAnswer("example.net", "MX", rcode="SERVFAIL"), "SERVFAIL", False),
        (DnsTruncated("example.net", "MX", tcp_refused=True), "NOERROR", True),
    ],
    ids=["drop", "servfail", "tcp-refused"],
)
def test_symptom_queries_leave_and_the_wrong_answers_come(
    lab: Lab, fault: Fault, rcode: str, *, truncated: bool
) -> None:
    """A capture on the host's interface shows each query, and the fault's answer or none."""
    with lab.mail.faulty(fault):
        lab.capture()
        lab.settle(lab.mail.send("joe@example.net"))
        lookups = lab.lookups(lab.mail, "example.net", "MX")

    assert lookups
    assert {(lookup.rcode, lookup.truncated) for lookup in lookups} == {(rcode, truncated)}
    mail_flows(lab)


def test_symptom_the_query_leaves_at_once_and_the_answer_comes_late(lab: Lab) -> None:
    """A capture on the host's interface shows the delay between the query and its answer."""
    with lab.mail.faulty(DnsDelay("example.net", "MX", delay_s=1.5)):
        lab.capture()
        lab.settle(lab.mail.send("joe@example.net"))
        lookups = lab.lookups(lab.mail, "example.net", "MX")

    assert [lookup.rcode for lookup in lookups] == ["NOERROR"]
    assert lookups[0].waited_s >= 1.5
    mail_flows(lab)


def test_symptom_a_late_answer_makes_mail_late(lab: Lab) -> None:
    """Mail is late by at least the DNS delay, while the resolver still waits."""
    # Otherwise a new lab's slower first mail would count, too.
    smtp_runs_already(lab)

    with lab.mail.faulty(DnsDelay("example.net", "MX", delay_s=1.5)):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)

    _, sent = lab.events(Delivery, lab.mail)
    assert sent.delay >= 1.5
    assert mail.delivered_to(lab.remote, "joe")
    mail_flows(lab)


def test_symptom_a_client_without_an_answer_for_its_name_is_unknown(lab: Lab) -> None:
    """smtpd(8) greets after the resolver gives up, and logs the client as unknown."""
    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        mail = lab.client.smtp("joe@example.com", server=lab.mail)

    (connected, *_) = lab.events(Connected, lab.mail)
    assert (connected.client_name, connected.client_address) == ("unknown", lab.client.address)
    assert mail.delivered_to(lab.mail, "joe")
    lab.client.smtp("joe@example.com", server=lab.mail)
    assert lab.events(Connected, lab.mail)[-1].client_name == "client.example.net"


def test_symptom_a_foreign_name_is_not_believed(lab: Lab) -> None:
    """The PTR record's name does not resolve back (postconf(5) smtpd_peername_lookup)."""
    with lab.mail.faulty(ForeignPtr(lab.client.address, points_to="remote.example.net")):
        lab.client.smtp("joe@example.com", server=lab.mail)

    (connected, *_) = lab.events(Connected, lab.mail)
    assert connected.client_name == "unknown"
    (warning,) = lab.events(Complaint, lab.mail)
    assert warning.text == (
        f"hostname remote.example.net does not resolve to address {lab.client.address}"
    )
    lab.client.smtp("joe@example.com", server=lab.mail)
    assert lab.events(Connected, lab.mail)[-1].client_name == "client.example.net"


def test_symptom_a_stale_address_leads_to_nobody(lab: Lab) -> None:
    """The remote's name resolves to a host without a mail server."""
    with lab.mail.faulty(StaleAnswer("remote.example.net", address=lab.client.address)):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)

    assert mail.deferred(
        dsn="4.4.1",
        saying=f"connect to remote.example.net[{lab.client.address}]:25: Connection refused",
    )
    mail_flows(lab)


@pytest.mark.parametrize("refuses", [False, True], ids=["silent", "refuses"])
def test_symptom_a_dead_first_nameserver_is_asked_each_time(lab: Lab, *, refuses: bool) -> None:
    """The second nameserver answers: at once after a refusal, otherwise after 2 s."""
    with lab.mail.faulty(DeadNameserver(refuses=refuses)):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)
        asked = lab.mail.network.run("grep", "-c", "^nameserver", "/etc/resolv.conf")

    assert mail.delivered_to(lab.remote, "joe")
    assert asked.stdout.strip() == "2"
    (sent,) = lab.events(Delivery, lab.mail)
    assert (sent.delay >= 2) is not refuses
    mail_flows(lab)


def test_symptom_the_first_query_fails_and_the_second_is_well(lab: Lab) -> None:
    """The fault answers the resolver's two tries with SERVFAIL, then passes queries."""
    with lab.mail.faulty(DnsAnswer("example.net", "MX", rcode="SERVFAIL", first=2)):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)
        first = mail.deferred(dsn="4.4.3", saying=TRY_AGAIN).now()
        lab.mail.flush()
        lab.settle(mail)

    assert first
    assert mail.delivered_to(lab.remote, "joe")


def test_symptom_faults_of_names_nest_and_lift_in_any_order(lab: Lab) -> None:
    """Each fault removes only itself, and the last one leaves the host unchanged."""
    before = state(lab)
    outer = lab.mail.faulty(DnsAnswer("example.net", "MX", rcode="SERVFAIL"))
    inner = lab.mail.faulty(DeadNameserver(refuses=True))
    third = lab.mail.faulty(DnsTruncated("remote.example.net", tcp_refused=True))

    outer.__enter__()
    inner.__enter__()
    waits = lab.mail.send("joe@example.net")
    lab.settle(waits)
    third.__enter__()
    outer.__exit__(None, None, None)
    stuck = lab.mail.send("joe@example.net")
    lab.settle(stuck)
    inner.__exit__(None, None, None)
    third.__exit__(None, None, None)

    assert waits.deferred(dsn="4.4.3", saying=TRY_AGAIN)
    assert stuck.deferred(dsn="4.4.3", saying="name=remote.example.net type=A")
    assert state(lab) == before
    mail_flows(lab)


def test_symptom_a_fault_of_names_affects_no_other_host(lab: Lab) -> None:
    """While one host's lookups fail, another host's succeed."""
    with lab.mail.faulty(NO_MX):
        stuck = lab.mail.send("joe@example.net")
        back = lab.remote.send("alice@example.com")
        lab.settle(stuck, back)

    assert stuck.deferred(dsn="4.4.3", saying=TRY_AGAIN)
    assert back.delivered_to(lab.mail, "alice")
    mail_flows(lab)


def test_symptom_a_fault_lifted_from_one_host_stays_on_another(lab: Lab) -> None:
    """With a fault on two hosts, lifting one host's leaves the other's active."""
    with lab.remote.faulty(NO_MX):
        with lab.mail.faulty(NO_MX):
            early = lab.mail.send("joe@example.net")
            lab.settle(early)
        out = lab.mail.send("joe@example.net")
        back = lab.remote.send("alice@example.com")
        lab.settle(out, back)

    assert early.deferred(dsn="4.4.3", saying=TRY_AGAIN)
    assert back.deferred(dsn="4.4.3", saying="name=example.com type=MX: Host not found, try again")
    assert out.delivered_to(lab.remote, "joe")
    mail_flows(lab)
    lab.remote.flush()
    lab.settle(back)
    assert back.delivered_to(lab.mail, "alice")


def test_a_flow_from_one_port_meets_the_fault_and_loses_it(lab: Lab) -> None:
    """A resolver with one fixed port meets the fault, and loses it when the fault ends."""
    ask = (
        "import dns.message, dns.query, os, socket, sys\n"
        "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "sock.bind(('', 40053))\n"
        "query = dns.message.make_query('example.net', 'MX')\n"
        "print(dns.query.udp(query, os.environ['NAMESERVER'], 5, sock=sock).rcode().name)\n"
    )

    def asked() -> str:
        return lab.mail.network.run("python3", "-c", ask).stdout.strip()

    answers = [asked()]
    with lab.mail.faulty(DnsAnswer("example.net", "MX", rcode="REFUSED")):
        answers.append(asked())
    answers.append(asked())

    assert answers == ["NOERROR", "REFUSED", "NOERROR"]
