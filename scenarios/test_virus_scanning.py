"""Scanning mail for viruses.

Scan before the queue, with a Milter (smtpd_milters) or smtpd_proxy_filter: the client itself
gets the refusal. A filter after the queue (content_filter) scans mail that is already
accepted, so a rejected message goes back to a sender that may be forged. mailbox_command and
mailbox_transport scan local deliveries only.

The scanner here is a program that looks for a test string. In the last part it is a real
clamd, which also finds encoded content; body_checks cannot.

Since the FAQ:
- 1.0: content_filter scans all mail that passes the queue.
- 2.1: smtpd_proxy_filter.
- 2.3: Milters.
- 3.0: braces give each Milter its own settings.
"""

import base64

import pytest

from maillab import Complaint, Event, Lab, Mail

pytestmark = pytest.mark.topology("standalone")

VIRUS = "Maillab.Test"
STRING = "MAILLAB-EICAR-TEST-STRING"
INFECTED = f"infected: {VIRUS}"
SCANNER = "/usr/bin/python3 /opt/maillab/virusscan.py"
LISTENS = "127.0.0.1:10025 inet n n n - 10 spawn user=vscan argv="
BACK = (
    "127.0.0.1:10026 inet n - n - 10 smtpd -o content_filter= -o smtpd_proxy_filter="
    " -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters"
    " -o smtpd_relay_restrictions=permit_mynetworks,reject"
    " -o smtpd_recipient_restrictions=permit_mynetworks,reject"
    " -o mynetworks=127.0.0.0/8 -o smtpd_authorized_xforward_hosts=127.0.0.0/8"
)
SCAN = (
    "scan unix - - n - 10 smtp -o smtp_send_xforward_command=yes -o smtp_dns_support_level=disabled"
)
SMTP = "smtp inet n - n - - smtpd"
BEFORE = f"{SMTP} -o smtpd_proxy_filter=127.0.0.1:10025"
AFTER = {
    "content_filter": "scan:[127.0.0.1]:10025",
    "receive_override_options": "no_address_mappings",
}
NO_FILTER = {"content_filter": "", "receive_override_options": ""}
MILTER = "127.0.0.1:9999 inet n n n - - spawn user=vscan argv="


def scanner(lab: Lab, *options: str) -> None:
    """Set up the filter on port 10025 and its return path, not used by any service yet."""
    lab.mail.user("vscan")
    lab.mail.service(" ".join((f"{LISTENS}{SCANNER} relay 127.0.0.1 10026", *options)))
    lab.mail.service(BACK)
    lab.mail.service(SCAN)
    lab.rewrites("X-Scanned", because="the scanner marks what it has passed")


def send_both(lab: Lab, to: str = "alice@example.com") -> tuple[Mail, Mail]:
    """Send one message without and one with the test string."""
    clean = lab.client.smtp(to, server=lab.mail, sender="joe@example.net")
    infected = lab.client.smtp(to, server=lab.mail, sender="joe@example.net", body=STRING)
    lab.settle(clean, infected)
    return clean, infected


# At local delivery.


@pytest.mark.faq("virus-scanning", "45-S1")
def test_cure_mailbox_command_scans_what_is_delivered(lab: Lab) -> None:
    """A program that exits with 77 returns the message, with its output as the reason."""
    lab.mail.write(
        "/usr/local/bin/scan-mbox",
        f'#!/bin/sh\n{SCANNER} file <"$1" || exit\ncat "$1" >>"$HOME/Mailbox"\n',
        mode=0o755,
    )
    lab.mail.write(
        "/usr/local/bin/deliver",
        '#!/bin/sh\ncat >"$HOME/new.$$"; /usr/local/bin/scan-mbox "$HOME/new.$$"; status=$?\n'
        'rm "$HOME/new.$$"; exit $status\n',
        mode=0o755,
    )
    lab.mail.cure.configure(mailbox_command="/usr/local/bin/deliver")

    clean, infected = send_both(lab)

    assert infected.bounced(dsn="5.7.1", saying=INFECTED)
    assert clean.delivered_to(lab.mail, mailbox="alice")
    assert not infected.delivered_to(lab.mail, mailbox="alice")
    (notice,) = lab.remote.mailbox("joe")
    assert INFECTED in str(notice)


