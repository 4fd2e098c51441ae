"""Relaying mail for mobile users.

Users on the road send from addresses that nobody knows beforehand, and a mail
server relays for strangers as little as anybody's. The FAQ weighed three ways:
trust by address, name or sender, each as weak as what it believes; POP before
SMTP, where reading one's mail opens the way for a while; and a login of its own,
SASL, which was a patch then. The login has won: AUTH is built in, Cyrus SASL or
Dovecot (since 2.3) check the password, permit_sasl_authenticated is part of the
default smtpd_relay_restrictions since 2.10, and users have a service of their
own, submission (RFC 6409). The other ways still work, but only where relaying is
decided: since 2.10 a table in smtpd_recipient_restrictions grants nothing.
"""

from collections.abc import Callable

import pytest

from maillab import sasl
from maillab.faults import ForeignPtr
from maillab.lab import Lab
from maillab.maillog import Accepted, Complaint
from maillab.message import compose

pytestmark = pytest.mark.topology("standalone")

PASSWORDS = {"joe": "secret"}
JOE = ("joe", "secret")
NO_RELAY = "<joe@example.net>: Relay access denied"

# A service for users: nobody without TLS and a login.
SUBMISSION = (
    "submission inet n - n - - smtpd -o smtpd_tls_security_level=encrypt"
    " -o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
)

either = pytest.mark.parametrize(
    "passwords_by", [sasl.cyrus, sasl.dovecot], ids=["cyrus", "dovecot"]
)
Backend = Callable[..., dict[str, str]]


@pytest.mark.faq("mobile-users", "15a")
def test_symptom_a_user_on_the_road_is_a_stranger(lab: Lab) -> None:
    """Out of the box nobody may relay, and nobody is asked for a password."""
    lab.mail.configure(**sasl.cyrus(lab.mail, PASSWORDS))
    lab.mail.misconfigure(smtpd_sasl_auth_enable="no")

    stranger = lab.client.submit("joe@example.net", server=lab.mail)
    user = lab.client.submit("joe@example.net", server=lab.mail, login=JOE)
    lab.settle(stranger, user)

    assert stranger.rejected(454, "4.7.1", saying=NO_RELAY)
    assert user.rejected(503, "5.5.1", saying="Error: authentication not enabled")
    assert not user.reached(lab.remote)


@pytest.mark.faq("mobile-users", "15b")
@either
def test_cure_a_login_opens_the_way(lab: Lab, passwords_by: Backend) -> None:
    """Who logs in may relay; the log says who it was, the next host that it was somebody."""
    lab.mail.cure.configure(**passwords_by(lab.mail, PASSWORDS))

    user = lab.client.submit("joe@example.net", server=lab.mail, login=JOE)
    stranger = lab.client.submit("joe@example.net", server=lab.mail)
    lab.settle(user, stranger)

    assert user.delivered_to(lab.remote, mailbox="joe")
    assert stranger.rejected(454, "4.7.1", saying=NO_RELAY)
    (accepted,) = lab.events(Accepted, lab.mail)
    assert (accepted.sasl_method, accepted.sasl_username) == ("PLAIN", "joe")
    (copy,) = lab.remote.mailbox("joe")
    assert "by mail.example.com (Postfix) with ESMTPA id" in str(copy)
    assert "Authenticated sender" not in str(copy)


@pytest.mark.faq("mobile-users", "15b")
@either
def test_behaviour_auth_is_offered_and_wants_the_right_password(
    lab: Lab, passwords_by: Backend
) -> None:
    """A wrong password is refused for good, and the right one may follow by either mechanism."""
    lab.mail.configure(**passwords_by(lab.mail, PASSWORDS))

    with lab.client.session(lab.mail) as session:
        offered = session.ehlo().text.splitlines()
        wrong = session.auth("joe", "guess")
        nobody = session.auth("nosuch", "guess")
        right = session.auth("joe", "secret", "LOGIN")
        relay = [session.mail("joe@example.com"), session.rcpt("joe@example.net")]

    assert "AUTH PLAIN LOGIN" in offered
    reason = "authentication failure" if passwords_by is sasl.cyrus else "(reason unavailable)"
    for refusal in (wrong, nobody):
        assert str(refusal) == f"535 5.7.8 Error: authentication failed: {reason}"
    assert str(right) == "235 2.7.0 Authentication successful"
    assert [reply.code for reply in relay] == [250, 250]


