"""Users log in to the SMTP server (RFC 4954): where Postfix asks for their passwords.

Cyrus SASL's own database; for Dovecot see ``maillab.pop3``. The settings that
come back are what main.cf needs to offer AUTH; nobody may relay by them yet that
smtpd_relay_restrictions does not let (permit_sasl_authenticated is in its default
since 2.10).
"""

from __future__ import annotations

from collections.abc import Mapping

from maillab.postfix import MailHost

_FOLDER = "/etc/postfix/sasl"
_CYRUS = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: PLAIN LOGIN
"""


def cyrus(host: MailHost, passwords: Mapping[str, str]) -> dict[str, str]:
    """Keep users' passwords in /etc/sasldb2; returns the settings that use it."""
    host.write(f"{_FOLDER}/smtpd.conf", _CYRUS)
    for user, password in passwords.items():
        host.run("saslpasswd2", "-p", "-c", "-u", host.fqdn, user, stdin=password)
    # smtpd(8) reads it after it gave up root's rights.
    host.run("chgrp", "postfix", "/etc/sasldb2")
    return {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "cyrus",
        # Some of Debian's releases look there by themselves.
        "cyrus_sasl_config_path": _FOLDER,
    }