PIPED = (
    "foo unix - n n - - pipe flags=FRX user=vscan argv=/usr/local/bin/scan-pipe ${user} ${sender}"
)


def piped(lab: Lab) -> None:
    """Set up a scanner that delivers to its own mailboxes as user vscan."""
    lab.mail.run("install", "-d", "-o", "vscan", "/var/vmail")
    lab.mail.write(
        "/usr/local/bin/scan-pipe",
        f"#!/bin/sh\ncat >/tmp/scan.$$\n{SCANNER} file </tmp/scan.$$ || exit\n"
        'cat /tmp/scan.$$ >>"/var/vmail/$1"\n',
        mode=0o755,
    )
    lab.mail.service(PIPED)
    lab.mail.configure(foo_destination_recipient_limit="1")


@pytest.mark.faq("virus-scanning", "45-S2")
def test_cure_mailbox_transport_scans_what_is_delivered(lab: Lab) -> None:
    """Aliases are expanded first; root's mail is delivered as the same user as other mail."""
    lab.mail.user("vscan")
    piped(lab)
    lab.mail.aliases({"info": "alice"})
    lab.mail.cure.configure(mailbox_transport="foo")

    clean, infected = send_both(lab, "info@example.com")
    root = lab.client.smtp("root@example.com", server=lab.mail)
    lab.settle(root)

    assert infected.bounced(dsn="5.7.1", saying=INFECTED)
    assert clean.delivered_to(lab.mail, mailbox="alice")
    passing = "passing <alice@mail.example.com> to transport=foo"
    logged = [event.text for event in lab.events(Event, lab.mail)]
    assert logged.count(passing) == (2 if lab.has("passing to transport logged") else 0)
    assert root.delivered_to(lab.mail, mailbox="root")
    assert lab.mail.run("stat", "-c", "%U", "/var/vmail/root").stdout == "vscan\n"


@pytest.mark.faq("virus-scanning", "45-S2")
def test_symptom_mailbox_transport_does_not_scan_what_is_relayed(lab: Lab) -> None:
    """Only local deliveries are scanned; a virus for another domain passes."""
    scanner(lab)
    piped(lab)
    lab.mail.configure(**AFTER)
    lab.mail.misconfigure(mailbox_transport="foo", **NO_FILTER)

    mail = lab.mail.send(to="joe@example.net", body=STRING)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


# After the queue.


@pytest.mark.faq("virus-scanning", "45-S3")
@pytest.mark.parametrize("to", ["alice@example.com", "joe@example.net"], ids=["here", "relayed"])
def test_cure_content_filter_scans_everything(lab: Lab, to: str) -> None:
    """Local submissions and relayed mail are scanned: in under one queue id, out under another."""
    scanner(lab)
    lab.mail.configure(**NO_FILTER)
    lab.mail.cure.configure(**AFTER)

    clean = lab.mail.send(to=to, user="carol")
    infected = lab.mail.send(to=to, user="carol", body=STRING)
    lab.settle(clean, infected)

    assert infected.bounced(dsn="5.7.1", saying=f"said: 550 5.7.1 {INFECTED}")
    user, _, domain = to.partition("@")
    place = lab.mail if domain == "example.com" else lab.remote
    assert clean.delivered_to(place, mailbox=user)
    (copy,) = place.mailbox(user)
    assert copy["X-Scanned"] == "by the lab's scanner"
    assert len({leg.queue_id for leg in clean.journey.legs if leg.host == "mail"}) == 2
    (notice,) = lab.mail.mailbox("carol")
    assert INFECTED in str(notice)


@pytest.mark.faq("virus-scanning", "45-S3")
def test_symptom_content_filter_returns_viruses_to_whoever_is_named(lab: Lab) -> None:
    """The client already has its 250; the bounce goes to a sender that may be forged."""
    scanner(lab)
    lab.mail.configure(**NO_FILTER)
    lab.mail.service(BEFORE)
    lab.mail.mistake.service(SMTP)
    lab.mail.misconfigure(**AFTER)

    mail = lab.client.smtp(
        "alice@example.com", server=lab.mail, sender="joe@example.net", body=STRING
    )
    lab.settle(mail)

    assert not mail.rejected()
    assert mail.bounced(dsn="5.7.1", saying=INFECTED)
    (notice,) = lab.remote.mailbox("joe")
    assert INFECTED in str(notice)


