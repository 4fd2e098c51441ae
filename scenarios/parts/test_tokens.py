"""A provider that wants a token instead of a password: XOAUTH2.

The provider's smtpd(8) asks Dovecot, which asks the token endpoint about each token. No Debian
release has a SASL plugin by which smtp(8) can send one (sasl-xoauth2 is not packaged, and
libsasl2-modules-kdexoauth2 expects other callbacks), so a client of the lab's logs in.
"""

from __future__ import annotations

import pytest

from maillab import Accepted, Complaint, Event, Lab, message, oauth2, sasl
from maillab.faults import FilterDown

pytestmark = pytest.mark.topology("smarthost")

AUTHORITY = "/etc/ssl/maillab-authority/authority.pem"
ENDPOINT = "https://smtp.provider.example"
REFRESH_TOKEN = "refresh-office"  # noqa: S105  # of no real account
INVALID = (535, "5.7.8 Error: authentication failed:")


def tokens_only(lab: Lab) -> dict[str, str]:
    """Start the provider's login by token; return the settings that offer nothing else."""
    lab.provider.filter("oauth2").start()
    return sasl.xoauth2(lab.provider, f"{ENDPOINT}/introspect", AUTHORITY)


def renewed(lab: Lab, refresh_token: str = REFRESH_TOKEN) -> oauth2.Token:
    """Ask for an access token."""
    return oauth2.renew(lab.office, f"{ENDPOINT}/token", refresh_token, AUTHORITY)


def login(lab: Lab, secret: str, mechanism: str = "XOAUTH2") -> tuple[int, str]:
    """Return the provider's reply to a login at port 587, and the first words of its text."""
    with lab.office.session(lab.provider, port=587) as session:
        session.ehlo()
        session.starttls()
        session.ehlo()
        reply = session.auth("office", secret, mechanism)
        return reply.code, reply.text[: len(INVALID[1])]


def endpoint(lab: Lab) -> list[str]:
    """Return what the token endpoint has logged."""
    return [event.text for event in lab.events(Event, lab.provider) if event.program == "oauth2"]


def test_behaviour_a_token_takes_the_place_of_the_password(lab: Lab) -> None:
    """The provider's log has the mechanism, and the token's user."""
    lab.provider.cure.configure(**tokens_only(lab))
    token = renewed(lab)
    with lab.office.session(lab.provider, port=587) as session:
        session.ehlo()
        session.starttls()
        session.ehlo()
        reply = session.auth("office", token.access_token, "XOAUTH2")
        assert reply.code == 235
        sender = "bob@example.com"
        mail = session.send(message.compose(sender=sender, recipients=["joe@example.net"]))
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (accepted,) = lab.events(Accepted, lab.provider)
    assert (accepted.sasl_method, accepted.sasl_username) == ("XOAUTH2", "office")


def test_symptom_a_password_is_refused(lab: Lab) -> None:
    """The provider has no password of anybody: "basic authentication is disabled"."""
    lab.provider.misconfigure(**tokens_only(lab))
    token = renewed(lab)

    assert login(lab, "secret", "PLAIN")[0] == 535
    assert login(lab, "secret")[0] == 535
    assert login(lab, token.access_token)[0] == 235


def test_symptom_postfix_has_no_mechanism_in_common(lab: Lab) -> None:
    """Without a plugin for XOAUTH2, smtp(8) cannot log in, and the mail waits."""
    lab.provider.misconfigure(**tokens_only(lab))

    mail = lab.office.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.deferred(dsn="4.7.0", saying="no mechanism available")
    complaints = [event.text for event in lab.events(Complaint, lab.office)]
    assert "SASL authentication failure: No worthy mechs found" in complaints


def test_symptom_the_token_has_expired(lab: Lab) -> None:
    """A token that no program renews is refused like a wrong password; a new one is good."""
    lab.provider.configure(**tokens_only(lab))
    lab.provider.mistake.filter("oauth2").configure(Lifetime_s="60")
    token = renewed(lab)
    lab.clock.advance(minutes=30)

    assert login(lab, token.access_token) == INVALID
    assert '/introspect: 200 {"active": false, "reason": "expired"}' in endpoint(lab)
    assert login(lab, renewed(lab).access_token)[0] == 235


def test_symptom_the_token_endpoint_is_down(lab: Lab) -> None:
    """No token is renewed, and the provider cannot judge those that are still good."""
    lab.provider.configure(**tokens_only(lab))
    token = renewed(lab)

    with lab.provider.faulty(FilterDown("oauth2")):
        refused = renewed(lab)
        code, _ = login(lab, token.access_token)

    assert "Connection refused" in refused.error
    assert code != 235
    assert login(lab, token.access_token)[0] == 235


def test_symptom_the_refresh_token_is_revoked(lab: Lab) -> None:
    """The token endpoint answers invalid_grant; the last access token lives on for its hour."""
    lab.provider.configure(**tokens_only(lab))
    token = renewed(lab)
    lab.provider.mistake.filter("oauth2").configure(RefreshTokens="another=office")

    refused = renewed(lab)

    assert refused.error == "invalid_grant"
    assert login(lab, token.access_token)[0] == 235


def test_cure_a_new_consent_gives_a_new_refresh_token(lab: Lab) -> None:
    """With it, the next renewal succeeds."""
    lab.provider.configure(**tokens_only(lab))
    lab.provider.filter("oauth2").configure(RefreshTokens="none=none")
    lab.provider.cure.filter("oauth2").configure(RefreshTokens="another=office")

    token = renewed(lab, "another")

    assert token.error == ""
    assert login(lab, token.access_token)[0] == 235
