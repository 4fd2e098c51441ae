"""Mail that is signed, checked, forwarded and greylisted, by filters beside Postfix.

Each scenario shows a filter at work, or one way in which a site fails to use it.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from maillab import AddressRewritten, Checked, Complaint, Event, Greylisted, Lab, Mail, Signed
from maillab.faults import FilterDown

pytestmark = pytest.mark.topology("authenticated")

OPENDKIM = "inet:127.0.0.1:8891"
OPENDMARC = "inet:127.0.0.1:8893"
POLICYD_SPF = "check_policy_service inet:127.0.0.1:10031"
POSTGREY = "check_policy_service inet:127.0.0.1:10023"
UNSIGNED = {"smtpd_milters": "", "non_smtpd_milters": ""}
SIGNED = {"smtpd_milters": OPENDKIM, "non_smtpd_milters": OPENDKIM}
SPF = "v=spf1 mx -all"
KEY = "mail._domainkey.example.com"
SRS = {
    "sender_canonical_maps": "tcp:localhost:10001",
    "sender_canonical_classes": "envelope_sender",
    "recipient_canonical_maps": "tcp:localhost:10002",
    "recipient_canonical_classes": "envelope_recipient, header_recipient",
}
BLOCKED = "550-5.7.26 Your email has been blocked because the sender is unauthenticated."
LATER = "Service unavailable - try again later"


def sent(lab: Lab, to: str = "alice@example.net", **options: Any) -> Mail:
    """Send from the sender, by sendmail(1); settle."""
    mail = lab.sender.send(to=to, **options)
    lab.settle(mail)
    return mail


def checked(lab: Lab) -> str:
    """Return what the receiver found out about the last message."""
    found = [
        event.text for event in lab.events(Event, lab.receiver) if event.program == "authcheck"
    ]
    return found[-1] if found else ""


def key_record(text: str) -> str:
    """Return the text of the TXT record in a file of opendkim-genkey(8)."""
    return "".join(re.findall(r'"([^"]*)"', text))


# Signing.


def test_cure_non_smtpd_milters_signs_what_sendmail_submits(lab: Lab) -> None:
    """smtpd_milters is only for mail that arrives by SMTP."""
    lab.sender.configure(non_smtpd_milters="")
    lab.sender.cure.configure(non_smtpd_milters=OPENDKIM)

    mail = sent(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "dkim=pass header.d=example.com header.s=mail" in checked(lab)
    (signed,) = lab.events(Signed, lab.sender)
    assert (signed.domain, signed.selector) == ("example.com", "mail")
    assert signed.action in mail.journey.text()


def test_symptom_unauthenticated_mail_is_refused(lab: Lab) -> None:
    """Neither SPF nor DKIM passes: the big providers refuse it."""
    lab.sender.mistake.publish("example.com", "TXT")
    lab.sender.misconfigure(**UNSIGNED)

    mail = sent(lab)

    assert mail.bounced(dsn="5.7.26", saying=f"said: {BLOCKED}")
    assert "spf=none smtp.mailfrom=example.com; dkim=none" in checked(lab)


@pytest.mark.parametrize("how", ["by SPF", "by DKIM"])
def test_cure_either_authenticates_the_mail(lab: Lab, how: str) -> None:
    """One of the two is enough."""
    lab.sender.publish("example.com", "TXT")
    lab.sender.configure(**UNSIGNED)
    if how == "by SPF":
        lab.sender.cure.publish("example.com", "TXT", SPF)
    else:
        lab.sender.cure.configure(**SIGNED)

    mail = sent(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    passed = "spf=pass" if how == "by SPF" else "dkim=pass"
    assert passed in checked(lab)
    (copy,) = lab.receiver.mailbox("alice")
    assert passed in str(copy["Authentication-Results"])


def test_symptom_a_provider_puts_unauthenticated_mail_off(lab: Lab) -> None:
    """A provider may answer 421 first: the mail waits."""
    lab.sender.publish("example.com", "TXT")
    lab.sender.configure(**UNSIGNED)
    lab.receiver.mistake.filter("authcheck").configure(Unauthenticated="defer")

    mail = sent(lab)

    words = "421-4.7.26 Your email has been rate limited because it is unauthenticated."
    assert mail.deferred(dsn="4.7.26", saying=words)


def test_symptom_the_key_in_dns_is_another_one(lab: Lab) -> None:
    """Every signature fails, after a new key was made and not published."""
    opendkim = lab.sender.filter("opendkim")
    opendkim.run("opendkim-genkey", "-b", "2048", "-d", "example.com", "-s", "mail", "-D", "/root")
    other = key_record(opendkim.read("/root/mail.txt") or "")
    lab.sender.mistake.publish(KEY, "TXT", other)

    mail = sent(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "dkim=fail header.d=example.com" in checked(lab)


def test_cure_the_key_in_dns_is_the_one_that_signs(lab: Lab) -> None:
    """opendkim-genkey(8) prints the record beside the key."""
    opendkim = lab.sender.filter("opendkim")
    record = key_record(opendkim.read("/etc/dkimkeys/mail.txt") or "")
    lab.sender.publish(KEY, "TXT")
    lab.sender.cure.publish(KEY, "TXT", record)

    mail = sent(lab)

    assert "dkim=pass header.d=example.com" in checked(lab)
    assert mail.delivered_to(lab.receiver, mailbox="alice")


def test_symptom_a_signature_does_not_survive_a_changed_body(lab: Lab) -> None:
    """A server on the way that adds to the body breaks the signature."""
    lab.forwarder.configure(virtual_alias_maps="inline:{alice@example.org=alice@example.net}")
    rule = "/^(This is message .*)/ REPLACE $1 (checked)\n"
    checks = lab.forwarder.table("body_checks", rule, kind="regexp")
    lab.forwarder.misconfigure(body_checks=checks)

    sent(lab, to="alice@example.org")

    assert "spf=fail smtp.mailfrom=example.com; dkim=fail" in checked(lab)


# SPF.


def strangers_mail(lab: Lab) -> Mail:
    """Send from a stranger's host in the sender's name; the receiver asks policyd-spf alone."""
    lab.receiver.configure(smtpd_milters="", smtpd_recipient_restrictions=POLICYD_SPF)
    lab.receiver.filter("policyd-spf").start()
    mail = lab.other.smtp("alice@example.net", server=lab.receiver, sender="bob@example.com")
    lab.settle(mail)
    return mail


def test_symptom_a_strangers_mail_in_your_name_is_accepted(lab: Lab) -> None:
    """Without a record nothing says which hosts send for the domain."""
    lab.sender.mistake.publish("example.com", "TXT")

    mail = strangers_mail(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")


def test_symptom_policyd_spf_only_tests_with_test_only_0(lab: Lab) -> None:
    """The value has the other sense: with 0, failures are not refused."""
    lab.receiver.mistake.filter("policyd-spf").configure(TestOnly="0")

    mail = strangers_mail(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")


def test_cure_an_spf_record_refuses_a_strangers_mail_in_your_name(lab: Lab) -> None:
    """With policyd-spf the answer is 550 5.7.23, before the message is sent."""
    lab.sender.publish("example.com", "TXT")
    lab.sender.cure.publish("example.com", "TXT", SPF)

    mail = strangers_mail(lab)

    assert mail.rejected(550, "5.7.23", saying="Message rejected due to: SPF fail - not authorized")
    (checked,) = lab.events(Checked, lab.receiver)
    assert (checked.program, dict(checked.results)) == ("policyd-spf", {"spf": "fail"})
    assert checked.action in mail.journey.text()


# DMARC.


def strangers_newsletter(lab: Lab) -> Mail:
    """Send from a stranger's host and domain, with the sender's domain in From."""
    lab.other.publish("other.example", "TXT", "v=spf1 a:client.other.example -all")
    mail = lab.other.smtp(
        "alice@example.net",
        server=lab.receiver,
        sender="news@other.example",
        headers={"From": "bob@example.com"},
    )
    lab.settle(mail)
    return mail


def test_symptom_spf_says_nothing_of_the_author(lab: Lab) -> None:
    """SPF passes for the stranger's own domain, and the policy asks for nothing."""
    lab.sender.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=reject")
    lab.sender.mistake.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=none")

    mail = strangers_newsletter(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "dmarc=fail (p=none) header.from=example.com; action=accept" in checked(lab)


@pytest.mark.parametrize("checker", ["authcheck", "opendmarc"])
def test_cure_a_policy_of_reject_protects_the_authors_domain(lab: Lab, checker: str) -> None:
    """The receiver refuses mail that no aligned domain authenticates."""
    refusal = (550, "5.7.26", "Unauthenticated email from example.com is not accepted")
    if checker == "opendmarc":
        lab.receiver.filter("opendkim").start()
        lab.receiver.filter("opendmarc").start()
        lab.receiver.configure(smtpd_milters=f"{OPENDKIM}, {OPENDMARC}")
        refusal = (550, "5.7.1", "rejected by DMARC policy for example.com")
    lab.sender.cure.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=reject")

    mail = strangers_newsletter(lab)

    code, dsn, words = refusal
    assert mail.rejected(code, dsn, saying=words)


def test_behaviour_opendmarc_takes_the_signature_that_opendkim_verified(lab: Lab) -> None:
    """The first Milter adds its result to the header that the second one reads."""
    lab.sender.publish("example.com", "TXT")
    lab.sender.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=reject")
    lab.receiver.filter("opendkim").start()
    lab.receiver.filter("opendmarc").start()
    lab.receiver.configure(smtpd_milters=OPENDMARC)
    lab.receiver.cure.configure(smtpd_milters=f"{OPENDKIM}, {OPENDMARC}")

    mail = sent(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    (copy,) = lab.receiver.mailbox("alice")
    results = " ".join(str(value) for value in copy.get_all("Authentication-Results", []))
    assert "dkim=pass" in results
    assert "dmarc=pass (p=reject dis=none) header.from=example.com" in results
    found = {event.program: dict(event.results) for event in lab.events(Checked, lab.receiver)}
    assert found == {"opendkim": {"dkim": "pass"}, "opendmarc": {"dmarc": "pass"}}


def from_a_subdomain(lab: Lab) -> Mail:
    """Send with a subdomain in From; the signature and the envelope have the domain."""
    lab.sender.filter("opendkim").configure(SubDomains="yes")
    return sent(lab, sender="bob@example.com", headers={"From": "bob@news.example.com"})


def test_symptom_strict_alignment_refuses_mail_from_a_subdomain(lab: Lab) -> None:
    """SPF and DKIM pass for example.com, which is not news.example.com."""
    lab.sender.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=reject")
    lab.sender.mistake.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=reject; adkim=s; aspf=s")

    mail = from_a_subdomain(lab)

    assert mail.bounced(dsn="5.7.26", saying="Unauthenticated email from news.example.com")
    assert "spf=pass" in checked(lab)
    assert "dkim=pass header.d=example.com" in checked(lab)


@pytest.mark.parametrize("tags", ["aspf=s", "adkim=s"])
def test_cure_one_relaxed_alignment_is_enough(lab: Lab, tags: str) -> None:
    """Relaxed is the default of both tags."""
    lab.sender.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=reject; adkim=s; aspf=s")
    lab.sender.cure.publish("_dmarc.example.com", "TXT", f"v=DMARC1; p=reject; {tags}")

    mail = from_a_subdomain(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "dmarc=pass" in checked(lab)


# Forwarding.


def forwarded(lab: Lab, to: str = "alice@example.net", **sender: str) -> Mail:
    """Send mail to a user of the forwarder, who has it forwarded."""
    lab.forwarder.configure(virtual_alias_maps=f"inline:{{alice@example.org={to}}}")
    lab.sender.configure(**sender)
    return sent(lab, to="alice@example.org")


def test_symptom_forwarded_mail_fails_spf(lab: Lab) -> None:
    """The forwarder is no host of the sender's domain."""
    lab.forwarder.configure(**SRS)
    lab.forwarder.misconfigure(sender_canonical_maps="")

    mail = forwarded(lab, **UNSIGNED)

    assert "spf=fail smtp.mailfrom=example.com; dkim=none" in checked(lab)
    assert mail.bounced(dsn="5.7.26", saying=BLOCKED)


def test_cure_srs_lets_forwarded_mail_pass_spf(lab: Lab) -> None:
    """With postsrsd(8) the envelope has the forwarder's domain."""
    lab.forwarder.cure.configure(**SRS)

    mail = forwarded(lab, **UNSIGNED)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "spf=pass smtp.mailfrom=example.org" in checked(lab)
    (copy,) = lab.receiver.mailbox("alice")
    assert re.fullmatch(r"<SRS0=.{4}=..=example\.com=bob@example\.org>", copy["Return-Path"])
    rewritten = lab.events(AddressRewritten, lab.forwarder)
    assert {f"<{event.address}>" for event in rewritten} == {copy["Return-Path"]}
    assert "postsrsd: srs_forward: <bob@example.com> rewritten as " in mail.journey.text()


def test_cure_a_signature_survives_forwarding(lab: Lab) -> None:
    """Without SRS, only DKIM still passes."""
    lab.sender.configure(**UNSIGNED)
    lab.sender.cure.configure(**SIGNED)

    mail = forwarded(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "spf=fail smtp.mailfrom=example.com; dkim=pass" in checked(lab)


def test_cure_bounces_of_rewritten_senders_come_home(lab: Lab) -> None:
    """The address is turned back, and the notice reaches the first sender."""
    lab.forwarder.configure(**SRS)
    lab.forwarder.configure(recipient_canonical_maps="")
    lab.forwarder.cure.configure(recipient_canonical_maps=SRS["recipient_canonical_maps"])

    mail = forwarded(lab, to="nosuchuser@example.net")

    assert mail.bounced(dsn="5.1.1", saying="User unknown in local recipient table")
    notices = lab.sender.mailbox("bob")
    assert [notice["Subject"] for notice in notices] == ["Undelivered Mail Returned to Sender"]


# A Milter that is down, or behind a socket that Postfix cannot use.


def complaints(lab: Lab) -> list[str]:
    """Return what the sender's Postfix warned of."""
    return [event.text for event in lab.events(Complaint, lab.sender)]


def replies(lab: Lab) -> tuple[str, str]:
    """Return the sender's replies to a client's connection and to its MAIL FROM."""
    lab.sender.configure(smtpd_banner="$myhostname ESMTP")
    with lab.other.session(lab.sender) as session:
        session.ehlo()
        session.mail("joe@other.example")
        return str(session.greeting), str(session.replies[-1][1])


WELCOME = "220 mail.example.com ESMTP"
ACTIONS = {
    "tempfail": (WELCOME, f"451 4.7.1 {LATER}"),
    "reject": ("554 mail.example.com ESMTP not accepting connections", ""),
    "accept": (WELCOME, "250 2.1.0 Ok"),
    "quarantine": (WELCOME, "250 2.1.0 Ok"),
    "shutdown": (f"421 mail.example.com {LATER}", ""),
}
# Releases before the default was changed do not know "shutdown".
UNKNOWN = (WELCOME, "451 4.3.5 Server configuration problem - try again later")


@pytest.mark.parametrize("action", [*ACTIONS, ""], ids=[*ACTIONS, "default"])
def test_symptom_a_milter_that_is_down(lab: Lab, action: str) -> None:
    """milter_default_action decides: by default mail has to wait."""
    if action:
        lab.sender.configure(milter_default_action=action)
    shutdown = lab.has("milter_default_action=shutdown")

    with lab.sender.faulty(FilterDown("opendkim")):
        greeting, reply = replies(lab)

    expected = ACTIONS[action or ("shutdown" if shutdown else "tempfail")]
    if action == "shutdown" and not shutdown:
        expected = UNKNOWN
    assert f"connect to Milter service {OPENDKIM}: Connection refused" in complaints(lab)
    assert (greeting, reply) == (expected[0], expected[1] or expected[0])


SOCKET = "/var/spool/postfix/opendkim/opendkim.sock"


def socket_in_the_queue(lab: Lab, umask: str) -> None:
    """Let OpenDKIM listen in the queue directory, where the jail has it, too."""
    opendkim = lab.sender.filter("opendkim")
    opendkim.run("install", "-d", "-o", "opendkim", SOCKET.rpartition("/")[0])
    opendkim.configure(Socket=f"local:{SOCKET}", UMask=umask)


@pytest.mark.parametrize("jailed", ["y", "n"], ids=["in the jail", "outside"])
def test_cure_a_socket_in_the_queue_directory(lab: Lab, jailed: str) -> None:
    """Postfix may use OpenDKIM's socket if the umask lets it; the path is the same in the jail."""
    lab.sender.service(f"smtp inet n - {jailed} - - smtpd")
    lab.sender.configure(smtpd_milters="unix:opendkim/opendkim.sock")
    socket_in_the_queue(lab, "007")
    opendkim = lab.sender.cure.filter("opendkim")
    opendkim.configure(UMask="000")

    assert replies(lab)[1] == "250 2.1.0 Ok"


@pytest.mark.parametrize(
    ("umask", "why"), [("007", "Permission denied"), ("", "No such file or directory")]
)
def test_symptom_a_socket_that_postfix_cannot_use(lab: Lab, umask: str, why: str) -> None:
    """Another user's socket, or none: Postfix names the reason."""
    lab.sender.configure(
        smtpd_milters="unix:opendkim/opendkim.sock", milter_default_action="tempfail"
    )
    socket_in_the_queue(lab, "000")
    opendkim = lab.sender.mistake.filter("opendkim")
    if umask:
        opendkim.configure(UMask=umask)
    else:
        opendkim.run("rm", SOCKET)

    assert replies(lab)[1] == f"451 4.7.1 {LATER}"
    assert f"connect to Milter service unix:opendkim/opendkim.sock: {why}" in complaints(lab)


# Rspamd, which signs and checks.


RSPAMD = "inet:127.0.0.1:11332"


def start_rspamd(lab: Lab) -> None:
    """Let rspamd sign at the sender, with the key that OpenDKIM uses, and check at the receiver."""
    key = "/var/lib/rspamd/mail.private"
    signs = lab.sender.filter("rspamd")
    signs.run("install", "-o", "_rspamd", "-m", "600", "/etc/dkimkeys/mail.private", key)
    domain = f'example.com {{ path = "{key}"; selector = "mail"; }}'
    signs.write("/etc/rspamd/local.d/dkim_signing.conf", f"domain {{ {domain} }}\n")
    signs.start()
    lab.receiver.filter("rspamd").start()
    lab.receiver.configure(smtpd_milters=RSPAMD)


def results(lab: Lab) -> str:
    """Return the results in the header of alice's only message."""
    (copy,) = lab.receiver.mailbox("alice")
    return str(copy["Authentication-Results"])


def test_cure_rspamd_signs(lab: Lab) -> None:
    """A second rspamd, at the receiver, finds the signature valid."""
    start_rspamd(lab)
    lab.sender.configure(**UNSIGNED)
    lab.sender.cure.configure(smtpd_milters=RSPAMD, non_smtpd_milters=RSPAMD)

    mail = sent(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "dkim=pass header.d=example.com header.s=mail" in results(lab)
    assert "dmarc=pass (policy=none) header.from=example.com" in results(lab)
    assert [event.result for event in lab.events(Checked, lab.receiver)] == ["pass"]


def test_symptom_rspamd_cannot_read_the_key(lab: Lab) -> None:
    """Mail passes unsigned. Rspamd logs the reason, and Postfix does not warn."""
    start_rspamd(lab)
    lab.sender.configure(smtpd_milters=RSPAMD, non_smtpd_milters=RSPAMD)
    rspamd = lab.sender.mistake.filter("rspamd")
    rspamd.run("chown", "root:", "/var/lib/rspamd/mail.private")

    mail = sent(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
    assert "dkim=none" in results(lab)
    logged = [event.text for event in lab.events(Event, lab.sender) if event.program == "rspamd"]
    assert [text for text in logged if "mail.private" in text and "Permission denied" in text]
    assert not complaints(lab)


def test_cure_rspamd_refuses_what_a_policy_says(lab: Lab) -> None:
    """A stranger's mail with the domain in From, and a policy of reject."""
    start_rspamd(lab)
    lab.sender.cure.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=reject")

    mail = strangers_newsletter(lab)

    assert mail.rejected(554, "5.7.1", saying="Spam message rejected")
    logged = [event.text for event in lab.events(Event, lab.receiver) if event.program == "rspamd"]
    assert [text for text in logged if "DMARC_POLICY_REJECT" in text]


# Greylisting.


GREYLISTED = "Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/"


def greylists(lab: Lab) -> None:
    """Let the receiver ask postgrey(8), which marks what it has passed."""
    lab.receiver.filter("postgrey").start()
    lab.rewrites("X-Greylist", because="postgrey(8) adds how long it has delayed a message")


def test_symptom_the_first_attempt_is_greylisted(lab: Lab) -> None:
    """The receiver answers 450, and the mail waits for the next attempt."""
    greylists(lab)
    lab.receiver.misconfigure(smtpd_recipient_restrictions=POSTGREY)

    mail = sent(lab)

    assert mail.deferred(dsn="4.2.0", saying=f"450 4.2.0 <alice@example.net>: {GREYLISTED}")


def test_behaviour_mail_passes_greylisting_after_the_delay(lab: Lab) -> None:
    """An attempt after four minutes fails again; one after six passes."""
    greylists(lab)
    lab.receiver.mistake.configure(smtpd_recipient_restrictions=POSTGREY)

    mail = sent(lab)
    lab.clock.advance(minutes=4)
    lab.sender.flush()
    lab.settle(mail)
    early = mail.deferred(dsn="4.2.0", saying=GREYLISTED).now()
    lab.clock.advance(minutes=2)
    lab.sender.flush()
    lab.settle(mail)

    assert early
    assert mail.delivered_to(lab.receiver, mailbox="alice")
    decided = [event.verdict for event in lab.events(Greylisted, lab.receiver)]
    assert decided == ["greylist", "greylist", "pass"]
    (copy,) = lab.receiver.mailbox("alice")
    assert re.match(r"delayed \d+ seconds by postgrey-", copy["X-Greylist"])


def test_symptom_a_policy_service_that_is_down(lab: Lab) -> None:
    """While a policy service is down, mail waits at the sender."""
    greylists(lab)
    lab.receiver.configure(
        smtpd_recipient_restrictions=POSTGREY, smtpd_policy_service_try_limit="1"
    )

    with lab.receiver.faulty(FilterDown("postgrey")):
        mail = sent(lab)

    assert mail.deferred(dsn="4.3.5", saying="Recipient address rejected: Server configuration")


def test_cure_mail_passes_while_the_policy_service_is_down(lab: Lab) -> None:
    """With default_action=DUNNO for this service, mail passes without it."""
    greylists(lab)
    lab.receiver.configure(
        smtpd_recipient_restrictions=POSTGREY, smtpd_policy_service_try_limit="1"
    )
    lab.receiver.cure.configure(
        smtpd_recipient_restrictions="check_policy_service "
        "{ inet:127.0.0.1:10023, default_action=DUNNO }"
    )

    with lab.receiver.faulty(FilterDown("postgrey")):
        mail = sent(lab)

    assert mail.delivered_to(lab.receiver, mailbox="alice")
