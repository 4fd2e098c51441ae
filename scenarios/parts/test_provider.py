"""A provider that relays for those who log in, on ports 587 and 465.

Each scenario shows the provider at work, or one way in which a site fails to use it.
"""

import pytest

from maillab import Accepted, Complaint, Disconnected, Event, Lab, Mail, PostfixHost
from maillab.faults import HostCrashed, SmtpStage

pytestmark = pytest.mark.topology("smarthost")

PROVIDER = "[smtp.provider.example]:587"
RELAY = "[smtp.relay.example]:587"
SUBMISSIONS = "[smtp.provider.example]:465"
CERTIFICATE = "/etc/ssl/maillab/smtp.provider.example.pem"


def relayed(lab: Lab, sender: str | None = None) -> Mail:
    """Send from the office to everybody else; settle."""
    mail = lab.office.send(to="joe@example.net", sender=sender)
    lab.settle(mail)
    return mail


def said(lab: Lab, reply: str) -> str:
    """Return how smtp(8) logs what the provider said to a login."""
    server = f"smtp.provider.example[{lab.provider.address}]"
    return f"SASL authentication failed; server {server} said: {reply}"


def not_verified(lab: Lab) -> str:
    """Return how smtp(8) logs a certificate that it cannot verify."""
    found = "verified" if lab.has("one text for a bad certificate") else "trusted"
    return f"Server certificate not {found}"


