"""The lab's own certificate authority.

No authority of the world knows the lab's names, so a lab has one of its own. It
lives as long as the lab; what it issued to a host goes with the host's reset.
openssl(1) does the work on a mail host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from maillab.postfix import MailHost

_FOLDER = "/etc/ssl/maillab"
_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
# What RFC 5280 asks of an authority and of what it issues; Python checks it since 3.13.
_FOUND = f"""
cd "$(mktemp -d)"
openssl req -x509 {_KEY} -keyout key.pem -out ca.pem -days 3650 -subj "/CN=maillab authority" \
  -addext keyUsage=critical,keyCertSign,cRLSign
cat key.pem ca.pem
"""
_ISSUE = f"""
cd "$(mktemp -d)"
cat >ca.pem
openssl req -new {_KEY} -keyout key.pem -out request.pem -subj "/CN=$1"
printf '%s\\n' "subjectAltName=DNS:$1" basicConstraints=critical,CA:FALSE \
  subjectKeyIdentifier=hash authorityKeyIdentifier=keyid >extensions
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.pem -CAcreateserial -days 3650 \
  -extfile extensions -out cert.pem
cat key.pem cert.pem
"""
_FINGERPRINT = "openssl x509 -noout -fingerprint -sha256 | sed s/.*=//"


@dataclass(frozen=True)
class Certificate:
    """A name's private key and certificate, in one PEM text; ``fingerprint`` is SHA-256."""

    name: str
    pem: str
    fingerprint: str


class Authority:
    """Issues certificates that those who trust ``pem`` believe."""

    def __init__(self, workshops: Callable[[], Sequence[MailHost]]) -> None:
        self._workshops = workshops
        self._secret = ""

    @property
    def pem(self) -> str:
        """Its own certificate, for those who are to trust it."""
        return self._whole[self._whole.index("-----BEGIN CERTIFICATE") :]

    def issue(self, name: str) -> Certificate:
        """A certificate for a host or a user's device."""
        pem = self._openssl(_ISSUE, name, stdin=self._whole)
        return Certificate(name, pem, self._openssl(_FINGERPRINT, name, stdin=pem).strip())

    def certify(self, host: MailHost) -> dict[str, str]:
        """Install a certificate for a mail host's name; returns what its main.cf needs then.

        Its SMTP server offers STARTTLS with these settings (postconf(5) smtpd_tls_chain_files)
        and believes clients with a certificate of this authority.
        """
        chain, authority = f"{_FOLDER}/{host.fqdn}.pem", f"{_FOLDER}/authority.pem"
        host.write(chain, self.issue(host.fqdn).pem, mode=0o600)
        host.write(authority, self.pem)
        return {
            "smtpd_tls_chain_files": chain,
            "smtpd_tls_CAfile": authority,
            "smtpd_tls_security_level": "may",
        }

    @property
    def _whole(self) -> str:
        # Made when first asked for: most scenarios never do.
        self._secret = self._secret or self._openssl(_FOUND, "")
        return self._secret

    def _openssl(self, script: str, name: str, stdin: str = "") -> str:
        return self._workshops()[0].run("sh", "-euc", script, "sh", name, stdin=stdin).stdout
