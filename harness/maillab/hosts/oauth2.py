"""Access tokens of a provider that wants them instead of passwords (RFC 6749).

token = oauth2.renew(lab.office, "https://smtp.provider.example/token", "refresh-office", trust)
session.auth("office", token.access_token, mechanism="XOAUTH2")
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from maillab.hosts.host import Host

__all__ = ["Token", "renew"]

# Runs on the host, and prints one JSON object.
_REQUEST = """\
import json, ssl, sys, urllib.error, urllib.parse, urllib.request
url, refresh_token, trust = sys.argv[1:]
question = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "maillab"}
try:
    context = ssl.create_default_context(cafile=trust)
    data = urllib.parse.urlencode(question).encode()
    print(urllib.request.urlopen(url, data, timeout=20, context=context).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
except OSError as error:
    print(json.dumps({"error": str(getattr(error, "reason", error))}))
"""


@dataclass(frozen=True)
class Token:
    """The answer of a token endpoint: an access token, or the error.

    ``error`` is the endpoint's, such as "invalid_grant", or the reason why it does not answer.
    """

    access_token: str
    error: str


def renew(host: Host, url: str, refresh_token: str, trust: str) -> Token:
    """Ask a token endpoint for an access token (RFC 6749 section 6), as cron(8) would.

    ``trust`` is a file on the host with the authority of the endpoint's certificate.
    """
    done = host.run("python3", "-c", _REQUEST, url, refresh_token, trust)
    answer = json.loads(done.stdout)
    return Token(answer.get("access_token", ""), answer.get("error", ""))
