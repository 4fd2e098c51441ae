"""The lab's own certificate authority.

No public authority certifies the lab's names, so each lab has its own. The authority
lives as long as the lab. A reset removes the certificates from the hosts. openssl(1)
does the work on a mail host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from maillab.hosts.postfix import PostfixHost

_FOLDER = "/etc/ssl/maillab"
# images/postfix/certify.sh.
_CERTIFY = "/opt/maillab/certify.sh"
_FINGERPRINT = "openssl x509 -noout -fingerprint -sha256 | sed s/.*=//"


@dataclass(frozen=True)
class Certificate:
    """A name's private key and certificate, in one PEM text; ``fingerprint`` is SHA-256."""

    name: str
    pem: str
    fingerprint: str


class Authority:
    """A certificate authority; programs that trust ``pem`` accept its certificates."""

    def __init__(self, workshops: Callable[[], Sequence[PostfixHost]]) -> None:
        self._workshops = workshops
        self._secret = ""

    @property
    def pem(self) -> str:
        """The authority's own certificate, for programs that shall trust it."""
        return self._whole[self._whole.index("-----BEGIN CERTIFICATE") :]

    def issue(self, name: str) -> Certificate:
        """Issue a certificate for a host or a user's device."""
        pem = self._run("sh", _CERTIFY, "issue", name, stdin=self._whole)
        fingerprint = self._run("sh", "-euc", _FINGERPRINT, stdin=pem).strip()
        return Certificate(name, pem, fingerprint)

    def certify(self, host: PostfixHost) -> dict[str, str]:
        """Install a certificate for a mail host's name; return the settings that use it.

        With these settings (postconf(5) smtpd_tls_chain_files) the SMTP server offers
        STARTTLS, and trusts clients with a certificate of this authority.
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
        # Created on first use: most scenarios never need it.
        self._secret = self._secret or self._run("sh", _CERTIFY, "authority")
        return self._secret

    def _run(self, *argv: str, stdin: str = "") -> str:
        return self._workshops()[0].run_tool(*argv, stdin=stdin).stdout
