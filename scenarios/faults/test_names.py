"""Names that come late, wrong or not at all, to one host whose daemons run already."""

import re

import pytest

from maillab.faults import (
    DeadNameserver,
    DnsAnswer,
    DnsDelay,
    DnsDrop,
    DnsTruncated,
    ForeignPtr,
    StaleAnswer,
)
from maillab.host import Fault
from maillab.lab import Lab
from maillab.maillog import Complaint, Connected, Delivery

pytestmark = pytest.mark.topology("standalone")

# What smtp(8) says of a name server that does not answer, or not well.
TRY_AGAIN = (
    "Host or domain name not found. Name service error for name=example.net type=MX: "
    "Host not found, try again"
)
NOT_FOUND = (
    "Host or domain name not found. Name service error for name=example.net type=A: Host not found"
)


def state(lab: Lab) -> str:
    """What a fault of names may touch: rules, routes, resolver, listeners, flows."""
    more = (
        "cat /etc/resolv.conf; ss -Hlntu; conntrack -L -p udp --orig-port-dst 53 2>/dev/null || :"
    )
    said = lab.mail.agent.call("run", argv=["sh", "-c", more])["stdout"]
    return str(lab.mail.agent.call("netstate")["text"]) + str(said)


def smtp_runs_already(lab: Lab) -> None:
    """A daemon that keeps the resolver it started with is there before the fault is."""
    lab.settle(lab.mail.send("joe@example.net"))


def mail_flows(lab: Lab) -> None:
    """After the fault what was deferred goes, and new mail does."""
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
    """A name server that cannot say is no reason to return mail."""
    smtp_runs_already(lab)

    with lab.mail.faulty(fault):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.3", saying=TRY_AGAIN)
    mail_flows(lab)
    assert mail.delivered_to(lab.remote, "joe")


def test_symptom_a_name_that_does_not_exist_returns_mail(lab: Lab) -> None:
    """NXDOMAIN is an answer, and a final one."""
    smtp_runs_already(lab)

    with lab.mail.faulty(DnsAnswer("example.net", rcode="NXDOMAIN")):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)

    assert mail.bounced(dsn="5.4.4", saying=NOT_FOUND)
    mail_flows(lab)


def test_symptom_a_truncated_answer_is_asked_for_by_tcp(lab: Lab) -> None:
    """The kernel counts the TCP connection to the nameserver; the mail is sent."""
    with lab.mail.faulty(DnsTruncated("example.net", "MX")):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)
        rules = lab.mail.agent.call("run", argv=["nft", "list", "ruleset"])["stdout"]

    assert mail.delivered_to(lab.remote, "joe")
    by_tcp = re.findall(r"tcp dport 53 counter packets (\d+) .* redirect", rules)
    assert [int(packets) > 0 for packets in by_tcp] == [True]
    mail_flows(lab)


def test_symptom_a_late_answer_makes_mail_late(lab: Lab) -> None:
    """By as much and more, as long as the resolver waits that long."""
    # Else what a new lab needs for its first mail counts, too.
    smtp_runs_already(lab)

    with lab.mail.faulty(DnsDelay("example.net", "MX", delay_s=1.5)):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)

    _, sent = lab.events(Delivery, lab.mail)
    assert sent.delay >= 1.5
    assert mail.delivered_to(lab.remote, "joe")
    mail_flows(lab)


def test_symptom_a_client_without_an_answer_for_its_name_is_unknown(lab: Lab) -> None:
    """smtpd(8) greets once the resolver has given up, and does not know who it is."""
    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        mail = lab.client.submit("joe@example.com", server=lab.mail)

    (connected, *_) = lab.events(Connected, lab.mail)
    assert (connected.client_name, connected.client_address) == ("unknown", lab.client.address)
    assert mail.delivered_to(lab.mail, "joe")
    lab.client.submit("joe@example.com", server=lab.mail)
    assert lab.events(Connected, lab.mail)[-1].client_name == "client.example.net"


def test_symptom_a_foreign_name_is_not_believed(lab: Lab) -> None:
    """The name that the PTR record gives does not lead back (postconf(5) smtpd_peername_lookup)."""
    with lab.mail.faulty(ForeignPtr(lab.client.address, points_to="remote.example.net")):
        lab.client.submit("joe@example.com", server=lab.mail)

    (connected, *_) = lab.events(Connected, lab.mail)
    assert connected.client_name == "unknown"
    (warning,) = lab.events(Complaint, lab.mail)
    assert warning.text == (
        f"hostname remote.example.net does not resolve to address {lab.client.address}"
    )
    lab.client.submit("joe@example.com", server=lab.mail)
    assert lab.events(Connected, lab.mail)[-1].client_name == "client.example.net"


def test_symptom_a_stale_address_leads_to_nobody(lab: Lab) -> None:
    """The remote's name leads to the address of a host that has no mail server."""
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
    """The second one answers: at once when the first refuses, else after its timeout of 2 s."""
    with lab.mail.faulty(DeadNameserver(refuses=refuses)):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)
        asked = lab.mail.agent.call("run", argv=["grep", "-c", "^nameserver", "/etc/resolv.conf"])

    assert mail.delivered_to(lab.remote, "joe")
    assert asked["stdout"].strip() == "2"
    (sent,) = lab.events(Delivery, lab.mail)
    assert (sent.delay >= 2) is not refuses
    mail_flows(lab)


def test_symptom_the_first_query_fails_and_the_second_is_well(lab: Lab) -> None:
    """The counters: one SERVFAIL for each of the resolver's two tries, then none."""
    with lab.mail.faulty(DnsAnswer("example.net", "MX", rcode="SERVFAIL", first=2)):
        mail = lab.mail.send("joe@example.net")
        lab.settle(mail)
        first = bool(mail.deferred(dsn="4.4.3", saying=TRY_AGAIN))
        lab.mail.flush()
        lab.settle(mail)

    assert first
    assert mail.delivered_to(lab.remote, "joe")


def test_symptom_faults_of_names_nest_and_lift_in_any_order(lab: Lab) -> None:
    """Each takes only itself away, and the last leaves the host as it was."""
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


def test_a_flow_from_one_port_meets_the_fault_and_loses_it(lab: Lab) -> None:
    """A resolver that asks from one port all the time is no exception, in either direction."""
    ask = (
        "import dns.message, dns.query, os, socket, sys\n"
        "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "sock.bind(('', 40053))\n"
        "query = dns.message.make_query('example.net', 'MX')\n"
        "print(dns.query.udp(query, os.environ['NAMESERVER'], 5, sock=sock).rcode().name)\n"
    )

    def asked() -> str:
        return str(lab.mail.agent.call("run", argv=["python3", "-c", ask])["stdout"].strip())

    answers = [asked()]
    with lab.mail.faulty(DnsAnswer("example.net", "MX", rcode="REFUSED")):
        answers.append(asked())
    answers.append(asked())

    assert answers == ["NOERROR", "REFUSED", "NOERROR"]
