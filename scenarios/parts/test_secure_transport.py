"""Mail that must not be read or taken by another server on its way: DANE, MTA-STS, and neither.

A sender with a validating resolver, and destinations of which most are broken on purpose.
"""

from __future__ import annotations

import json
import re

import pytest

from maillab import CertificateRefused, Complaint, Event, Lab, Mail, TlsSession, UnknownName
from maillab.faults import DnsAnswer, FilterDown

pytestmark = pytest.mark.topology("secure-transport")

STS = "socketmap:inet:127.0.0.1:8461:postfix"
UNBOUND_CONF = "/etc/unbound/unbound.conf"
TLSA = "_25._tcp.mx.dane.example"
# As main.cf says it, by the column of the topology's table.
LEVELS = {
    "may": {"smtp_tls_security_level": "may"},
    "dane": {"smtp_tls_security_level": "dane"},
    "dane-only": {"smtp_tls_security_level": "dane-only"},
    "MTA-STS": {"smtp_tls_security_level": "may", "smtp_tls_policy_maps": STS},
}
RIGHT = "/etc/ssl/maillab/right.pem"
REPORTS = "/var/spool/postfix/tlsrpt"
# It logs what it gets, and is in the background once it listens.
COLLECTOR = """\
import os, socket, subprocess
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind("/var/spool/postfix/tlsrpt")
os.chmod("/var/spool/postfix/tlsrpt", 0o666)
os.fork() and os._exit(0)
os.setsid()
[os.dup2(os.open("/dev/null", os.O_RDWR), fd) for fd in (0, 1, 2)]
while True:
    subprocess.run(["postlog", "-t", "collector", listener.recv(65536).decode()])
"""
ASK = f"""\
import socket
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"no more", "{REPORTS}")
"""
MODERN = "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1"
MISMATCH = "no matching DANE TLSA records"
UNVERIFIED = "Server certificate not"


def table(lab: Lab, column: str) -> dict[str, str]:
    """Return the right verdict on each destination, from a column of the topology's table."""
    header = next(line for line in lab.topology.header.splitlines() if " dane-only " in line)
    place = header.split().index(column)
    rows = re.findall(r"(?m)^  (\S+\.example(?: +[a-z]+){4}) ", lab.topology.header)
    return {row.split()[0]: row.split()[place] for row in rows}


def sent(lab: Lab, domain: str) -> Mail:
    """Send a message to a destination; settle."""
    mail = lab.sender.send(to=f"alice@{domain}")
    lab.settle(mail)
    return mail


def verdict(lab: Lab, domain: str, mail: Mail) -> str:
    """Return the end of a message in the words of the topology's table."""
    if mail.deferred():
        return "waits"
    assert mail.delivered_to(lab.zoo, mailbox="alice")
    sessions = lab.events(TlsSession, lab.sender)
    trust = [session.trust for session in sessions if session.peer_name == f"mx.{domain}"]
    if not trust:
        return "clear"
    return "verified" if trust[-1] == "Verified" else "encrypted"


def now(lab: Lab, domain: str = "dane.example") -> str:
    """Send a message to a destination, and return its end."""
    return verdict(lab, domain, sent(lab, domain))


def complaints(lab: Lab) -> str:
    """Return the warnings of the sender's Postfix."""
    return "\n".join(event.text for event in lab.events(Complaint, lab.sender))


# The zoo.


@pytest.mark.parametrize("column", LEVELS)
def test_behaviour_each_destination_ends_as_the_table_says(lab: Lab, column: str) -> None:
    """Each of the topology's destinations, at one level of security."""
    other = "dane" if column == "may" else "may"
    lab.sender.configure(**LEVELS[other])
    lab.sender.cure.configure(**LEVELS[column])

    mails = {domain: lab.sender.send(to=f"alice@{domain}") for domain in table(lab, column)}
    lab.settle()

    assert len(mails) > 15
    verdicts = {domain: verdict(lab, domain, mail) for domain, mail in mails.items()}
    assert verdicts == table(lab, column)


