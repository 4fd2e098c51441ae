"""SMTP AUTH (RFC 4954): the password backends of a Postfix server.

Cyrus SASL has its own database; Postfix asks Dovecot through a socket. Each function
returns the main.cf settings that offer AUTH. smtpd_relay_restrictions decides who may
relay then (permit_sasl_authenticated is in its default since 2.10).
"""

from __future__ import annotations

from collections.abc import Mapping

from maillab.hosts import pop3
from maillab.hosts.postfix import PostfixHost

_FOLDER = "/etc/postfix/sasl"
_CYRUS = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: PLAIN LOGIN
"""
# The same in the languages of 2.3 and 2.4.
_SOCKET = """\
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
"""
_DOVECOT = f"auth_mechanisms = plain login\n{_SOCKET}"
_SETTINGS = {
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_sasl_type": "dovecot",
    "smtpd_sasl_path": "private/auth",
}
_OAUTH2 = "/etc/dovecot/oauth2.conf"
_OAUTH2_SINCE_2_4 = """\
ssl_client_ca_file = {trust}
oauth2 {{
  introspection_mode = post
  introspection_url = {url}
  username_attribute = username
  active_attribute = active
  active_value = true
}}
passdb oauth2 {{
}}
"""
_OAUTH2_UNTIL_2_3 = f"""\
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {_OAUTH2}
}}
"""
# A file of its own, until 2.3.
_OAUTH2_FILE = """\
introspection_mode = post
introspection_url = {url}
username_attribute = username
active_attribute = active
active_value = true
tls_ca_cert_file = {trust}
"""


def cyrus(host: PostfixHost, passwords: Mapping[str, str]) -> dict[str, str]:
    """Store users' passwords in /etc/sasldb2; return the settings that use it."""
    host.write(f"{_FOLDER}/smtpd.conf", _CYRUS)
    for user, password in passwords.items():
        host.run("saslpasswd2", "-p", "-c", "-u", host.fqdn, user, stdin=password)
    # smtpd(8) reads the file after it has dropped root privileges.
    host.run("chgrp", "postfix", "/etc/sasldb2")
    return {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "cyrus",
        # Some Debian releases look there by default.
        "cyrus_sasl_config_path": _FOLDER,
    }


def dovecot(host: PostfixHost, passwords: Mapping[str, str]) -> dict[str, str]:
    """Start Dovecot, and return the settings that let Postfix ask it.

    The users are those of the host, and may also read their mail by POP3.
    """
    pop3.serve(host, passwords, settings=_DOVECOT)
    return dict(_SETTINGS)


def xoauth2(host: PostfixHost, url: str, trust: str) -> dict[str, str]:
    """Start Dovecot, and return the settings that let Postfix ask it for XOAUTH2 only.

    Dovecot asks ``url`` about each token (RFC 7662), and trusts the certificates of the
    authority in the file ``trust``.
    """
    settings = _OAUTH2_UNTIL_2_3
    if pop3.since_2_4(host):
        settings = _OAUTH2_SINCE_2_4.format(url=url, trust=trust)
    else:
        host.write(_OAUTH2, _OAUTH2_FILE.format(url=url, trust=trust))
    pop3.serve(host, {}, settings=f"auth_mechanisms = xoauth2\n{settings}{_SOCKET}")
    return dict(_SETTINGS)