@pytest.mark.faq("virus-scanning", "45-S3")
def test_behaviour_mail_waits_for_a_scanner_that_is_down(lab: Lab) -> None:
    """No mail passes unscanned: it is deferred, and leaves once the scanner is back."""
    scanner(lab)
    lab.mail.configure(**AFTER)
    lab.mail.mistake.no_service("127.0.0.1:10025/inet")

    mail = lab.client.smtp("alice@example.com", server=lab.mail)
    lab.settle(mail)
    assert mail.deferred(
        dsn="4.4.1", saying="connect to 127.0.0.1[127.0.0.1]:10025: Connection refused"
    )

    lab.mail.service(f"{LISTENS}{SCANNER} relay 127.0.0.1 10026")
    lab.mail.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("virus-scanning", "45-S3")
def test_symptom_without_no_address_mappings_everything_is_mapped_twice(lab: Lab) -> None:
    """always_bcc is applied before the filter and again after it."""
    scanner(lab)
    lab.mail.configure(always_bcc="carol", **AFTER)
    lab.mail.misconfigure(receive_override_options="")
    if lab.withheld != "faults":
        lab.expects(duplicated=1, because="each of the two passes adds a blind copy")

    mail = lab.client.smtp("alice@example.com", server=lab.mail)
    lab.settle(mail)

    assert len(lab.mail.mailbox("carol")) == 2


# Before the queue.


@pytest.mark.faq("virus-scanning", "45-S4")
def test_cure_the_proxy_filter_lets_the_client_hear_it(lab: Lab) -> None:
    """With smtpd_proxy_filter the refusal is the reply to the end of data."""
    scanner(lab)
    lab.mail.service(SMTP)
    lab.mail.cure.service(BEFORE)

    clean, infected = send_both(lab)

    assert infected.rejected(550, "5.7.1", saying=INFECTED)
    assert not infected.bounced()
    assert clean.delivered_to(lab.mail, mailbox="alice")
    (copy,) = lab.mail.mailbox("alice")
    assert copy["X-Scanned"] == "by the lab's scanner"
    assert "queued as" in clean.submission.reply
    logged = [event.text for event in lab.events(Event, lab.mail)]
    assert [t.partition(":")[0] for t in logged if t.startswith("proxy-")] == [
        "proxy-accept", "proxy-reject",
    ]  # fmt: skip
    assert lab.remote.mailbox("joe") == []


@pytest.mark.faq("virus-scanning", "45-S4")
def test_cure_a_milter_lets_the_client_hear_it(lab: Lab) -> None:
    """A Milter's refusal is also the reply to the end of data."""
    lab.mail.user("vscan")
    lab.mail.service(f"{MILTER}{SCANNER} milter")
    lab.mail.cure.configure(smtpd_milters="inet:127.0.0.1:9999")

    clean, infected = send_both(lab)

    assert infected.rejected(550, "5.7.1", saying=INFECTED)
    assert clean.delivered_to(lab.mail, mailbox="alice")
    assert not infected.bounced()
    assert lab.remote.mailbox("joe") == []


@pytest.mark.faq("virus-scanning", "45-S4")
def test_behaviour_a_milter_may_throw_it_away(lab: Lab) -> None:
    """With "discard" the client gets a 250 and the message is never delivered."""
    lab.mail.user("vscan")
    lab.mail.service(f"{MILTER}{SCANNER} milter --discard")
    lab.mail.cure.configure(smtpd_milters="inet:127.0.0.1:9999")
    lab.expects(discarded=1, because="the Milter discards the infected message")

    _, infected = send_both(lab)

    assert not infected.rejected()
    assert not infected.bounced()
    assert len(lab.mail.mailbox("alice")) == 1
    assert [leg.discarded for leg in infected.journey.legs] == [True]


def refusals(lab: Lab) -> tuple[str, str]:
    """Return the replies to a client's connection and to its MAIL FROM."""
    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.mail("joe@example.net")
        return str(session.greeting), str(session.replies[-1][1])