@pytest.mark.faq("mobile-users", "15b")
def test_behaviour_the_header_may_tell_who_it_was(lab: Lab) -> None:
    """smtpd_sasl_authenticated_header writes the login into Received for all to read."""
    lab.mail.configure(**sasl.cyrus(lab.mail, PASSWORDS), smtpd_sasl_authenticated_header="yes")

    mail = lab.client.submit("joe@example.net", server=lab.mail, login=JOE)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert "(Authenticated sender: joe)" in str(copy)


@pytest.mark.faq("mobile-users", "15b")
def test_symptom_the_password_travels_in_clear(lab: Lab) -> None:
    """Without TLS, AUTH PLAIN tells it to everybody on the way."""
    lab.mail.configure(
        **sasl.cyrus(lab.mail, PASSWORDS),
        **lab.authority.certify(lab.mail),
        smtpd_tls_auth_only="yes",
    )
    lab.mail.misconfigure(smtpd_tls_auth_only="no")

    with lab.client.session(lab.mail) as session:
        offered = session.ehlo().text.splitlines()
        reply = session.auth(*JOE)

    assert "AUTH PLAIN LOGIN" in offered
    assert reply.code == 235


@pytest.mark.faq("mobile-users", "15b")
@either
def test_cure_no_login_without_tls(lab: Lab, passwords_by: Backend) -> None:
    """With smtpd_tls_auth_only AUTH is neither offered nor taken before STARTTLS."""
    lab.mail.configure(**passwords_by(lab.mail, PASSWORDS), **lab.authority.certify(lab.mail))
    lab.mail.cure.configure(smtpd_tls_auth_only="yes")

    with lab.client.session(lab.mail) as session:
        offered = session.ehlo().text
        in_clear = session.auth(*JOE)
        started = session.starttls(trust=lab.authority.pem)
        offered_then = session.ehlo().text
        inside = session.auth(*JOE)

    assert "STARTTLS" in offered
    assert "AUTH" not in offered
    assert str(in_clear) == "503 5.5.1 Error: authentication not enabled"
    assert started.code == 220
    assert "AUTH PLAIN LOGIN" in offered_then.splitlines()
    assert "STARTTLS" not in offered_then
    assert inside.code == 235


@pytest.mark.faq("mobile-users", "15b")
def test_cure_users_have_a_service_of_their_own(lab: Lab) -> None:
    """Port 587 wants TLS and a login from everybody; port 25 knows of neither."""
    settings = sasl.cyrus(lab.mail, PASSWORDS) | lab.authority.certify(lab.mail)
    lab.mail.configure(**settings | {"smtpd_sasl_auth_enable": "no"})
    lab.mail.cure.service(SUBMISSION)

    user = lab.client.submit("joe@example.net", server=lab.mail, port=587, starttls=True, login=JOE)
    lab.settle(user)

    assert user.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert "by mail.example.com (Postfix) with ESMTPSA id" in str(copy)


