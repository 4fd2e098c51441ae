"""Relaying mail for mobile users.

Give users a login: SASL with Cyrus or Dovecot, on a submission service of its own that
requires TLS. The default smtpd_relay_restrictions lets logged-in users relay
(permit_sasl_authenticated). Do not trust by address, name or sender: a stranger can have
or claim them.

A mail server must not relay for strangers, and the addresses of mobile users are not known
beforehand. The FAQ also had POP before SMTP, which opens relaying for a while after a user
reads mail; see test_mobile_users_pop_before_smtp.py.

Since the FAQ:
- AUTH is built in; in the FAQ's days it was a patch.
- Services of their own for users: submission on port 587 (RFC 6409), and submissions on port
  465 with TLS from the first byte (smtpd_tls_wrappermode), which RFC 8314 recommends.
- 2.3: Dovecot can check the password.
- 2.10: smtpd_relay_restrictions; a table in smtpd_recipient_restrictions grants no relaying.
"""

import base64
import re
from collections.abc import Callable

import pytest

from maillab import Accepted, Complaint, Lab, message, sasl
from maillab.faults import ForeignPtr

pytestmark = pytest.mark.topology("standalone")

PASSWORDS = {"joe": "secret"}
JOE = ("joe", "secret")
NO_RELAY = "<joe@example.net>: Relay access denied"

# A service for users: TLS and a login are required.
SUBMISSION = (
    "submission inet n - n - - smtpd -o smtpd_tls_security_level=encrypt"
    " -o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
)

# The same with TLS from the first byte (RFC 8314).
SUBMISSIONS = (
    "465 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"
    " -o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
)

either = pytest.mark.parametrize(
    "passwords_by", [sasl.cyrus, sasl.dovecot], ids=["cyrus", "dovecot"]
)
Backend = Callable[..., dict[str, str]]


@pytest.mark.faq("mobile-users", "15a")
def test_symptom_a_user_on_the_road_is_a_stranger(lab: Lab) -> None:
    """By default mobile users may not relay, and the server offers no login."""
    lab.mail.configure(**sasl.cyrus(lab.mail, PASSWORDS))
    lab.mail.misconfigure(smtpd_sasl_auth_enable="no")

    stranger = lab.client.smtp("joe@example.net", server=lab.mail)
    user = lab.client.smtp("joe@example.net", server=lab.mail, login=JOE)
    lab.settle(stranger, user)

    assert stranger.rejected(454, "4.7.1", saying=NO_RELAY)
    assert user.rejected(503, "5.5.1", saying="Error: authentication not enabled")
    assert not user.reached(lab.remote)


@pytest.mark.faq("mobile-users", "15b")
@either
def test_cure_a_login_opens_the_way(lab: Lab, passwords_by: Backend) -> None:
    """A logged-in user may relay; the log has the name, Received only "ESMTPA"."""
    lab.mail.cure.configure(**passwords_by(lab.mail, PASSWORDS))

    user = lab.client.smtp("joe@example.net", server=lab.mail, login=JOE)
    stranger = lab.client.smtp("joe@example.net", server=lab.mail)
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
    """A wrong password gets a 535 reply; the right one works afterwards, by LOGIN, too."""
    lab.mail.cure.configure(**passwords_by(lab.mail, PASSWORDS))

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
    """smtpd_sasl_authenticated_header writes the login name into Received."""
    lab.mail.configure(**sasl.cyrus(lab.mail, PASSWORDS))
    lab.mail.cure.configure(smtpd_sasl_authenticated_header="yes")

    mail = lab.client.smtp("joe@example.net", server=lab.mail, login=JOE)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert "(Authenticated sender: joe)" in str(copy)


def passwords_on_the_wire(lab: Lab) -> set[bytes]:
    """Return the decoded arguments of each AUTH PLAIN that the server's capture has in clear."""
    found = re.findall(rb"AUTH PLAIN (?!LOGIN)([A-Za-z0-9+/=]+)\r\n", lab.captured()["mail"])
    return {base64.b64decode(text) for text in found}


@pytest.mark.faq("mobile-users", "15b")
def test_symptom_the_password_travels_in_clear(lab: Lab) -> None:
    """Without TLS, AUTH PLAIN reveals the password: it is in the captured packets."""
    lab.mail.configure(
        **sasl.cyrus(lab.mail, PASSWORDS),
        **lab.authority.certify(lab.mail),
        smtpd_tls_auth_only="yes",
    )
    lab.mail.misconfigure(smtpd_tls_auth_only="no")
    lab.capture()

    with lab.client.session(lab.mail) as session:
        offered = session.ehlo().text.splitlines()
        if "AUTH PLAIN LOGIN" in offered:
            session.auth(*JOE)

    assert passwords_on_the_wire(lab) == {b"\0joe\0secret"}


