"""The filters of both images: how each starts, its configuration, and where it listens.

Those that speak to Postfix about mail are in images/filters, those about names in images/resolver.
"""

from __future__ import annotations

from parts import Part

_MILTER = r"(?m)^Socket\s+(?:inet6?:(?P<port>\d+)(?:@\S+)?|(?:local|unix):(?P<path>\S+))"

# The daemon trusts the lab's authority, as it does public ones elsewhere.
_MTA_STS = """\
export SSL_CERT_FILE=/etc/ssl/maillab-authority/authority.pem
exec mta-sts-daemon -c /etc/mta-sts-daemon.yml
"""

_POSTSRSD = """\
[ -e /etc/postsrsd.secret ] || openssl rand -base64 18 >/etc/postsrsd.secret
exec /usr/share/postsrsd/postsrsd-systemd-launcher
"""

PARTS = {
    "authcheck": Part(("python3", "/opt/maillab/authcheck.py"), "/etc/authcheck.conf", _MILTER),
    # No filter, but a program beside a mail host, too: the provider's tokens (XOAUTH2).
    "oauth2": Part(("python3", "/opt/maillab/oauth2.py"), "/etc/oauth2.conf", _MILTER),
    "opendkim": Part(
        ("opendkim", "-f", "-x", "/etc/opendkim.conf"),
        "/etc/opendkim.conf",
        _MILTER,
        # Names (libunbound).
        remembers=True,
    ),
    "opendmarc": Part(
        ("opendmarc", "-f", "-c", "/etc/opendmarc.conf"), "/etc/opendmarc.conf", _MILTER
    ),
    "mta-sts-resolver": Part(
        ("sh", "-c", _MTA_STS),
        "/etc/mta-sts-daemon.yml",
        r"(?m)^(?:port: (?P<port>\d+)|path: (?P<path>\S+))",
        ports=(8461,),
        database="/var/lib/mta-sts",
        remembers=True,
    ),
    # A program of the user's.
    "own": Part(("/etc/own/filter",), "/etc/own/filter.conf", _MILTER, remembers=True),
    # A web server for MTA-STS policies.
    "policyhost": Part(
        ("python3", "/opt/maillab/policyhost.py"),
        "/etc/policyhost.conf",
        r"(?m)^Port (?P<port>\d+)",
    ),
    "policyd-spf": Part(
        ("python3", "/opt/maillab/policyserver.py"),
        "/etc/postfix-policyd-spf-python/policyd-spf.conf",
        ports=(10031,),
    ),
    "postgrey": Part(
        ("sh", "-c", ". /etc/default/postgrey; exec postgrey $POSTGREY_OPTS"),
        "/etc/default/postgrey",
        r"--(?:inet=(?:[^\s\"]+:)?(?P<port>\d+)|unix=(?P<path>[^\s\"]+))",
        database="/var/lib/postgrey",
        remembers=True,
    ),
    "postsrsd": Part(
        # Debian's own start, with a secret of this lab's.
        (
            "sh",
            "-c",
            _POSTSRSD,
        ),
        "/etc/default/postsrsd",
        r"(?m)^SRS_(?:FORWARD|REVERSE)_PORT=(?P<port>\d+)",
        ports=(10001, 10002),
    ),
    "rspamd": Part(
        ("rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd"),
        "/etc/rspamd/local.d/worker-proxy.inc",
        r"(?m)^bind_socket = \"(?:127\.0\.0\.1:(?P<port>\d+)|(?P<path>/[^\s\"]+))",
        database="/var/lib/rspamd",
        remembers=True,
    ),
    "unbound": Part(
        ("unbound", "-d", "-p", "-c", "/etc/unbound/unbound.conf"),
        "/etc/unbound/unbound.conf",
        r"(?m)^ *port: (?P<port>\d+)",
        ports=(53,),
        remembers=True,
        caches_names=True,
    ),
}
