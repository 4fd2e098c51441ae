"""Postfix responds slowly to incoming SMTP connections.

Before the greeting smtpd(8) looks up the client's name, and waits until the resolver gives
up if the nameserver does not answer. Repair the nameserver, or put the client into
/etc/hosts, with "files" first in /etc/nsswitch.conf. smtpd_peername_lookup = no disables
the lookup, and with it every rule that uses client names.

The resolver gives up after 10 seconds by default, two tries of 5 (resolv.conf(5)); in the
labs after 4, two tries of 2. POP3 on the same host looks up no names and answers in the
meantime. The FAQ's host.conf and svcorder are history.

Since the FAQ:
- 2.3: smtpd_peername_lookup.
- 2.8: postscreen(8) greets without a lookup; smtpd(8) after it still looks up the name.
"""

from collections.abc import Callable

import pytest

from maillab import Complaint, Connected, Event, Fault, Lab, pop3
from maillab.faults import DnsAnswer, DnsDelay, DnsDrop, ForeignPtr

pytestmark = pytest.mark.topology("standalone")

# A session without a greeting must be shorter than the resolver's wait, others longer.
HASTY_S = 1.0
PATIENT_S = 15.0


def resolver_waits(lab: Lab, seconds: int, tries: int = 2) -> None:
    """Set the mail server's resolver timeout and number of tries."""
    lab.mail.write("/etc/resolv.conf", resolv_conf(lab, seconds, tries))
    lab.mail.restart()


def resolv_conf(lab: Lab, seconds: int, tries: int) -> str:
    """Return a resolver configuration with these limits (resolv.conf(5))."""
    nameservers = [
        line
        for line in (lab.mail.read("/etc/resolv.conf") or "").splitlines()
        if line.startswith(("#", "nameserver"))
    ]
    return "\n".join([*nameservers, f"options timeout:{seconds} attempts:{tries}", ""])


def greeting(lab: Lab, within_s: float = PATIENT_S) -> int:
    """Connect from the outside client; return the greeting's code, or 0 without a greeting."""
    with lab.client.session(lab.mail, timeout_s=within_s) as session:
        return session.greeting.code


def clients(lab: Lab) -> list[str]:
    """Return the client names that smtpd(8) logged, in order."""
    return [event.client_name for event in lab.events(Connected, lab.mail)]


def queries(lab: Lab) -> list[int]:
    """Return the number of queries that each DNS fault affected."""
    return [witness.count for witness in lab.witnesses]


@pytest.mark.faq("slow-banner", "12a")
def test_symptom_the_greeting_waits_until_the_resolver_gives_up(lab: Lab) -> None:
    """Without an answer for the client's name the greeting waits: two tries per connection."""
    resolver_waits(lab, 1)

    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        hasty = greeting(lab, HASTY_S)
        patient = greeting(lab)

    assert hasty == 0
    assert patient == 220
    assert clients(lab) == ["unknown", "unknown"]
    assert queries(lab) == [4]


@pytest.mark.faq("slow-banner", "12a")
def test_symptom_by_default_the_greeting_takes_ten_seconds(lab: Lab) -> None:
    """With the resolver's defaults the greeting waits for two queries of 5 s each.

    The test takes over ten seconds.
    """
    resolver_waits(lab, 5)

    with lab.client.session(lab.mail):
        pass
    with (
        lab.mail.faulty(DnsDrop(lab.client.address, "PTR")),
        lab.client.session(lab.mail) as session,
    ):
        nameless_s = session.waited_s

    assert clients(lab) == ["client.example.net", "unknown"]
    assert queries(lab) == [2]
    # Only a lower bound: a busy machine greets later, but the resolver never gives up early.
    assert nameless_s >= 2 * 5


@pytest.mark.faq("slow-banner", "12a")
def test_symptom_pop_answers_while_smtp_is_silent(lab: Lab) -> None:
    """The same client reads its mail by POP3 while smtpd(8) has not greeted it."""
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
    """The client's name arrives at once and its address late; the greeting waits for both."""
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
    """Of two connections only the one before the cure makes a query and gets no greeting."""
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
    """With "hosts: dns files" the name comes from the file after the resolver gives up."""
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
    """With smtpd_peername_lookup=no the greeting needs no query, and the client has no name."""
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
    """Without names a client barred by name gets in, and a named client is refused."""
    replies = []
    lab.mail.configure(smtpd_client_restrictions=restriction)
    for host, lookup in ((lab.mail, "yes"), (lab.mail.mistake, "no")):
        host.configure(smtpd_peername_lookup=lookup)
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
    """After a lookup error the client has no name; a mismatch also logs a warning."""
    resolver_waits(lab, 30)

    with lab.mail.faulty(fault(lab)):
        code = greeting(lab)

    assert code == 220
    assert clients(lab) == ["unknown"]
    warnings = [event.text for event in lab.events(Complaint, lab.mail)]
    assert warnings == [warning.format(lab.client.address)] * bool(warning)


@pytest.mark.faq("slow-banner", "12a")
def test_cure_a_resolver_that_asks_once_gives_up_sooner(lab: Lab) -> None:
    """With resolv.conf(5) "timeout:1 attempts:1" the host's resolver makes one query, not two."""
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
    """A new client is greeted and deferred without a query; for its return smtpd(8) makes one."""
    resolver_waits(lab, 30)
    for row in (
        "smtp inet n - n - 1 postscreen",
        "smtpd pass - - n - - smtpd",
        "dnsblog unix - - n - 0 dnsblog",
        "tlsproxy unix - - n - 0 tlsproxy",
    ):
        lab.mail.service(row)
    # Tests after the greeting make postscreen(8) speak SMTP itself.
    lab.mail.configure(postscreen_bare_newline_enable="yes", postscreen_greet_wait="1s")

    with lab.mail.faulty(DnsDrop(lab.client.address, "PTR")):
        stranger = lab.client.smtp("joe@example.com", server=lab.mail)
        lab.wait_for(Event, host=lab.mail, saying="PASS NEW")
        returning = greeting(lab, HASTY_S)

    assert stranger.rejected(450, "4.3.2", saying="Service currently unavailable")
    assert returning == 0
    assert clients(lab) == []
    assert queries(lab) == [1]