@pytest.mark.parametrize(
    ("domain", "dsn", "reason"),
    [
        ("tlsa-mismatch.example", "4.7.5", UNVERIFIED),
        ("tlsa-unsigned.example", "4.7.5", "TLSA lookup error for mx.tlsa-unsigned.example:25"),
        ("no-tlsa.example", "4.7.5", "no TLSA records found"),
        ("unsigned.example", "4.7.5", "non DNSSEC destination"),
        ("no-ds.example", "4.7.5", "non DNSSEC destination"),
        ("dane-no-starttls.example", "4.7.4", "TLS is required, but was not offered by host"),
    ],
)
def test_symptom_dane_only_keeps_mail_waiting(lab: Lab, domain: str, dsn: str, reason: str) -> None:
    """The words in the log and in the queue, for each way in which a destination lacks DANE."""
    lab.sender.configure(smtp_tls_security_level="may")
    lab.sender.misconfigure(smtp_tls_security_level="dane-only")

    mail = sent(lab, domain)

    assert mail.deferred(dsn=dsn, saying=reason)


@pytest.mark.parametrize("domain", ["no-tlsa.example", "unsigned.example", "plain.example"])
def test_cure_dane_sends_where_there_is_no_dane(lab: Lab, domain: str) -> None:
    """Level "dane" requires it of the domains that have it, and "dane-only" of all."""
    lab.sender.configure(smtp_tls_security_level="dane-only")
    lab.sender.cure.configure(smtp_tls_security_level="dane")

    mail = sent(lab, domain)

    assert mail.delivered_to(lab.zoo, mailbox="alice")


# A new key at the destination.


def digest(lab: Lab, pem: str) -> str:
    """Return the data of a TLSA record for a certificate's key (RFC 7671 section 5.1)."""
    hashed = "openssl x509 -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum"
    return "3 1 1 " + lab.zoo.run("sh", "-c", hashed, stdin=pem).stdout.split()[0]


def new_key(lab: Lab) -> tuple[str, str, str]:
    """Return a new key with its certificate, and the data of the old and the new TLSA record."""
    old = lab.zoo.read(RIGHT) or ""
    new = lab.authority.issue("mx.dane.example").pem
    return new, digest(lab, old), digest(lab, new)


def test_symptom_a_new_key_without_its_record_keeps_mail_waiting(lab: Lab) -> None:
    """The TLSA record still has the digest of the old key."""
    new, _, _ = new_key(lab)
    lab.zoo.mistake.write(RIGHT, new, mode=0o600)
    lab.zoo.restart()

    mail = sent(lab, "dane.example")

    assert mail.deferred(dsn="4.7.5", saying=UNVERIFIED)
    reasons = [event.reason for event in lab.events(CertificateRefused, lab.sender)]
    logged = lab.has("TLSA mismatch in the log")
    assert [reason.split(":")[-1] for reason in reasons] == [MISMATCH] * logged


def test_cure_the_new_record_is_published_before_the_new_key(lab: Lab) -> None:
    """With records for both keys, mail is verified before and after the change."""
    new, old_record, new_record = new_key(lab)
    lab.zoo.cure.publish(TLSA, "TLSA", old_record, new_record)

    before = now(lab)
    lab.zoo.write(RIGHT, new, mode=0o600)
    lab.zoo.restart()

    assert before == "verified"
    assert now(lab) == "verified"


def test_cure_the_late_record_lets_the_mail_go(lab: Lab) -> None:
    """The mail that waited leaves at a later attempt, once the new record is published."""
    new, _, new_record = new_key(lab)
    lab.zoo.write(RIGHT, new, mode=0o600)
    lab.zoo.restart()
    mail = sent(lab, "dane.example")
    assert mail.deferred(dsn="4.7.5")
    lab.zoo.cure.publish(TLSA, "TLSA", new_record)

    lab.clock.advance(minutes=10)
    lab.settle(mail)

    assert verdict(lab, "dane.example", mail) == "verified"


# The resolver.


def provider(lab: Lab) -> str:
    """Return a resolv.conf(5) with a name server that does not validate."""
    return f"nameserver {lab.sender.address.rpartition('.')[0]}.2\n"


def test_symptom_without_a_validating_resolver_no_destination_has_dane(lab: Lab) -> None:
    """The answers have no AD bit: "dane" takes any server, and "dane-only" none."""
    lab.sender.mistake.write("/etc/resolv.conf", provider(lab))
    lab.sender.restart()

    assert now(lab) == "encrypted"
    lab.sender.configure(smtp_tls_security_level="dane-only")
    assert sent(lab, "dane.example").deferred(dsn="4.7.5", saying="non DNSSEC destination")