def test_behaviour_mail_passes_with_a_login_in_verified_tls(lab: Lab) -> None:
    """The provider's log has the login, and the office has verified its certificate."""
    lab.office.configure(smtp_tls_loglevel="1")

    mail = relayed(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (accepted,) = lab.events(Accepted, lab.provider)
    assert (accepted.program, accepted.sasl_username) == ("postfix/submission/smtpd", "office")
    assert accepted.sasl_method in ("PLAIN", "LOGIN")
    server = f"smtp.provider.example[{lab.provider.address}]:587"
    verified = f"Verified TLS connection established to {server}: TLSv1.3"
    assert [event for event in lab.events(Event, lab.office) if event.text.startswith(verified)]


def test_symptom_a_wrong_password_is_refused_with_535(lab: Lab) -> None:
    """The mail is deferred with the provider's words."""
    lab.office.misconfigure(smtp_sasl_password_maps=f"inline:{{{PROVIDER}=office:guess}}")

    mail = relayed(lab)

    words = said(lab, "535 5.7.8 Error: authentication failed: authentication failure")
    assert mail.deferred(dsn="4.7.8", saying=words)
    assert mail.held_by(lab.office)


def test_cure_the_right_password_sends_what_was_deferred(lab: Lab) -> None:
    """After a flush, the mail that waited for the right password is delivered."""
    lab.office.configure(smtp_sasl_password_maps=f"inline:{{{PROVIDER}=office:guess}}")
    mail = relayed(lab)
    lab.office.cure.configure(smtp_sasl_password_maps=f"inline:{{{PROVIDER}=office:secret}}")

    lab.office.flush()
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.parametrize("key", ["[smtp.provider.example]", "smtp.provider.example:587"])
def test_symptom_a_password_under_another_key_is_not_used(lab: Lab, key: str) -> None:
    """The key is neither the relay host as main.cf has it nor its name: there is no login."""
    lab.office.misconfigure(smtp_sasl_password_maps=f"inline:{{{key}=office:secret}}")

    mail = relayed(lab)

    assert mail.bounced(dsn="5.7.1", saying="Sender address rejected: not logged in")
    assert not lab.events(Accepted, lab.provider)


@pytest.mark.parametrize("key", [PROVIDER, "smtp.provider.example"])
def test_cure_the_key_is_the_relay_host_or_its_name(lab: Lab, key: str) -> None:
    """Each key is enough: the relay host as main.cf has it, or the server's name."""
    lab.office.configure(smtp_sasl_password_maps=f"inline:{{{RELAY}=office:secret}}")
    lab.office.cure.configure(smtp_sasl_password_maps=f"inline:{{{key}=office:secret}}")

    mail = relayed(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")


def test_symptom_without_tls_the_provider_offers_no_login(lab: Lab) -> None:
    """The provider wants STARTTLS before MAIL FROM, and the mail bounces."""
    lab.office.misconfigure(smtp_tls_security_level="none")

    mail = relayed(lab)

    assert mail.bounced(dsn="5.7.0", saying="530 5.7.0 Must issue a STARTTLS command first")


def test_cure_tls_makes_the_provider_offer_a_login(lab: Lab) -> None:
    """Encryption is enough for that; "secure" also verifies who gets the password."""
    lab.office.configure(smtp_tls_security_level="none")
    lab.office.cure.configure(smtp_tls_security_level="encrypt")

    mail = relayed(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")


def default_options(host: PostfixHost) -> str:
    """Return the default of smtp_sasl_security_options."""
    return host.run_tool("postconf", "-dh", "smtp_sasl_security_options").stdout.strip()


def test_symptom_the_default_options_forbid_every_offered_mechanism(lab: Lab) -> None:
    """The default has "noplaintext", even in TLS; the provider offers only PLAIN and LOGIN."""
    lab.office.misconfigure(smtp_sasl_security_options=default_options(lab.office))

    mail = relayed(lab)

    assert mail.deferred(
        dsn="4.7.0",
        saying="SASL authentication failed; cannot authenticate to server "
        f"smtp.provider.example[{lab.provider.address}]: no mechanism available",
    )
    complaints = [event.text for event in lab.events(Complaint, lab.office)]
    assert "SASL authentication failure: No worthy mechs found" in complaints


@pytest.mark.parametrize("option", ["smtp_sasl_security_options", "smtp_sasl_tls_security_options"])
def test_cure_passwords_may_be_sent_in_tls(lab: Lab, option: str) -> None:
    """Either for all sessions, or only for those in TLS."""
    lab.office.configure(smtp_sasl_security_options=default_options(lab.office))
    lab.office.cure.configure(**{option: "noanonymous"})

    mail = relayed(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")


# An address of another login, and the one that replaces it as mail leaves (generic(5)).
ALICE = "alice@provider.example"
AS_OURS = f"inline:{{{ALICE}=alice@example.com}}"


def test_symptom_the_sender_does_not_belong_to_the_login(lab: Lab) -> None:
    """The login may send for example.com, not for another user's address."""
    lab.office.configure(smtp_generic_maps=AS_OURS)
    lab.office.misconfigure(smtp_generic_maps="")

    mail = relayed(lab, sender=ALICE)

    refusal = f"553 5.7.1 <{ALICE}>: Sender address rejected: not owned by user office"
    assert mail.bounced(dsn="5.7.1", saying=refusal)


def test_cure_the_sender_is_rewritten_to_an_address_of_the_login(lab: Lab) -> None:
    """smtp_generic_maps replaces it as mail leaves."""
    lab.office.cure.configure(smtp_generic_maps=AS_OURS)

    mail = relayed(lab, sender=ALICE)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<alice@example.com>"


def test_symptom_a_certificate_of_an_unknown_authority(lab: Lab) -> None:
    """The password is not sent: mail waits for a provider that can be verified."""
    lab.office.misconfigure(smtp_tls_CAfile="")

    mail = relayed(lab)

    assert mail.deferred(dsn="4.7.5", saying=not_verified(lab))
    (left,) = lab.events(Disconnected, lab.provider)
    assert "starttls" in left.counts
    assert "auth" not in left.counts


def ten_years_later(lab: Lab) -> None:
    """Move the clock past the end of all certificates, but not of their authority's own."""
    lab.clock.advance(days=3650)
    lab.clock.advance(days=2)


def test_symptom_an_expired_certificate_is_not_accepted(lab: Lab) -> None:
    """Ten years later the provider still has the certificate of today: mail waits."""
    today = lab.provider.read(CERTIFICATE) or ""
    ten_years_later(lab)
    lab.provider.run("sh", "/opt/maillab/certify.sh")
    lab.provider.mistake.write(CERTIFICATE, today)
    lab.provider.reload()

    mail = relayed(lab)

    assert mail.deferred(dsn="4.7.5", saying=not_verified(lab))
    expired = "certificate has expired"
    assert [event for event in lab.events(Event, lab.office) if expired in event.text]


def test_cure_the_certificate_is_renewed(lab: Lab) -> None:
    """The mail that waited is delivered after a renewal and a reload."""
    ten_years_later(lab)
    mail = relayed(lab)
    waited = mail.deferred(dsn="4.7.5").now()
    lab.provider.cure.run("sh", "/opt/maillab/certify.sh")
    lab.provider.cure.reload()

    lab.office.flush()
    lab.settle(mail)

    assert waited
    assert mail.delivered_to(lab.remote, mailbox="joe")


def use_port_465(lab: Lab) -> None:
    """Send through the provider's port 465, where TLS begins before the first reply."""
    lab.office.configure(
        relayhost=SUBMISSIONS,
        smtp_sasl_password_maps=f"inline:{{{SUBMISSIONS}=office:secret}}",
        smtp_tls_wrappermode="yes",
        # The mail settles without wrapper mode, too; far longer than a greeting takes.
        smtp_helo_timeout="10s",
    )


def test_symptom_port_465_speaks_tls_from_the_first_byte(lab: Lab) -> None:
    """Without smtp_tls_wrappermode smtp(8) waits for a greeting that never comes."""
    use_port_465(lab)
    lab.office.configure(smtp_helo_timeout="2s")
    lab.office.misconfigure(smtp_tls_wrappermode="no")

    mail = relayed(lab)

    waited = "timed out while receiving the initial server greeting"
    assert mail.deferred(dsn="4.4.2", saying=waited)


def test_cure_wrapper_mode_uses_port_465(lab: Lab) -> None:
    """With smtp_tls_wrappermode smtp(8) starts with TLS."""
    use_port_465(lab)
    lab.office.configure(smtp_tls_wrappermode="no")
    lab.office.cure.configure(smtp_tls_wrappermode="yes")

    mail = relayed(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (accepted,) = lab.events(Accepted, lab.provider)
    assert (accepted.program, accepted.sasl_username) == ("postfix/submissions/smtpd", "office")


def test_behaviour_each_sender_has_a_provider_and_a_login(lab: Lab) -> None:
    """sender_dependent_relayhost_maps chooses the provider; the password goes by the sender."""
    lab.office.cure.configure(
        smtp_sender_dependent_authentication="yes",
        sender_dependent_relayhost_maps=f"inline:{{bob@relay.example={RELAY}}}",
        smtp_sasl_password_maps="inline:{bob@relay.example=bob:secret, "
        f"{PROVIDER}=office:secret}}",
    )

    office = lab.office.send(to="joe@example.net")
    bob = lab.office.send(to="joe@example.net", sender="bob@relay.example")
    lab.settle(office, bob)

    assert office.delivered_to(lab.remote, mailbox="joe")
    assert bob.delivered_to(lab.remote, mailbox="joe")
    logins = {
        host.name: [event.sasl_username for event in lab.events(Accepted, host)]
        for host in (lab.provider, lab.relay)
    }
    assert logins == {"provider": ["office"], "relay": ["bob"]}


def test_symptom_a_rate_limit_puts_mail_off(lab: Lab) -> None:
    """The provider takes one message a minute from each client (anvil(8))."""
    lab.provider.misconfigure(
        smtpd_client_message_rate_limit="1", smtpd_client_event_limit_exceptions=""
    )

    first = relayed(lab)
    second = relayed(lab)

    assert first.delivered_to(lab.remote, mailbox="joe")
    assert second.deferred(dsn="4.7.1", saying="Error: too much mail from")


def test_symptom_a_provider_that_is_down(lab: Lab) -> None:
    """The provider's host refuses connections; after its restart a flush delivers."""
    with lab.provider.faulty(HostCrashed()):
        mail = relayed(lab)

    assert mail.deferred(dsn="4.4.1", saying="587: Connection refused")
    lab.office.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.remote, mailbox="joe")


# The replies of the big providers.


def use(lab: Lab, port: int) -> None:
    """Send through this port of the provider."""
    lab.office.configure(smtp_tls_loglevel="1")
    if port == 465:
        use_port_465(lab)


def after_the_fault(lab: Lab, mail: Mail) -> bool:
    """Return True if a flush delivers the mail, now that the provider refuses no more."""
    lab.office.flush()
    lab.settle(mail)
    return bool(mail.delivered_to(lab.remote, mailbox="joe"))


GOOGLE = "535-5.7.8 Username and Password not accepted."
BAD_CREDENTIALS = "535 5.7.8  https://support.google.com/mail/?p=BadCredentials - gsmtp"
MICROSOFT = "535 5.7.139 Authentication unsuccessful, basic authentication is disabled."
PORTS = pytest.mark.parametrize("port", [587, 465])


@PORTS
@pytest.mark.parametrize(
    "reply", [f"{GOOGLE}\n{BAD_CREDENTIALS}", MICROSOFT], ids=["Google", "Microsoft"]
)
def test_symptom_a_big_provider_refuses_the_password(lab: Lab, port: int, reply: str) -> None:
    """The mail waits, and its log line has the provider's words, each line after the other."""
    use(lab, port)

    with lab.provider.faulty(SmtpStage("AUTH", reply=reply, port=port)):
        mail = relayed(lab)

    dsn = "4.7.8" if reply.startswith(GOOGLE) else "4.7.139"
    # Postfix logs a line end as "?".
    assert mail.deferred(dsn=dsn, saying=said(lab, reply.replace("\n", "?")))
    assert after_the_fault(lab, mail)


@pytest.mark.parametrize("soft", ["yes", "no"])
def test_symptom_a_refused_password_bounces_only_by_request(lab: Lab, soft: str) -> None:
    """smtp_sasl_auth_soft_bounce is on by default."""
    lab.office.configure(smtp_sasl_auth_soft_bounce=soft)

    with lab.provider.faulty(SmtpStage("AUTH", reply=MICROSOFT, port=587)):
        mail = relayed(lab)

    assert mail.deferred(dsn="4.7.139") if soft == "yes" else mail.bounced(dsn="5.7.139")


@PORTS
def test_symptom_the_login_may_not_send_as_this_sender(lab: Lab, port: int) -> None:
    """Exchange Online says so after the message, and the mail bounces."""
    use(lab, port)
    words = "550 5.7.60 SMTP; Client does not have permissions to send as this sender"

    with lab.provider.faulty(SmtpStage("end of data", reply=words, port=port)):
        mail = relayed(lab)

    assert mail.bounced(dsn="5.7.60", saying=f"said: {words} (in reply to end of DATA command)")


@pytest.mark.parametrize("stage", ["EHLO", "MAIL", "RCPT", "DATA"])
@PORTS
def test_symptom_the_provider_puts_the_session_off(lab: Lab, port: int, stage: str) -> None:
    """421 at any stage in TLS ends the session; the mail waits."""
    use(lab, port)
    words = "421 4.7.0 Temporary System Problem. Try again later (10)."
    # After STARTTLS, a session has a second EHLO.
    second = int(stage == "EHLO" and port == 587)

    with lab.provider.faulty(SmtpStage(stage, reply=words, port=port, after=second)):  # type: ignore[arg-type]  # parametrized
        mail = relayed(lab)

    assert mail.deferred(dsn="4.7.0", saying=words)
    assert after_the_fault(lab, mail)


def test_symptom_the_provider_wants_starttls_first(lab: Lab) -> None:
    """Its words come in clear text, and the mail bounces."""
    lab.office.configure(smtp_tls_security_level="none")
    words = "530 5.7.0 Must issue a STARTTLS command first. - gsmtp"

    with lab.provider.faulty(SmtpStage("MAIL", reply=words, port=587)):
        mail = relayed(lab)

    assert mail.bounced(dsn="5.7.0", saying=words)


def test_symptom_the_provider_wants_a_login(lab: Lab) -> None:
    """Without a login Exchange Online refuses the sender, in TLS."""
    lab.office.configure(smtp_sasl_auth_enable="no")
    words = "530 5.7.57 Client not authenticated to send mail."

    with lab.provider.faulty(SmtpStage("MAIL", reply=words, port=587)):
        mail = relayed(lab)

    assert mail.bounced(dsn="5.7.57", saying=words)


def test_symptom_the_provider_has_no_tls_for_now(lab: Lab) -> None:
    """The password is not sent in clear text: the mail waits."""
    words = "454 4.7.0 TLS not available due to local problem"

    with lab.provider.faulty(SmtpStage("STARTTLS", reply=words, port=587)):
        mail = relayed(lab)

    assert mail.deferred(dsn="4.7.0", saying=f"refused to start TLS: {words}")
    assert after_the_fault(lab, mail)


@pytest.mark.parametrize("then", ["close", "reset", "silence"])
@PORTS
def test_symptom_the_provider_goes_away_during_the_login(lab: Lab, port: int, then: str) -> None:
    """Postfix names the end, but not AUTH."""
    use(lab, port)
    lab.office.configure(smtp_helo_timeout="2s")

    with lab.provider.faulty(SmtpStage("AUTH", then=then, port=port)):  # type: ignore[arg-type]  # parametrized
        mail = relayed(lab)

    assert mail.deferred(dsn="4.4.2", saying="while")
    assert after_the_fault(lab, mail)