@pytest.mark.faq("virus-scanning", "45-S4")
def test_symptom_mail_has_to_wait_while_a_milter_is_down(lab: Lab) -> None:
    """By default newer releases refuse in the greeting, older ones at MAIL FROM."""
    lab.mail.configure(smtpd_banner="$myhostname ESMTP")
    lab.mail.misconfigure(smtpd_milters="inet:127.0.0.1:9999")

    later = "Service unavailable - try again later"
    if lab.has("milter_default_action=shutdown"):
        assert refusals(lab) == (f"421 mail.example.com {later}",) * 2
    else:
        assert refusals(lab) == ("220 mail.example.com ESMTP", f"451 4.7.1 {later}")


@pytest.mark.faq("virus-scanning", "45-S4")
def test_symptom_mail_is_refused_while_a_milter_is_down(lab: Lab) -> None:
    """With default_action=reject for this Milter Postfix refuses every session."""
    lab.mail.misconfigure(smtpd_milters="{ inet:127.0.0.1:9999, default_action=reject }")

    greeting, _ = refusals(lab)

    assert greeting == "554 mail.example.com ESMTP not accepting connections"


@pytest.mark.faq("virus-scanning", "45-S4")
def test_symptom_mail_passes_unscanned_while_a_milter_is_down(lab: Lab) -> None:
    """milter_default_action=accept delivers mail unscanned and logs a warning."""
    lab.mail.configure(smtpd_milters="inet:127.0.0.1:9999")
    lab.mail.misconfigure(milter_default_action="accept")

    mail = lab.client.smtp("alice@example.com", server=lab.mail, body=STRING)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert "connect to Milter service inet:127.0.0.1:9999: Connection refused" in [
        event.text for event in lab.events(Complaint, lab.mail)
    ]


# A real scanner.


ENCODED = base64.b64encode(f"A harmless file with a {STRING} in it.\n".encode()).decode()
AS_BASE64 = {
    "MIME-Version": "1.0",
    "Content-Type": "application/octet-stream",
    "Content-Transfer-Encoding": "base64",
}


@pytest.mark.topology("scanner")
@pytest.mark.faq("virus-scanning", "45-S4")
def test_symptom_body_checks_do_not_see_what_is_encoded(lab: Lab) -> None:
    """A pattern is not a scanner: the same bytes in Base64 pass it."""
    scanner(lab, "--clamd", f"{lab.scanner.address}:3310")
    lab.mail.service(BEFORE)
    lab.mail.mistake.service(SMTP)
    pattern = lab.mail.table("viruses", f"/{STRING}/ REJECT virus\n", kind="regexp")
    lab.mail.configure(body_checks=pattern)

    plain = lab.client.smtp("alice@example.com", server=lab.mail, body=STRING)
    encoded = lab.client.smtp("alice@example.com", server=lab.mail, body=ENCODED, headers=AS_BASE64)
    lab.settle(plain, encoded)

    assert plain.rejected(550, "5.7.1", saying="virus")
    assert encoded.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.topology("scanner")
@pytest.mark.faq("virus-scanning", "45-S3", "45-S4")
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("form", ["plain", "base64"])
def test_cure_clamd_scans_before_or_after_the_queue(lab: Lab, where: str, form: str) -> None:
    """A scanner on another host, with our own signature, finds both forms."""
    scanner(lab, "--clamd", f"{lab.scanner.address}:3310")
    body, headers = (STRING, {}) if form == "plain" else (ENCODED, AS_BASE64)
    if where == "before":
        lab.mail.cure.service(BEFORE)
    else:
        lab.mail.cure.configure(**AFTER)

    clean = lab.client.smtp("alice@example.com", server=lab.mail)
    infected = lab.client.smtp(
        "alice@example.com", server=lab.mail, sender="joe@example.net", body=body, headers=headers
    )
    lab.settle(clean, infected)

    if where == "before":
        assert infected.rejected(550, "5.7.1", saying=INFECTED)
    else:
        assert infected.bounced(dsn="5.7.1", saying=f"said: 550 5.7.1 {INFECTED}")
    assert clean.delivered_to(lab.mail, mailbox="alice")
    assert len(lab.mail.mailbox("alice")) == 1
