"""Postfix responds slowly to incoming SMTP connections.

smtpd(8) asks for the client's name before it says its first word, and for the
name's address to see whether the name may be believed. Where the nameserver
does not answer, the greeting waits until the resolver gives up: with the
resolver's own defaults 10 seconds, two tries of 5 (resolv.conf(5)); in the labs
4, two of 2. POP3 on the same host, which asks for no names, answers meanwhile.

Cures of the FAQ's days hold: a name that /etc/hosts has is not asked for, as
long as nsswitch.conf(5) says "files" first (what the FAQ says of host.conf and
svcorder is history). Since 2.3 smtpd_peername_lookup=no asks for no name at all,
which blinds every rule that goes by names. postscreen(8), since 2.8, greets
without a name; smtpd(8) behind it asks all the same.
"""

from collections.abc import Callable

import pytest

from maillab import pop3
from maillab.faults import DnsAnswer, DnsDelay, DnsDrop, ForeignPtr
from maillab.host import Fault
from maillab.lab import Lab
from maillab.maillog import Complaint, Connected, Event

pytestmark = pytest.mark.topology("standalone")

# Sessions that end without a greeting have to be shorter than the wait, others longer.
HASTY_S = 1.0
PATIENT_S = 15.0


def resolver_waits(lab: Lab, seconds: int, tries: int = 2) -> None:
    """How long the mail server's resolver waits for an answer, and how often it asks."""
    lab.mail.write("/etc/resolv.conf", resolv_conf(lab, seconds, tries))
    lab.mail.restart()


def resolv_conf(lab: Lab, seconds: int, tries: int) -> str:
    """The resolver's configuration with limits of its own (resolv.conf(5))."""
    nameservers = [
        line
        for line in (lab.mail.read("/etc/resolv.conf") or "").splitlines()
        if line.startswith(("#", "nameserver"))
    ]
    return "\n".join([*nameservers, f"options timeout:{seconds} attempts:{tries}", ""])


def greeting(lab: Lab, within_s: float = PATIENT_S) -> int:
    """Have the outside client connect; the greeting's code, 0 where none came in time."""
    with lab.client.session(lab.mail, timeout_s=within_s) as session:
        return session.greeting.code


def clients(lab: Lab) -> list[str]:
    """The names that smtpd(8) logged for its clients, in order."""
    return [event.client_name for event in lab.events(Connected, lab.mail)]


def queries(lab: Lab) -> list[int]:
    """How many queries each fault of names got hold of."""
    return [witness.count for witness in lab.record.witnesses]


@pytest.mark.faq("slow-banner", "12a")
def test_symptom_the_greeting_waits_until_the_resolver_gives_up(lab: Lab) -> None:
    """No answer about the client's name, no greeting: two tries for each connection."""
    resolver_waits(lab, 1)

    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        hasty = greeting(lab, HASTY_S)
        patient = greeting(lab)

    assert hasty == 0
    assert patient == 220
    assert clients(lab) == ["unknown", "unknown"]
    assert queries(lab) == [4]


@pytest.mark.faq("slow-banner", "12a")
def test_symptom_pop_answers_while_smtp_is_silent(lab: Lab) -> None:
    """The same client reads its mail by POP3 before smtpd(8) has said a word to it."""
    resolver_waits(lab, 30)
    pop3.serve(lab.mail, {"joe": "secret"})
    mail = lab.mail.send(to="joe@example.com")
    lab.settle(mail)

    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        smtp = greeting(lab, HASTY_S)
        inbox = pop3.read(lab.client, lab.mail, "joe", "secret")

    assert smtp == 0
    assert clients(lab) == []
    assert inbox.greeting.startswith("+OK")
    assert inbox.logged_in
    assert [message["Message-ID"] for message in inbox.messages] == [mail.message_id]
    assert f"rip={lab.client.address}" in (lab.mail.read(pop3.LOG) or "")


@pytest.mark.faq("slow-banner", "12a")
def test_symptom_the_greeting_waits_for_a_late_address(lab: Lab) -> None:
    """The name is there at once, the proof of it late; so is the greeting, with the name."""
    resolver_waits(lab, 30)

    with lab.mail.faulty(DnsDelay("client.example.net", "A", delay_s=1.5)):
        hasty = greeting(lab, HASTY_S)
        patient = greeting(lab)

    assert hasty == 0
    assert patient == 220
    assert clients(lab) == ["client.example.net", "client.example.net"]
    assert queries(lab) == [2]


@pytest.mark.faq("slow-banner", "12b")
def test_cure_a_name_in_the_hosts_file_is_not_asked_for(lab: Lab) -> None:
    """Of two connections only the one before the cure makes a query, and has no greeting."""
    resolver_waits(lab, 30)

    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        before = greeting(lab, HASTY_S)
        lab.mail.cure.write("/etc/hosts", f"{lab.client.address} friend.example.net\n")
        after = greeting(lab)

    assert (before, after) == (0, 220)
    assert clients(lab) == ["friend.example.net"]
    assert queries(lab) == [1]


@pytest.mark.faq("slow-banner", "12b")
def test_behaviour_the_hosts_file_does_not_help_where_dns_comes_first(lab: Lab) -> None:
    """With "hosts: dns files" the name is the file's, once the resolver has given up."""
    resolver_waits(lab, 1)
    lab.mail.write("/etc/hosts", f"{lab.client.address} friend.example.net\n")
    lab.mail.write("/etc/nsswitch.conf", "hosts: dns files\n")
    lab.mail.restart()

    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        hasty = greeting(lab, HASTY_S)
        patient = greeting(lab)

    assert (hasty, patient) == (0, 220)
    assert clients(lab) == ["friend.example.net", "friend.example.net"]
    assert queries(lab) == [4]


