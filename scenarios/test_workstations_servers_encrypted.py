"""Workstations and servers: the mail between the machines, encrypted.

The FAQ's neighbour of today. Since 2.3 smtp_tls_security_level says what is asked
of the other machine: "may" takes encryption where it is offered, "encrypt" insists
on it, "secure" on a certificate, too, from an authority that the sender knows.
"""

import pytest

from maillab.lab import Lab

pytestmark = pytest.mark.topology("workstations")

# A certificate authority of the lab's own, and the server's certificate from it.
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
    """Give the server a certificate, and ws1 what it takes to verify it."""
    lab.server.run("sh", "-ec", _CERTIFY)
    lab.ws1.write(AUTHORITY, lab.server.read(AUTHORITY) or "")
    # Says in the mail whether it came encrypted.
    lab.server.configure(smtpd_tls_received_header="yes")


@pytest.mark.faq("workstations-servers")
def test_symptom_encryption_that_may_be_silently_is_not(lab: Lab) -> None:
    """At the level "may" a server without a certificate gets everything in clear text."""
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
    """At the level "encrypt" mail for a server without STARTTLS waits."""
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
    """At the level "secure" mail waits until the workstation knows the authority."""
    certify(lab)
    lab.server.configure(**WITH_CERTIFICATE)
    lab.ws1.configure(smtp_tls_security_level="secure", smtp_tls_CAfile=AUTHORITY)
    lab.ws1.misconfigure(smtp_tls_CAfile="")

    mail = lab.ws1.send(to="dave")
    lab.settle(mail)

    found = "trusted" if lab.version == "3.5" else "verified"
    assert mail.deferred(dsn="4.7.5", saying=f"Server certificate not {found}")
    assert mail.held_by(lab.ws1)


@pytest.mark.faq("workstations-servers")
@pytest.mark.parametrize("level", ["may", "encrypt", "secure"])
def test_cure_the_server_has_a_certificate(lab: Lab, level: str) -> None:
    """Mail between the machines is encrypted, whatever of the three levels is asked for."""
    certify(lab)
    lab.ws1.configure(smtp_tls_security_level=level, smtp_tls_CAfile=AUTHORITY)
    lab.server.cure.configure(**WITH_CERTIFICATE)

    mail = lab.ws1.send(to="dave")
    lab.settle(mail)

    assert mail.delivered_to(lab.server, mailbox="dave")
    (copy,) = lab.server.mailbox("dave")
    assert ENCRYPTED in copy["Received"]
    assert " with ESMTPS id " in copy["Received"]
