"""A provider's login by OAuth2: /token gives access tokens, /introspect judges them.

An access token is the user and the end of its life, sealed with a secret of this container, so
that a restart forgets no token. The time is the lab's: libfaketime moves it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import ssl
import sys
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Tuple

CONFIGURATION = Path("/etc/oauth2.conf")
SECRET = Path("/etc/oauth2.secret")
QUESTION_BYTES_MAX = 65536

Answer = Tuple[int, Dict[str, Any]]


def configuration(text: str) -> Dict[str, str]:
    """Return the values of a configuration with "Name value" lines."""
    rows = (line.split(None, 1) for line in text.splitlines() if line[:1].isalpha())
    return {row[0]: row[1].strip() for row in rows if len(row) > 1}


class Login:
    """The provider's users, and the tokens that they get."""

    def __init__(self, settings: Dict[str, str], secret: bytes) -> None:
        pairs = (pair.strip().split("=", 1) for pair in settings["RefreshTokens"].split(","))
        self.users = {pair[0]: pair[1] for pair in pairs if len(pair) > 1}
        self.lifetime_s = int(settings["Lifetime_s"])
        self._secret = secret

    def issue(self, user: str, now: float) -> str:
        """Return an access token for a user."""
        content = json.dumps({"user": user, "exp": int(now) + self.lifetime_s}).encode()
        return f"{_text(content)}.{_text(self._seal(content))}"

    def token(self, question: Dict[str, str], now: float) -> Answer:
        """Answer a request for an access token (RFC 6749 sections 5 and 6)."""
        if question.get("grant_type") != "refresh_token":
            return 400, {"error": "unsupported_grant_type"}
        user = self.users.get(question.get("refresh_token", ""))
        if user is None:
            words = "Token has been expired or revoked."
            return 400, {"error": "invalid_grant", "error_description": words}
        return 200, {
            "access_token": self.issue(user, now),
            "token_type": "Bearer",
            "expires_in": self.lifetime_s,
        }

    def introspect(self, question: Dict[str, str], now: float) -> Answer:
        """Answer a mail server's question about an access token (RFC 7662)."""
        content, _, seal = question.get("token", "").partition(".")
        try:
            plain = base64.urlsafe_b64decode(content)
            genuine = hmac.compare_digest(base64.urlsafe_b64decode(seal), self._seal(plain))
        except ValueError:
            genuine = False
        if not genuine:
            return 200, {"active": False}
        found = json.loads(plain)
        active = now < found["exp"]
        answer = {"active": active, "username": found["user"], "exp": found["exp"]}
        return 200, answer if active else {"active": False, "reason": "expired"}

    def _seal(self, content: bytes) -> bytes:
        return hmac.new(self._secret, content, hashlib.sha256).digest()


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode()


class Handler(BaseHTTPRequestHandler):
    """Answers one HTTP request, and logs it."""

    login: Login

    def do_POST(self) -> None:
        """Answer /token and /introspect."""
        size = min(int(self.headers.get("Content-Length", "0")), QUESTION_BYTES_MAX)
        question = dict(urllib.parse.parse_qsl(self.rfile.read(size).decode()))
        answers = {"/token": self.login.token, "/introspect": self.login.introspect}
        path = urllib.parse.urlsplit(self.path).path
        if path not in answers:
            self.send_error(404)
            return
        status, answer = answers[path](question, time.time())
        told = {name: value for name, value in answer.items() if name != "access_token"}
        print(f"{path}: {status} {json.dumps(told)}", flush=True)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the library's
        """Log nothing else."""


def main() -> None:
    """Serve until the container stops."""
    settings = configuration(CONFIGURATION.read_text())
    if not SECRET.exists():
        SECRET.write_bytes(os.urandom(32))
    Handler.login = Login(settings, SECRET.read_bytes())
    port = int(settings["Socket"].partition(":")[2].partition("@")[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings["Certificate"])
    except OSError as error:
        sys.exit(f"{settings['Certificate']}: {error}")
    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)  # noqa: S104  # a lab's network is closed
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