@pytest.mark.faq("slow-banner", "12c")
def test_cure_no_name_is_asked_for(lab: Lab) -> None:
    """smtpd_peername_lookup=no greets without a query; the client has no name."""
    resolver_waits(lab, 30)

    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        before = greeting(lab, HASTY_S)
        lab.mail.cure.configure(smtpd_peername_lookup="no")
        after = greeting(lab)

    assert (before, after) == (0, 220)
    assert clients(lab) == ["unknown"]
    assert queries(lab) == [1]


@pytest.mark.faq("slow-banner", "12c")
@pytest.mark.parametrize(
    ("restriction", "with_name", "without"),
    [
        (
            "check_client_access inline:{{client.example.net=550 5.7.1 not you}}",
            "550 5.7.1 <client.example.net[{}]>: Client host rejected: not you",
            "250 2.1.5 Ok",
        ),
        (
            "reject_unknown_client_hostname",
            "250 2.1.5 Ok",
            "450 4.7.25 Client host rejected: cannot find your hostname, [{}]",
        ),
    ],
    ids=["access-by-name", "unknown-client"],
)
def test_behaviour_without_lookups_rules_by_name_go_wrong(
    lab: Lab, restriction: str, with_name: str, without: str
) -> None:
    """Who is barred by name gets in, and who has a good name is a client without one."""
    replies = []
    for lookup in ("yes", "no"):
        lab.mail.configure(smtpd_peername_lookup=lookup, smtpd_client_restrictions=restriction)
        with lab.client.session(lab.mail) as session:
            session.ehlo()
            session.mail("bob@client.example.net")
            replies.append(str(session.rcpt("joe@example.com")))
            session.quit()

    assert replies == [text.format(lab.client.address) for text in (with_name, without)]


@pytest.mark.faq("slow-banner", "12d")
@pytest.mark.parametrize(
    ("fault", "warning"),
    [
        (lambda lab: DnsAnswer(lab.client.address, "PTR", rcode="SERVFAIL"), ""),
        (lambda lab: DnsAnswer(lab.client.address, "PTR", rcode="NXDOMAIN"), ""),
        (
            lambda _: DnsAnswer("client.example.net", "A", rcode="SERVFAIL"),
            "hostname client.example.net does not resolve to address {}: Name or service not known",
        ),
        (
            lambda _: DnsAnswer("client.example.net", "A", rcode="NXDOMAIN"),
            "hostname client.example.net does not resolve to address {}: Name or service not known",
        ),
        (
            lambda lab: ForeignPtr(lab.client.address, points_to="remote.example.net"),
            "hostname remote.example.net does not resolve to address {}",
        ),
    ],
    ids=["PTR-SERVFAIL", "no-PTR", "A-SERVFAIL", "no-A", "foreign-PTR"],
)
def test_behaviour_a_name_that_is_not_proved_is_none(
    lab: Lab, fault: Callable[[Lab], Fault], warning: str
) -> None:
    """An error is as good as no name, and a name that leads elsewhere is named in a warning."""
    resolver_waits(lab, 30)

    with lab.mail.faulty(fault(lab)):
        code = greeting(lab)

    assert code == 220
    assert clients(lab) == ["unknown"]
    warnings = [event.text for event in lab.events(Complaint, lab.mail)]
    assert warnings == [warning.format(lab.client.address)] * bool(warning)


@pytest.mark.faq("slow-banner", "12a")
def test_cure_a_resolver_that_asks_once_gives_up_sooner(lab: Lab) -> None:
    """resolv.conf(5) "options timeout:1 attempts:1" makes one query of two, for all programs."""
    resolver_waits(lab, 1, tries=2)
    lab.mail.cure.write("/etc/resolv.conf", resolv_conf(lab, 1, tries=1))
    lab.mail.restart()

    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        code = greeting(lab)

    assert code == 220
    assert clients(lab) == ["unknown"]
    assert queries(lab) == [1]


@pytest.mark.faq("slow-banner")
def test_behaviour_postscreen_greets_without_a_name_and_smtpd_behind_it_does_not(
    lab: Lab,
) -> None:
    """A stranger is greeted and put off with no query made; on its return smtpd(8) asks."""
    resolver_waits(lab, 30)
    for row in (
        "smtp inet n - n - 1 postscreen",
        "smtpd pass - - n - - smtpd",
        "dnsblog unix - - n - 0 dnsblog",
        "tlsproxy unix - - n - 0 tlsproxy",
    ):
        lab.mail.service(row)
    # Tests behind the greeting make postscreen(8) speak SMTP itself.
    lab.mail.configure(postscreen_bare_newline_enable="yes", postscreen_greet_wait="1s")

    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        stranger = lab.client.submit("joe@example.com", server=lab.mail)
        lab.wait_for(Event, host=lab.mail, saying="PASS NEW")
        returning = greeting(lab, HASTY_S)

    assert stranger.rejected(450, "4.3.2", saying="Service currently unavailable")
    assert returning == 0
    assert clients(lab) == []
    assert queries(lab) == [1]
