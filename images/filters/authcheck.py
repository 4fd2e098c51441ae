"""A Milter that checks SPF, DKIM and DMARC, and answers as the big mailbox providers do.

OpenDKIM, OpenDMARC and policyd-spf each look at one standard. The big providers decide once,
over all three results: a message that neither SPF nor DKIM authenticates is refused, and so is
one whose author's domain asks for it (DMARC, RFC 7489).

Each decision is one line in the mail log, and the header Authentication-Results (RFC 8601).
"""

from __future__ import annotations

import socket
import sys
import syslog
from email.utils import getaddresses
from pathlib import Path
from typing import ClassVar, Dict, List, Tuple

import dkim
import dns.exception
import dns.resolver
import Milter
import spf

from authresults import (
    UNAUTHENTICATED,
    Checked,
    Signature,
    decided,
    organizational,
    policy_of,
    settings,
)

CONFIGURATION = Path("/etc/authcheck.conf")
_TIMEOUT_S = 20


def published(domain: str) -> str:
    """Return the DMARC record of exactly this name, or ""; raise DNSException if none answers."""
    try:
        found = dns.resolver.resolve(f"_dmarc.{domain}", "TXT")
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return ""
    texts = [b"".join(record.strings).decode(errors="replace") for record in found]
    return next((text for text in texts if text.lower().startswith("v=dmarc1")), "")


def judge_dmarc(checked: Checked) -> None:
    """Fill in the message's DMARC result."""
    try:
        record = published(checked.domain)
        subdomain = False
        if not record and organizational(checked.domain) != checked.domain.lower():
            record = published(organizational(checked.domain))
            subdomain = True
    except dns.exception.DNSException:
        checked.dmarc = "temperror"
        return
    if not record:
        return
    checked.apply(policy_of(record, subdomain=subdomain))


def verified(raw: bytes) -> List[Signature]:
    """Return the result of each signature of a message."""
    message = dkim.DKIM(raw, timeout=5)
    count = sum(name.lower() == b"dkim-signature" for name, _ in message.headers)
    found = []
    for index in range(count):
        try:
            result = "pass" if message.verify(index) else "fail"
        except dkim.DnsTimeoutError:
            result = "temperror"
        except dkim.ValidationError:
            # The message is another one than the one that was signed.
            result = "fail"
        except (dkim.DKIMException, dns.exception.DNSException):
            result = "permerror"
        fields = message.signature_fields
        domain, selector = (fields.get(tag, b"").decode(errors="replace") for tag in (b"d", b"s"))
        found.append(Signature(result, domain, selector))
    return found


@Milter.header_leading_space
class AuthCheck(Milter.Base):  # type: ignore[misc]  # Debian's package has no type hints
    """One connection of Postfix."""

    options: ClassVar[Dict[str, str]] = {}

    def connect(self, _name: str, family: int, address: Tuple[str, ...]) -> int:
        """Keep the client's address."""
        self.ip = address[0] if family in (socket.AF_INET, socket.AF_INET6) else ""
        self.helo = ""
        return int(Milter.CONTINUE)

    def hello(self, name: str) -> int:
        """Keep the client's name for itself."""
        self.helo = name
        return int(Milter.CONTINUE)

    def envfrom(self, sender: str, *_: str) -> int:
        """Begin a message."""
        self.sender = sender.strip("<>")
        self.lines: List[bytes] = []
        self.authors: List[str] = []
        return int(Milter.CONTINUE)

    @Milter.decode("bytes")  # type: ignore[untyped-decorator]  # as above
    def header(self, name: str, value: bytes) -> int:
        """Keep a header as it is: DKIM signs white space, too."""
        self.lines.append(name.encode() + b":" + value.replace(b"\n", b"\r\n") + b"\r\n")
        if name.lower() == "from":
            self.authors.append(value.decode(errors="replace"))
        return int(Milter.CONTINUE)

    def eoh(self) -> int:
        """Keep the empty line after the headers."""
        self.lines.append(b"\r\n")
        return int(Milter.CONTINUE)

    def body(self, chunk: bytes) -> int:
        """Keep a part of the body."""
        self.lines.append(chunk)
        return int(Milter.CONTINUE)

    def eom(self) -> int:
        """Check the message and decide."""
        author = next((address for _, address in getaddresses(self.authors) if address), "")
        # A bounce has no sender: its client's name counts (RFC 7208 section 2.4).
        envelope = self.sender.rpartition("@")[2] or self.helo
        result = spf.check2(self.ip, self.sender, self.helo, timeout=5, querytime=_TIMEOUT_S)[0]
        checked = Checked(author.rpartition("@")[2], envelope, result)
        checked.signatures = verified(b"".join(self.lines))
        judge_dmarc(checked)
        word, answer = decided(checked, self.options.get("Unauthenticated", "reject"))
        syslog.syslog(f"{self.getsymval('i')}: {checked.text()}; action={word}")
        if answer is None:
            self.addheader("Authentication-Results", f" {self.getsymval('j')}; {checked.text()}", 0)
            return int(Milter.ACCEPT)
        code, status, lines = answer
        facts = {"domain": checked.domain, "envelope": envelope, "ip": self.ip}
        self.setreply(code, status, *(line.format(**facts) for line in lines))
        return int(Milter.REJECT if code.startswith("5") else Milter.TEMPFAIL)


def main() -> None:
    """Serve Postfix on the socket of the configuration."""
    syslog.openlog("authcheck", syslog.LOG_PID, syslog.LOG_MAIL)
    AuthCheck.options = settings(CONFIGURATION.read_text())
    where = AuthCheck.options.get("Socket")
    if not where or AuthCheck.options.get("Unauthenticated", "reject") not in (
        *UNAUTHENTICATED,
        "accept",
    ):
        sys.exit(f"{CONFIGURATION}: needs Socket, and Unauthenticated reject, defer or accept")
    Milter.factory = AuthCheck
    Milter.set_flags(Milter.ADDHDRS)
    Milter.runmilter("authcheck", where, 300)


if __name__ == "__main__":
    main()
