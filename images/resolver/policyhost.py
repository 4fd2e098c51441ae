"""A web server for MTA-STS policies (RFC 8461 section 3.3), as a domain's mail provider runs it.

A domain's policy is the file /etc/mta-sts/DOMAIN.txt. The certificate is
/etc/ssl/maillab/mta-sts.DOMAIN.pem if there is such a file, else /etc/ssl/maillab/mta-sts.pem.
Files are read for each request, so that a change needs no restart. Each request is one line
on standard output.
"""

from __future__ import annotations

import re
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional

CONFIGURATION = Path("/etc/policyhost.conf")
POLICIES = Path("/etc/mta-sts")
CERTIFICATES = Path("/etc/ssl/maillab")
PATH = "/.well-known/mta-sts.txt"
PREFIX = "mta-sts."
SESSION_WITHIN_S = 10.0


def certificate(name: str) -> Path:
    """Return the file with the key and certificate for a host name."""
    own = CERTIFICATES / f"{name}.pem"
    return (
        own if re.fullmatch(r"[a-z0-9.-]+", name) and own.exists() else CERTIFICATES / "mta-sts.pem"
    )


def context(name: str) -> ssl.SSLContext:
    """Return the settings of a TLS session with a client that asks for a host name."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate(name))
    return tls


def policy(host: str) -> Optional[str]:
    """Return the policy for a request's Host header, or None if there is none."""
    name = host.partition(":")[0].lower()
    file = POLICIES / f"{name.removeprefix(PREFIX)}.txt"
    found = name.startswith(PREFIX) and re.fullmatch(r"[a-z0-9.-]+", name) and file.exists()
    return file.read_text() if found else None


class Handler(BaseHTTPRequestHandler):
    """One client."""

    timeout = SESSION_WITHIN_S
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the name that the class looks for
        """Answer with the policy of the domain, or 404."""
        host = self.headers.get("Host", "")
        text = policy(host) if self.path == PATH else None
        body = (text or "no policy\n").encode()
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the class's name
        """Print one line about the request."""
        headers = getattr(self, "headers", None)
        host = headers.get("Host", "") if headers else ""
        print(f"{self.client_address[0]} {host}: {format % args}", flush=True)


class Server(ThreadingHTTPServer):
    """Speaks TLS, with the certificate for the name that a client asks for."""

    daemon_threads = True
    request_queue_size = 64

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Start TLS, then serve; a client that does not trust the certificate leaves."""
        tls = context("")

        def choose(session: ssl.SSLObject, name: Optional[str], _: ssl.SSLContext) -> None:
            session.context = context(name or "")

        tls.sni_callback = choose
        request.settimeout(SESSION_WITHIN_S)
        try:
            with tls.wrap_socket(request, server_side=True) as session:
                super().finish_request(session, client_address)
        except (ssl.SSLError, OSError) as error:
            print(f"{client_address[0]} no session: {error}", flush=True)


def main() -> None:
    """Serve until the process is killed."""
    ports = re.findall(r"(?m)^Port (\d+)", CONFIGURATION.read_text())
    try:
        # A certificate that does not load is found at the start.
        context("")
    except (OSError, ssl.SSLError) as error:
        sys.exit(f"{certificate('')}: {error}")
    Server(("", int(ports[0])), Handler).serve_forever()


if __name__ == "__main__":
    main()