@pytest.mark.faq("mobile-users", "15b")
def test_behaviour_the_submission_service_lets_nobody_else_in(lab: Lab) -> None:
    """In clear not even MAIL; in TLS without a login not even a local recipient."""
    settings = sasl.cyrus(lab.mail, PASSWORDS) | lab.authority.certify(lab.mail)
    lab.mail.configure(**settings | {"smtpd_sasl_auth_enable": "no"})
    lab.mail.service(SUBMISSION)

    clear = lab.client.submit("alice@example.com", server=lab.mail, port=587)
    stranger = lab.client.submit("alice@example.com", server=lab.mail, port=587, starttls=True)
    guess = lab.client.submit(
        "alice@example.com", server=lab.mail, port=587, starttls=True, login=("joe", "guess")
    )
    on_25 = lab.client.submit("joe@example.net", server=lab.mail, login=JOE)
    lab.settle(clear, stranger, guess, on_25)

    assert clear.rejected(530, "5.7.0", saying="Must issue a STARTTLS command first")
    refusal = "<alice@example.com>: Recipient address rejected: Access denied"
    assert stranger.rejected(554, "5.7.1", saying=refusal)
    refusal = "Error: authentication failed: authentication failure"
    assert guess.rejected(535, "5.7.8", saying=refusal)
    assert on_25.rejected(503, "5.5.1", saying="Error: authentication not enabled")


@pytest.mark.faq("mobile-users", "15b")
def test_symptom_a_user_sends_in_anothers_name(lab: Lab) -> None:
    """A login says who relays, not whose address may stand in MAIL FROM."""
    owners = lab.mail.table("owners", {"joe@example.com": "joe", "ceo@example.com": "ceo"})
    lab.mail.configure(
        **sasl.cyrus(lab.mail, PASSWORDS),
        smtpd_sender_login_maps=owners,
        smtpd_sender_restrictions="reject_sender_login_mismatch",
    )
    lab.mail.misconfigure(smtpd_sender_restrictions="")

    mail = lab.client.submit(
        "joe@example.net", server=lab.mail, login=JOE, sender="ceo@example.com"
    )
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<ceo@example.com>"


@pytest.mark.faq("mobile-users", "15b")
def test_cure_an_address_belongs_to_a_login(lab: Lab) -> None:
    """With smtpd_sender_login_maps it is refused to others, logged in or not."""
    owners = lab.mail.table("owners", {"joe@example.com": "joe", "ceo@example.com": "ceo"})
    lab.mail.configure(**sasl.cyrus(lab.mail, PASSWORDS), smtpd_sender_login_maps=owners)
    lab.mail.cure.configure(smtpd_sender_restrictions="reject_sender_login_mismatch")

    own = lab.client.submit("joe@example.net", server=lab.mail, login=JOE, sender="joe@example.com")
    forged = lab.client.submit(
        "joe@example.net", server=lab.mail, login=JOE, sender="ceo@example.com"
    )
    stranger = lab.client.submit("alice@example.com", server=lab.mail, sender="ceo@example.com")
    lab.settle(own, forged, stranger)

    assert own.delivered_to(lab.remote, mailbox="joe")
    refusal = "<ceo@example.com>: Sender address rejected: not "
    assert forged.rejected(553, "5.7.1", saying=f"{refusal}owned by user joe")
    assert stranger.rejected(553, "5.7.1", saying=f"{refusal}logged in")


@pytest.mark.faq("mobile-users")
def test_cure_guessing_passwords_is_limited(lab: Lab) -> None:
    """smtpd_client_auth_rate_limit (3.1) puts a client off, right password or not."""
    lab.mail.configure(**sasl.cyrus(lab.mail, PASSWORDS))
    lab.mail.cure.configure(smtpd_client_auth_rate_limit="2")

    with lab.client.session(lab.mail) as session:
        session.ehlo()
        replies = [session.auth("joe", password) for password in ("1", "2", "secret")]

    assert [reply.code for reply in replies] == [535, 535, 450]
    assert str(replies[-1]) == f"450 4.7.1 Error: too many AUTH commands from {lab.client.address}"


