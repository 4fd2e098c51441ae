"""The main.cf settings that a lab cannot have, and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

# Parameters that do not apply in the lab (postconf(5)), and why.
_LEFT_OUT = [
    (re.compile(pattern), why)
    for pattern, why in (
        (r"inet_protocols", "the lab repeats a report by IPv4"),
        (
            (
                r".*_directory|.*_directories|.*_path|mail_owner|setgid_group|alias_database"
                r"|maillog_\w+|syslog_\w+|debug\w+|import_environment|smtp_bind_address6?"
            ),
            "it is about that machine's installation",
        ),
        (r"(non_)?smtpd_milters|milter_\w+", "no Milter runs here"),
        (r"content_filter|smtpd_proxy_filter", "no filter runs here"),
        (r"(smtpd?|lmtp)_sasl_\w+|broken_sasl_auth_clients", "no SASL server is set up here"),
        (
            (
                r"(smtpd?|lmtp|tlsproxy)_tls_(?=\w*+\Z)"
                r"(\w*cert\w*|\w*key\w*|CA\w+|chain\w*|dh\w+|session\w+)"
                r"|smtpd_tls_(security_level|auth_only|wrappermode)|smtpd_(use|enforce)_tls"
            ),
            "the keys and certificates are that machine's",
        ),
    )
]
_COMMANDS = re.compile(r"mailbox_command(_maps)?|allow_mail_to_commands")
_TRANSPORT = re.compile(r"\w+_transport")
_STOCK_TRANSPORTS = {
    "discard", "error", "lmtp", "local", "relay", "retry", "smtp", "virtual",
}  # fmt: skip
_ASKS_OUTSIDE = re.compile(
    r"(?<!\w)(?:check_policy_service|reject_rbl_client|reject_rhsbl_\w++|permit_dnswl_client"
    r"|permit_rhswl_client)\s++(?:\{[^{}]*\}|[^\s,]+)[\s,]*"
)


def why_not(
    name: str, value: str, *, services: AbstractSet[str] = frozenset(), allow_commands: bool
) -> str:
    """Return why a setting is left out, or "" if the lab can have it.

    ``services`` are the report's usable services, in addition to the stock ones.
    """
    for pattern, why in _LEFT_OUT:
        if pattern.fullmatch(name):
            return why
    if value and _COMMANDS.fullmatch(name) and not allow_commands:
        return "it runs commands (--allow-commands)"
    if _TRANSPORT.fullmatch(name) and value:
        service = value.partition(":")[0]
        known = _STOCK_TRANSPORTS | services
        if service not in known or ":unix:" in value or ":inet:" in value:
            return "there is no such service here"
    return ""


def without_questions(value: str) -> tuple[str, list[str]]:
    """Split a list of restrictions: without those that ask an outside service, and those."""
    asked = [restriction.strip(" ,") for restriction in _ASKS_OUTSIDE.findall(value)]
    return (_ASKS_OUTSIDE.sub("", value).strip().removesuffix(",") if asked else value), asked
