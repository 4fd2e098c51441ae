"""The other server's answer, as a log line reports it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAID = re.compile(r"host \S+ said: ([45]\d\d.*)")
_IN_REPLY = " (in reply to "
_GREETED = re.compile(r"host \S+ refused to talk to me: ([45]\d\d.*)")
_TO_ITSELF = re.compile(r"connect to \S+?\[(?:127\.[\d.]+|::1)\]")
_STAGES = {"MAIL FROM": "MAIL", "RCPT TO": "RCPT", "DATA": "DATA", "end of DATA": "end of data",
           "EHLO": "EHLO", "HELO": "EHLO"}  # fmt: skip


@dataclass(frozen=True)
class Reason:
    """A reason for which a real server gives a reply: ``settings`` of its main.cf.

    ``keeps_sender`` if the reason is the sender's address, which is then sent as reported.
    """

    why: str
    settings: tuple[tuple[str, str], ...] = ()
    keeps_sender: bool = False


# Replies that Postfix's smtpd(8) gives, the stages of its sessions, and their reasons.
_REASONS = tuple(
    (re.compile(pattern), stages, reason)
    for pattern, stages, reason in (
        (
            r"530 5\.7\.0 .*STARTTLS",
            ("MAIL",),
            Reason(
                "requires STARTTLS",
                (("smtpd_tls_security_level", "encrypt"), ("smtpd_tls_cert_file", "none")),
            ),
        ),
        (
            r"504 5\.5\.2 .*Sender address rejected: need fully-qualified address",
            ("MAIL", "RCPT"),
            Reason(
                "takes no sender without a domain",
                (("smtpd_sender_restrictions", "reject_non_fqdn_sender"),),
                keeps_sender=True,
            ),
        ),
        (
            r"454 4\.7\.1 .*Relay access denied",
            ("RCPT",),
            Reason(
                "does not relay",
                (
                    ("mydestination", "localhost"),
                    ("smtpd_relay_restrictions", "defer_unauth_destination"),
                ),
            ),
        ),
        (
            r"55[04] 5\.7\.1 .*Relay access denied",
            ("RCPT",),
            Reason(
                "does not relay",
                (
                    ("mydestination", "localhost"),
                    ("smtpd_relay_restrictions", "reject_unauth_destination"),
                ),
            ),
        ),
        (
            r"550 5\.1\.1 .*(?i:user unknown|unknown user|no such user|does not exist)",
            ("RCPT",),
            Reason("has no such user"),
        ),
    )
)
_OF_ONE_RECIPIENT = ("RCPT", "DATA", "end of data")


@dataclass(frozen=True)
class Answer:
    """The other server's answer, to be played: a reply at an SMTP stage, or no connection.

    ``absent`` is "refused" or "silent". ``recipient`` is the only recipient with this
    answer, or "" for all.
    """

    stage: str = ""
    reply: str = ""
    absent: str = ""
    recipient: str = ""

    @property
    def of_one_recipient(self) -> bool:
        """Return True if a server can give this answer for one recipient only."""
        return self.stage in _OF_ONE_RECIPIENT

    @property
    def reason(self) -> Reason | None:
        """The reason for which the lab's real server gives this reply, or None."""
        return next(
            (
                reason
                for pattern, stages, reason in _REASONS
                if self.stage in stages and pattern.match(self.reply)
            ),
            None,
        )

    @property
    def settings(self) -> dict[str, str]:
        """What makes the lab's server give this reply; without delay at MAIL (postconf(5))."""
        settings = dict(self.reason.settings) if self.reason else {}
        if self.stage == "MAIL" and "smtpd_sender_restrictions" in settings:
            settings["smtpd_delay_reject"] = "no"
        return settings

    @property
    def is_played(self) -> bool:
        """Return True if the lab only repeats a reply that no reason of its own brings about."""
        return bool(self.reply) and self.reason is None

    def __str__(self) -> str:
        """Return what the server does in the lab."""
        if self.reason:
            return f"{self.reason.why}, and says so: {self.reply!r}"
        if self.absent:
            return {"refused": "refuses connections", "silent": "does not answer"}[self.absent]
        whom = f" of {self.recipient}" if self.recipient else ""
        return f"says {self.reply!r} at {self.stage}{whom}"


def answered(reply: str) -> Answer | None:
    """Return the answer in a delivery's text, or None if it has none to play."""
    quoted, greeted = _SAID.search(reply), _GREETED.search(reply)
    text, _, command = quoted[1].partition(_IN_REPLY) if quoted else ("", "", "")
    if quoted and command.endswith(")") and not (greeted and greeted.start() < quoted.start()):
        stage = _STAGES.get(command[:-1].removesuffix(" command"), "")
        return Answer(stage, text) if stage else None
    if greeted:
        return Answer("greeting", greeted[1])
    if _TO_ITSELF.match(reply):
        # Nobody listens on the reporter's own host, and nobody does on the lab's.
        return None
    if "Connection refused" in reply:
        return Answer(absent="refused")
    if "Connection timed out" in reply:
        return Answer(absent="silent")
    return None