@pytest.mark.faq("mobile-users", "15b")
@either
def test_cure_no_login_without_tls(lab: Lab, passwords_by: Backend) -> None:
    """With smtpd_tls_auth_only AUTH is neither offered nor accepted before STARTTLS."""
    lab.mail.configure(**passwords_by(lab.mail, PASSWORDS), **lab.authority.certify(lab.mail))
    lab.mail.cure.configure(smtpd_tls_auth_only="yes")
    lab.capture()

    with lab.client.session(lab.mail) as session:
        offered = session.ehlo().text
        # A client that ignores what the server offers, with a password of its own.
        in_clear = session.auth("joe", "in clear")
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
    assert passwords_on_the_wire(lab) == {b"\0joe\0in clear"}


@pytest.mark.faq("mobile-users", "15b")
def test_cure_users_have_a_service_of_their_own(lab: Lab) -> None:
    """Users relay through port 587 with TLS and a login; port 25 offers no login."""
    settings = sasl.cyrus(lab.mail, PASSWORDS) | lab.authority.certify(lab.mail)
    lab.mail.configure(**settings | {"smtpd_sasl_auth_enable": "no"})
    lab.mail.cure.service(SUBMISSION)

    user = lab.client.smtp("joe@example.net", server=lab.mail, port=587, starttls=True, login=JOE)
    lab.settle(user)

    assert user.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert "by mail.example.com (Postfix) with ESMTPSA id" in str(copy)


@pytest.mark.faq("mobile-users", "15b")
def test_cure_users_have_a_service_in_tls_from_the_first_byte(lab: Lab) -> None:
    """Users relay through port 465 (RFC 8314), where a client in clear gets no greeting."""
    settings = sasl.cyrus(lab.mail, PASSWORDS) | lab.authority.certify(lab.mail)
    lab.mail.configure(**settings | {"smtpd_sasl_auth_enable": "no"})
    lab.mail.cure.service(SUBMISSIONS)
    lab.capture()

    user = lab.client.smtp("joe@example.net", server=lab.mail, port=465, tls=True, login=JOE)
    stranger = lab.client.smtp("joe@example.net", server=lab.mail, port=465, tls=True)
    with lab.client.session(lab.mail, port=465, timeout_s=1) as session:
        in_clear = session.greeting.code
    lab.settle(user, stranger)

    assert user.delivered_to(lab.remote, mailbox="joe")
    assert passwords_on_the_wire(lab) == set()
    assert in_clear == 0
    refusal = "<joe@example.net>: Recipient address rejected: Access denied"
    assert stranger.rejected(554, "5.7.1", saying=refusal)
    (copy,) = lab.remote.mailbox("joe")
    assert "by mail.example.com (Postfix) with ESMTPSA id" in str(copy)


@pytest.mark.faq("mobile-users", "15b")
def test_behaviour_the_submission_service_lets_nobody_else_in(lab: Lab) -> None:
    """In clear even MAIL is refused; in TLS without a login every recipient is refused."""
    settings = sasl.cyrus(lab.mail, PASSWORDS) | lab.authority.certify(lab.mail)
    lab.mail.configure(**settings | {"smtpd_sasl_auth_enable": "no"})
    lab.mail.cure.service(SUBMISSION)

    clear = lab.client.smtp("alice@example.com", server=lab.mail, port=587)
    stranger = lab.client.smtp("alice@example.com", server=lab.mail, port=587, starttls=True)
    guess = lab.client.smtp(
        "alice@example.com", server=lab.mail, port=587, starttls=True, login=("joe", "guess")
    )
    on_25 = lab.client.smtp("joe@example.net", server=lab.mail, login=JOE)
    lab.settle(clear, stranger, guess, on_25)

    assert clear.rejected(530, "5.7.0", saying="Must issue a STARTTLS command first")
    refusal = "<alice@example.com>: Recipient address rejected: Access denied"
    assert stranger.rejected(554, "5.7.1", saying=refusal)
    refusal = "Error: authentication failed: authentication failure"
    assert guess.rejected(535, "5.7.8", saying=refusal)
    assert on_25.rejected(503, "5.5.1", saying="Error: authentication not enabled")


