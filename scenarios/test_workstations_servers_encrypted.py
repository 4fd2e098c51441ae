"""Workstations and servers: the mail between the machines, encrypted.

Set smtp_tls_security_level to what the other machine must provide: "may" encrypts if
offered, "encrypt" requires encryption, and "secure" also requires a certificate from an
authority that the sender knows.

Since the FAQ:
- 2.3: smtp_tls_security_level; the FAQ predates encryption.
- 3.11: "may" is the default, with compatibility_level 3.11 or later.
"""

import pytest

from maillab import Lab

pytestmark = pytest.mark.topology("workstations")

# The lab's own certificate authority, and the server's certificate from it.
_CERTIFY = """
cd /etc/postfix
key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $key -keyout ca.key -out ca.pem -subj '/CN=CA of the lab' -days 30
openssl req $key -keyout server.key -out server.csr -subj /CN=server.example.com
echo 'subjectAltName = DNS:server.example.com' >server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
  -extfile server.ext -out server.pem -days 30
"""
WITH_CERTIFICATE = {
    "smtpd_tls_security_level": "may",
    "smtpd_tls_cert_file": "/etc/postfix/server.pem",
    "smtpd_tls_key_file": "/etc/postfix/server.key",
}
AUTHORITY = "/etc/postfix/ca.pem"
ENCRYPTED = "(using TLSv1.3 with cipher "


def certify(lab: Lab) -> None:
    """Give the server a certificate, and ws1 the authority's certificate to verify it."""
    lab.server.run("sh", "-ec", _CERTIFY)
    lab.ws1.write(AUTHORITY, lab.server.read(AUTHORITY) or "")
    # Received then shows if the mail arrived encrypted.
    lab.server.configure(smtpd_tls_received_header="yes")


@pytest.mark.faq("workstations-servers")
def test_symptom_encryption_that_may_be_silently_is_not(lab: Lab) -> None:
    """At level "may" a server without a certificate gets everything in clear text."""
    certify(lab)
    lab.server.configure(**WITH_CERTIFICATE)
    lab.server.misconfigure(smtpd_tls_security_level="none")
    lab.ws1.configure(smtp_tls_security_level="may")

    mail = lab.ws1.send(to="dave")
    lab.settle(mail)

    assert mail.delivered_to(lab.server, mailbox="dave")
    (copy,) = lab.server.mailbox("dave")
    assert "(using TLS" not in copy["Received"]
    assert " with ESMTP id " in copy["Received"]


@pytest.mark.faq("workstations-servers")
def test_symptom_encryption_that_must_be_stops_mail(lab: Lab) -> None:
    """At level "encrypt" mail for a server without STARTTLS waits."""
    certify(lab)
    lab.server.configure(**WITH_CERTIFICATE)
    lab.server.misconfigure(smtpd_tls_security_level="none")
    lab.ws1.configure(smtp_tls_security_level="encrypt")

    mail = lab.ws1.send(to="dave")
    lab.settle(mail)

    host = f"host server.example.com[{lab.server.address}]"
    assert mail.deferred(dsn="4.7.4", saying=f"TLS is required, but was not offered by {host}")
    assert mail.held_by(lab.ws1)


@pytest.mark.faq("workstations-servers")
def test_symptom_a_certificate_from_nobody_known(lab: Lab) -> None:
    """At level "secure" mail waits until the workstation knows the authority."""
    certify(lab)
    lab.server.configure(**WITH_CERTIFICATE)
    lab.ws1.configure(smtp_tls_security_level="secure", smtp_tls_CAfile=AUTHORITY)
    lab.ws1.misconfigure(smtp_tls_CAfile="")

    mail = lab.ws1.send(to="dave")
    lab.settle(mail)

    found = "verified" if lab.has("one text for a bad certificate") else "trusted"
    assert mail.deferred(dsn="4.7.5", saying=f"Server certificate not {found}")
    assert mail.held_by(lab.ws1)


@pytest.mark.topology("as-installed")
@pytest.mark.faq("workstations-servers")
def test_behaviour_as_installed_mail_is_encrypted(lab: Lab) -> None:
    """Debian's main.cf sets "may" on both sides, and the certificate of the package ssl-cert."""
    settings = {
        name: lab.mail.postconf(name)
        for name in (
            "smtp_tls_security_level",
            "smtpd_tls_security_level",
            "smtpd_tls_cert_file",
            "smtpd_tls_key_file",
        )
    }
    mail = lab.mail.send(to="joe@remote.example.net")
    lab.settle(mail)

    assert settings == {
        "smtp_tls_security_level": "may",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": "/etc/ssl/certs/ssl-cert-snakeoil.pem",
        "smtpd_tls_key_file": "/etc/ssl/private/ssl-cert-snakeoil.key",
    }
    assert mail.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert " with ESMTPS id " in copy["Received"]


@pytest.mark.faq("workstations-servers")
def test_behaviour_the_compatibility_level_decides_about_encryption(lab: Lab) -> None:
    """From level 3.11 on smtp_tls_security_level is "may", and before it is off."""
    certify(lab)
    lab.server.configure(**WITH_CERTIFICATE)
    lab.ws1.run("postconf", "-X", "smtp_tls_security_level")
    # Level 0 has no relay restrictions by default.
    lab.ws1.configure(smtpd_relay_restrictions="permit_mynetworks, reject_unauth_destination")

    encrypted = {}
    for level in lab.compatibility_levels:
        lab.ws1.configure(compatibility_level=level)
        mail = lab.ws1.send(to="dave")
        lab.settle(mail)
        assert mail.delivered_to(lab.server, mailbox="dave")
        encrypted[level] = ENCRYPTED in lab.server.mailbox("dave")[-1]["Received"]

    assert encrypted == {level: level == "3.11" for level in lab.compatibility_levels}


@pytest.mark.faq("workstations-servers")
@pytest.mark.parametrize("level", ["may", "encrypt", "secure"])
def test_cure_the_server_has_a_certificate(lab: Lab, level: str) -> None:
    """Mail between the machines is encrypted at each of the three levels."""
    certify(lab)
    lab.ws1.configure(smtp_tls_security_level=level, smtp_tls_CAfile=AUTHORITY)
    lab.server.cure.configure(**WITH_CERTIFICATE)

    mail = lab.ws1.send(to="dave")
    lab.settle(mail)

    assert mail.delivered_to(lab.server, mailbox="dave")
    (copy,) = lab.server.mailbox("dave")
    assert ENCRYPTED in copy["Received"]
    assert " with ESMTPS id " in copy["Received"]