def test_symptom_unbound_without_its_validator_proves_nothing(lab: Lab) -> None:
    """A resolver on loopback is no better if it passes on what it gets."""
    unbound = lab.sender.mistake.filter("unbound")
    right = lab.sender.filter("unbound").read(UNBOUND_CONF) or ""
    unbound.write(UNBOUND_CONF, right.replace('"validator iterator"', '"iterator"'))
    unbound.restart()

    assert now(lab) == "encrypted"
    assert now(lab, "tlsa-mismatch.example") == "encrypted"


def test_cure_unbound_on_loopback_validates(lab: Lab) -> None:
    """resolv.conf(5) names the resolver on loopback, and no other."""
    lab.sender.write("/etc/resolv.conf", provider(lab))
    lab.sender.cure.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    lab.sender.restart()

    assert now(lab) == "verified"
    assert now(lab, "tlsa-mismatch.example") == "waits"


def test_symptom_dane_without_dnssec_lookups_is_opportunistic(lab: Lab) -> None:
    """smtp_dns_support_level is as important as the level; Postfix warns."""
    lab.sender.misconfigure(smtp_dns_support_level="enabled")

    assert now(lab) == "encrypted"
    assert "dane configured with dnssec lookups disabled" in complaints(lab)


def test_cure_dnssec_lookups_for_dane(lab: Lab) -> None:
    """With smtp_dns_support_level=dnssec TLSA records count."""
    lab.sender.configure(smtp_dns_support_level="enabled")
    lab.sender.cure.configure(smtp_dns_support_level="dnssec")

    assert now(lab) == "verified"
    assert not complaints(lab)


def test_symptom_without_the_resolver_nothing_leaves(lab: Lab) -> None:
    """Without an answer from loopback, mail waits for the name's lookup."""
    with lab.sender.faulty(FilterDown("unbound")):
        mail = sent(lab, "plain.example")

    assert mail.deferred(dsn="4.4.3", saying="type=MX: Host not found, try again")


@pytest.mark.parametrize("level", ["dane", "dane-only"])
def test_symptom_a_tlsa_lookup_that_fails_keeps_mail_waiting(lab: Lab, level: str) -> None:
    """Even "dane" does not go on without TLSA records: an attacker may have stopped the answer."""
    lab.sender.configure(smtp_tls_security_level=level)

    with lab.sender.faulty(DnsAnswer(TLSA, "TLSA", rcode="SERVFAIL")):
        mail = sent(lab, "dane.example")
        waits = mail.deferred(dsn="4.7.5", saying="TLSA lookup error for mx.dane.example:25").now()
    lab.clock.advance(hours=1)
    lab.settle(mail)

    assert waits
    assert verdict(lab, "dane.example", mail) == "verified"


# MTA-STS.


def with_mta_sts(lab: Lab) -> None:
    """Let the sender ask mta-sts-resolver for the policy of each destination."""
    lab.sender.configure(**LEVELS["MTA-STS"])


def policy(lab: Lab, domain: str, mx: str) -> None:
    """Publish a domain's policy that names an MX host, without a new id."""
    text = f"version: STSv1\r\nmode: enforce\r\nmx: {mx}\r\nmax_age: 604800\r\n"
    lab.zoo.filter("policyhost").write(f"/etc/mta-sts/{domain}.txt", text)


def fetches(lab: Lab) -> str:
    """Return what mta-sts-resolver has logged."""
    found = [e.text for e in lab.events(Event, lab.sender) if e.program == "mta-sts-resolver"]
    return "\n".join(found)


WRONG_NAME = "sts-wrong-name.example"


def test_symptom_without_the_policy_host_any_server_will_do(lab: Lab) -> None:
    """No policy is known of a domain to which no mail went before."""
    with_mta_sts(lab)

    with lab.zoo.faulty(FilterDown("policyhost")):
        end = now(lab, WRONG_NAME)

    assert end == "encrypted"
    assert f"STS policy fetch for domain '{WRONG_NAME}' failed" in fetches(lab)


def test_behaviour_a_policy_outlives_its_host(lab: Lab) -> None:
    """Once fetched, it is used until its max_age is over, also if a newer one cannot be had."""
    lab.sender.configure(smtp_tls_security_level="may")
    lab.sender.cure.configure(smtp_tls_policy_maps=STS)
    before = now(lab, WRONG_NAME)

    with lab.zoo.faulty(FilterDown("policyhost")):
        lab.zoo.publish(f"_mta-sts.{WRONG_NAME}", "TXT", "v=STSv1; id=2")
        lab.clock.advance(hours=1)
        during = now(lab, WRONG_NAME)

    assert (before, during) == ("waits", "waits")
    assert f"STS policy fetch for domain '{WRONG_NAME}' failed" in fetches(lab)


