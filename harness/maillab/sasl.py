"""Users log in to the SMTP server (RFC 4954): where Postfix asks for their passwords.

Cyrus SASL has a database of its own; Dovecot, which knows the users anyway, is
asked through a socket. The settings that come back are what main.cf needs to offer
AUTH; who may relay then, smtpd_relay_restrictions says (permit_sasl_authenticated
is in its default since 2.10).
"""

from __future__ import annotations

from collections.abc import Mapping

from maillab import pop3
from maillab.postfix import MailHost

_FOLDER = "/etc/postfix/sasl"
_CYRUS = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: PLAIN LOGIN
"""
# The same in the languages of 2.3 and 2.4.
_DOVECOT = """\
auth_mechanisms = plain login
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
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


def dovecot(host: MailHost, passwords: Mapping[str, str]) -> dict[str, str]:
    """Start Dovecot, and let Postfix ask it; returns the settings that do.

    The users are the host's, and may read their mail by POP3, too.
    """
    pop3.serve(host, passwords, settings=_DOVECOT)
    return {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "dovecot",
        "smtpd_sasl_path": "private/auth",
    }