@pytest.mark.faq("mobile-users", "15b")
def test_symptom_a_user_sends_in_anothers_name(lab: Lab) -> None:
    """A login decides who may relay, not which address may appear in MAIL FROM."""
    owners = lab.mail.table("owners", {"joe@example.com": "joe", "ceo@example.com": "ceo"})
    lab.mail.configure(
        **sasl.cyrus(lab.mail, PASSWORDS),
        smtpd_sender_login_maps=owners,
        smtpd_sender_restrictions="reject_sender_login_mismatch",
    )
    lab.mail.misconfigure(smtpd_sender_restrictions="")

    mail = lab.client.smtp("joe@example.net", server=lab.mail, login=JOE, sender="ceo@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<ceo@example.com>"


@pytest.mark.faq("mobile-users", "15b")
def test_cure_an_address_belongs_to_a_login(lab: Lab) -> None:
    """With smtpd_sender_login_maps other users, logged in or not, may not use an address."""
    owners = lab.mail.table("owners", {"joe@example.com": "joe", "ceo@example.com": "ceo"})
    lab.mail.configure(**sasl.cyrus(lab.mail, PASSWORDS), smtpd_sender_login_maps=owners)
    lab.mail.cure.configure(smtpd_sender_restrictions="reject_sender_login_mismatch")

    own = lab.client.smtp("joe@example.net", server=lab.mail, login=JOE, sender="joe@example.com")
    forged = lab.client.smtp(
        "joe@example.net", server=lab.mail, login=JOE, sender="ceo@example.com"
    )
    stranger = lab.client.smtp("alice@example.com", server=lab.mail, sender="ceo@example.com")
    lab.settle(own, forged, stranger)

    assert own.delivered_to(lab.remote, mailbox="joe")
    refusal = "<ceo@example.com>: Sender address rejected: not "
    assert forged.rejected(553, "5.7.1", saying=f"{refusal}owned by user joe")
    assert stranger.rejected(553, "5.7.1", saying=f"{refusal}logged in")


@pytest.mark.faq("mobile-users")
def test_cure_guessing_passwords_is_limited(lab: Lab) -> None:
    """smtpd_client_auth_rate_limit (3.1) delays a client, whatever the password."""
    lab.mail.configure(**sasl.cyrus(lab.mail, PASSWORDS))
    lab.mail.cure.configure(smtpd_client_auth_rate_limit="2")

    with lab.client.session(lab.mail) as session:
        session.ehlo()
        replies = [session.auth("joe", password) for password in ("1", "2", "secret")]

    assert [reply.code for reply in replies] == [535, 535, 450]
    assert str(replies[-1]) == f"450 4.7.1 Error: too many AUTH commands from {lab.client.address}"


@pytest.mark.faq("mobile-users")
def test_cure_a_device_shows_its_certificate(lab: Lab) -> None:
    """permit_tls_clientcerts relays for listed fingerprints, without a password."""
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
            probe = message.compose(sender="joe@example.com", recipients=["joe@example.net"])
            mails.append(session.send(probe))
    lab.settle(*mails)

    listed, unlisted, without = mails
    assert listed.delivered_to(lab.remote, mailbox="joe")
    assert unlisted.rejected(554, "5.7.1", saying=NO_RELAY)
    assert without.rejected(554, "5.7.1", saying=NO_RELAY)


@pytest.mark.faq("mobile-users")
def test_behaviour_the_level_decides_how_fingerprints_are_made(lab: Lab) -> None:
    """A certificate listed by its md5 is a stranger from level 3.6 on, where sha256 counts."""
    laptop = lab.authority.issue("laptop")
    printed = lab.mail.run("openssl", "x509", "-noout", "-fingerprint", "-md5", stdin=laptop.pem)
    md5 = printed.stdout.strip().partition("=")[2]
    lab.mail.configure(
        **lab.authority.certify(lab.mail),
        smtpd_tls_ask_ccert="yes",
        smtpd_relay_restrictions="permit_tls_clientcerts, reject_unauth_destination",
    )

    codes = {}
    for name, fingerprint in (("md5", md5), ("sha256", laptop.fingerprint)):
        devices = lab.mail.table(name, {fingerprint: "joe's laptop"})
        lab.mail.configure(relay_clientcerts=devices)
        for level in lab.compatibility_levels:
            lab.mail.configure(compatibility_level=level)
            with lab.client.session(lab.mail) as session:
                session.ehlo()
                session.starttls(trust=lab.authority.pem, certificate=laptop.pem)
                session.ehlo()
                session.mail("joe@example.com")
                codes[name, level] = session.rcpt("joe@example.net").code

    old = ("0", "1", "2")
    assert codes == {
        (name, level): 250 if (name == "md5") is (level in old) else 554
        for name in ("md5", "sha256")
        for level in lab.compatibility_levels
    }


def trusting(restriction: str) -> dict[str, str]:
    """Return relay restrictions with one more restriction."""
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
    """If clients are known, list an address prefix, a domain of the name, or CIDR."""
    net = lab.client.address.rpartition(".")[0]
    table = lab.mail.table("trusted", trusted.replace("NET", net), kind)
    lab.mail.cure.configure(**trusting(f"check_client_access {table}"))

    mail = lab.client.smtp("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("mobile-users", "15d")
@pytest.mark.parametrize(
    ("kind", "trusted"), [("", "example.net\tOK\n"), ("cidr", "NET.0/27 OK\n")],
    ids=["domain", "cidr"],
)  # fmt: skip
def test_symptom_another_customer_of_the_provider_may_relay(
    lab: Lab, kind: str, trusted: str
) -> None:
    """Trust in a block or a domain authenticates no user: the provider's other clients relay."""
    net = lab.client.address.rpartition(".")[0]
    table = lab.mail.table("trusted", trusted.replace("NET", net), kind)
    lab.mail.misconfigure(**trusting(f"check_client_access {table}"))

    joe = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    stranger = lab.remote.smtp("alice@example.net", server=lab.mail, sender="eve@example.net")
    lab.settle(joe, stranger)

    assert joe.delivered_to(lab.remote, mailbox="joe")
    assert stranger.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("mobile-users", "15c")
@pytest.mark.parametrize("kind", ["btree", "cdb", "dbm", "hash", "lmdb", "sqlite"])
def test_behaviour_postconf_m_tells_which_tables_there_are(lab: Lab, kind: str) -> None:
    """The FAQ's "postconf -m" lists a table type if, and only if, postmap(1) supports it."""
    listed = kind in lab.mail.run("postconf", "-m").stdout.split()

    refusal = lab.mail.run("postmap", "-q", "x", f"{kind}:/etc/postfix/none", check=False).stderr

    assert (f"unsupported dictionary type: {kind}" in refusal) == (not listed)


@pytest.mark.faq("mobile-users", "15d")
def test_behaviour_a_forged_name_earns_no_trust(lab: Lab) -> None:
    """Any client can claim a name by PTR; the name must resolve back to its address."""
    lab.mail.configure(**trusting("check_client_access inline:{ example.com=OK }"))

    with lab.mail.faulty(ForeignPtr(lab.client.address, points_to="mail.example.com")):
        mail = lab.client.smtp("joe@example.net", server=lab.mail)
        lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying=NO_RELAY)
    warnings = [event.text for event in lab.events(Complaint, lab.mail)]
    assert warnings == [
        f"hostname mail.example.com does not resolve to address {lab.client.address}"
    ]


@pytest.mark.faq("mobile-users", "15d")
def test_behaviour_an_unverified_name_may_not_be_trusted_at_all(lab: Lab) -> None:
    """Postfix refuses to accept an OK from check_reverse_client_hostname_access."""
    lab.mail.misconfigure(
        **trusting("check_reverse_client_hostname_access inline:{ example.net=OK }")
    )

    mail = lab.client.smtp("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(451, "4.3.5", saying="Server configuration error")
    warnings = [event.text for event in lab.events(Complaint, lab.mail)]
    assert "use DUNNO instead of OK if you want to make an exception" in warnings


@pytest.mark.faq("mobile-users", "15d")
def test_symptom_who_says_to_be_joe_may_relay(lab: Lab) -> None:
    """A trusted sender address relays anywhere: for its user, and for everyone who forges it."""
    lab.mail.misconfigure(**trusting("check_sender_access inline:{ joe@example.com=OK }"))

    joe = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    attacker = lab.remote.smtp("alice@example.net", server=lab.mail, sender="joe@example.com")
    lab.settle(joe, attacker)

    assert joe.delivered_to(lab.remote, mailbox="joe")
    assert attacker.delivered_to(lab.remote, mailbox="alice")