@pytest.mark.faq("mobile-users")
def test_cure_a_device_shows_its_certificate(lab: Lab) -> None:
    """permit_tls_clientcerts relays for those whose fingerprints are listed, passwords aside."""
    laptop, other = lab.authority.issue("laptop"), lab.authority.issue("other")
    devices = lab.mail.table("devices", {laptop.fingerprint: "joe's laptop"})
    lab.mail.configure(
        **lab.authority.certify(lab.mail),
        smtpd_tls_ask_ccert="yes",
        smtpd_tls_fingerprint_digest="sha256",
        relay_clientcerts=devices,
    )
    lab.mail.cure.configure(
        smtpd_relay_restrictions="permit_tls_clientcerts, reject_unauth_destination"
    )

    mails = []
    for certificate in (laptop.pem, other.pem, ""):
        with lab.client.session(lab.mail) as session:
            session.ehlo()
            session.starttls(trust=lab.authority.pem, certificate=certificate)
            probe = compose(sender="joe@example.com", recipients=["joe@example.net"])
            mails.append(session.send(probe))
    lab.settle(*mails)

    listed, unlisted, without = mails
    assert listed.delivered_to(lab.remote, mailbox="joe")
    assert unlisted.rejected(554, "5.7.1", saying=NO_RELAY)
    assert without.rejected(554, "5.7.1", saying=NO_RELAY)


def trusting(restriction: str) -> dict[str, str]:
    """Relaying decided by one more restriction."""
    return {
        "smtpd_relay_restrictions": f"permit_mynetworks, {restriction}, reject_unauth_destination"
    }


@pytest.mark.faq("mobile-users", "15d")
@pytest.mark.parametrize(
    ("kind", "trusted"),
    [("", "NET\tOK\n"), ("", "example.net\tOK\n"), ("cidr", "NET.0/27 OK\n")],
    ids=["prefix", "domain", "cidr"],
)
def test_cure_networks_and_names_are_trusted(lab: Lab, kind: str, trusted: str) -> None:
    """Where users' addresses are known: the first numbers, the domain of the name, or CIDR."""
    net = lab.client.address.rpartition(".")[0]
    table = lab.mail.table("trusted", trusted.replace("NET", net), kind)
    lab.mail.cure.configure(**trusting(f"check_client_access {table}"))

    mail = lab.client.submit("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("mobile-users", "15d")
def test_behaviour_a_forged_name_earns_no_trust(lab: Lab) -> None:
    """Anybody may call his address by a name of yours; the name has to lead back to it."""
    lab.mail.configure(**trusting("check_client_access inline:{ example.com=OK }"))

    with lab.mail.faulty(ForeignPtr(lab.client.address, points_to="mail.example.com")):
        mail = lab.client.submit("joe@example.net", server=lab.mail)
        lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying=NO_RELAY)
    warnings = [event.text for event in lab.events(Complaint, lab.mail)]
    assert warnings == [
        f"hostname mail.example.com does not resolve to address {lab.client.address}"
    ]


@pytest.mark.faq("mobile-users", "15d")
def test_behaviour_an_unverified_name_may_not_be_trusted_at_all(lab: Lab) -> None:
    """Postfix refuses to take an OK from check_reverse_client_hostname_access."""
    lab.mail.configure(**trusting("check_reverse_client_hostname_access inline:{ example.net=OK }"))

    mail = lab.client.submit("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(451, "4.3.5", saying="Server configuration error")
    warnings = [event.text for event in lab.events(Complaint, lab.mail)]
    assert "use DUNNO instead of OK if you want to make an exception" in warnings


@pytest.mark.faq("mobile-users", "15d")
def test_symptom_who_says_to_be_joe_may_relay(lab: Lab) -> None:
    """Trust by sender address works for joe everywhere, and for whoever knows his address."""
    lab.mail.misconfigure(**trusting("check_sender_access inline:{ joe@example.com=OK }"))

    joe = lab.client.submit("joe@example.net", server=lab.mail, sender="joe@example.com")
    attacker = lab.remote.submit("alice@example.net", server=lab.mail, sender="joe@example.com")
    lab.settle(joe, attacker)

    assert joe.delivered_to(lab.remote, mailbox="joe")
    assert attacker.delivered_to(lab.remote, mailbox="alice")