def test_symptom_a_policy_host_with_a_wrong_certificate_has_no_policy(lab: Lab) -> None:
    """The web server's certificate must be right, too (RFC 8461 section 3.3)."""
    with_mta_sts(lab)
    certificate = lab.authority.issue("mta-sts.another.example").pem
    web = lab.zoo.mistake.filter("policyhost")
    web.write(f"/etc/ssl/maillab/mta-sts.{WRONG_NAME}.pem", certificate)

    assert now(lab, WRONG_NAME) == "encrypted"
    assert "certificate verify failed" in fetches(lab)


def test_cure_a_changed_policy_needs_a_new_id(lab: Lab) -> None:
    """Senders fetch a policy again only if the id in the TXT record has changed."""
    domain = "sts-mx-mismatch.example"
    with_mta_sts(lab)
    before = now(lab, domain)
    policy(lab, domain, f"mx.{domain}")
    lab.zoo.cure.publish(f"_mta-sts.{domain}", "TXT", "v=STSv1; id=2")
    lab.clock.advance(minutes=5)

    assert before == "waits"
    assert now(lab, domain) == "verified"


def test_symptom_an_sts_policy_takes_the_place_of_dane(lab: Lab) -> None:
    """mta-sts-resolver knows nothing of TLSA records, and the map comes before the level."""
    lab.sender.configure(smtp_tls_security_level="dane")
    lab.sender.misconfigure(smtp_tls_policy_maps=STS)

    assert now(lab, "both.example") == "waits"
    assert "signed certificate" in lab.events(CertificateRefused, lab.sender)[-1].reason


def test_cure_an_entry_before_the_socketmap_keeps_dane(lab: Lab) -> None:
    """The first map that has the domain decides (RFC 8461 section 2: DANE comes first)."""
    lab.sender.configure(smtp_tls_security_level="dane", smtp_tls_policy_maps=STS)
    lab.sender.cure.configure(smtp_tls_policy_maps=f"inline:{{both.example=dane}}, {STS}")

    assert now(lab, "both.example") == "verified"
    assert now(lab, "sts.example") == "verified"
    assert now(lab, WRONG_NAME) == "waits"


def test_symptom_without_mta_sts_resolver_mail_waits(lab: Lab) -> None:
    """A policy that cannot be looked up is not "no policy"."""
    with_mta_sts(lab)

    with lab.sender.faulty(FilterDown("mta-sts-resolver")):
        mail = sent(lab, "plain.example")

    assert mail.deferred(dsn="4.7.5", saying="client TLS configuration problem")


def test_behaviour_the_policy_names_the_mx_hosts(lab: Lab) -> None:
    """With TLSRPT attributes from the plugin, an MX host that the policy does not name waits.

    Before 3.10.5 its certificate could be for any name of the policy, and Postfix before 3.10
    does not know the attributes.
    """
    with_mta_sts(lab)
    policy(lab, WRONG_NAME, "mx.another.example")
    resolver = lab.sender.cure.filter("mta-sts-resolver")
    resolver.configure(default_zone="{tlsrpt: true}")

    end = now(lab, WRONG_NAME)

    if lab.has("smtp_tls_enforce_sts_mx_patterns"):
        assert end == "waits"
        mx = f"mx.{WRONG_NAME}"
        assert f"MX name '{mx}' does not match STS MX pattern for '{WRONG_NAME}'" in complaints(lab)
    elif lab.has("TLSRPT attributes of TLS policies"):
        assert end == "verified"
    else:
        assert end == "waits"
        assert 'invalid attribute name: "policy_type"' in complaints(lab)


# Reports (TLSRPT).


def reported(lab: Lab) -> list[str]:
    """Return what the collector got so far: it logs reports in order."""
    lab.sender.run("python3", "-c", ASK)
    lab.wait_for(Event, host=lab.sender, saying="no more")
    events = lab.events(Event, lab.sender)
    return [event.text for event in events if event.program == "collector"][:-1]


def test_behaviour_a_collector_gets_a_report_about_each_domain_that_wants_it(lab: Lab) -> None:
    """Postfix sends one for each TLS session (RFC 8460), and with it the reason of a failure.

    Before 3.10 there are no such settings, and Debian 12's 3.10 is built without it.
    """
    settings = {"smtp_tlsrpt_enable": "yes", "smtp_tlsrpt_socket_name": "tlsrpt"}
    if not lab.has("smtp_tlsrpt_enable"):
        with pytest.raises(UnknownName, match="has no parameter smtp_tlsrpt_enable"):
            lab.sender.cure.configure(**settings)
        return
    for domain in ("dane.example", "tlsa-mismatch.example"):
        wanted = f"v=TLSRPTv1; rua=mailto:reports@{domain}"
        lab.zoo.publish(f"_smtp._tls.{domain}", "TXT", wanted)
    lab.sender.write("/root/collector.py", COLLECTOR)
    lab.sender.run("python3", "/root/collector.py")
    lab.sender.cure.configure(**settings)

    ends = [now(lab, name) for name in ("dane.example", "tlsa-mismatch.example", "plain.example")]

    assert ends == ["verified", "waits", "encrypted"]
    reports = [json.loads(text) for text in reported(lab)]
    if not lab.has("TLSRPT"):
        assert not reports
        assert "TLSRPT is selected, but TLSRPT is not compiled in" in complaints(lab)
        return
    failed = [(report["d"], report["policies"][0]["f"]) for report in reports]
    assert failed == [("dane.example", 0), ("tlsa-mismatch.example", 1)]
    assert reports[0]["pr"] == "v=TLSRPTv1; rua=mailto:reports@dane.example"
    (reason,) = reports[1]["policies"][0]["failure-details"]
    assert (reason["n"], reason["r"]) == ("mx.tlsa-mismatch.example", lab.zoo.address)


# Old TLS.


def after_an_hour(lab: Lab, domain: str) -> Mail:
    """Send a message to a destination, and let its next attempt come."""
    mail = sent(lab, domain)
    lab.clock.advance(hours=1)
    lab.settle(mail)
    return mail


def test_symptom_opportunistic_tls_without_old_versions_sends_in_clear(lab: Lab) -> None:
    """At level "may" Postfix sends without TLS in the end if there is no common version."""
    lab.sender.configure(smtp_tls_security_level="may")
    lab.sender.misconfigure(smtp_tls_protocols=MODERN)

    mail = after_an_hour(lab, "old-tls.example")

    assert verdict(lab, "old-tls.example", mail) == "clear"


def test_cure_mandatory_tls_without_old_versions_keeps_mail(lab: Lab) -> None:
    """With "encrypt", smtp_tls_mandatory_protocols counts, and nothing is sent in clear."""
    lab.sender.configure(smtp_tls_security_level="may", smtp_tls_protocols=MODERN)
    lab.sender.cure.configure(
        smtp_tls_security_level="encrypt", smtp_tls_mandatory_protocols=MODERN
    )

    mail = after_an_hour(lab, "old-tls.example")

    assert mail.deferred(dsn="4.7.5", saying="Cannot start TLS: handshake failure")


# Time.


def test_behaviour_signatures_that_expire_stop_all_mail(lab: Lab) -> None:
    """When the zones were not signed again in time, no level helps: names are not believed."""
    lab.sender.configure(smtp_tls_security_level="may")
    before = now(lab)
    # Signatures are valid for 30 days, and unbound forgives one.
    lab.clock.advance(days=32)

    mail = sent(lab, "dane.example")

    assert before == "encrypted"
    assert mail.deferred(dsn="4.4.3", saying="type=MX: Host not found, try again")


def test_behaviour_an_expired_certificate_is_right_for_dane_and_wrong_for_mta_sts(
    lab: Lab,
) -> None:
    """TLSA records name the key (RFC 7672 section 3.1.1); MTA-STS wants a valid certificate."""
    lab.sender.configure(smtp_tls_policy_maps=f"inline:{{dane.example=dane-only}}, {STS}")
    both = now(lab), now(lab, "sts.example")
    lab.clock.advance(days=21)

    assert both == ("verified", "verified")
    assert now(lab) == "verified"
    assert sent(lab, "sts.example").deferred(dsn="4.7.5", saying=UNVERIFIED)
    assert "certificate has expired" in lab.events(CertificateRefused, lab.sender)[-1].reason
