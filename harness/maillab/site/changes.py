"""The changes between versions of Postfix that scenarios show.

A scenario asks ``lab.has("…")`` with a name from this table, and never for a version.
Postfix's authors change several stable releases at a time, so a change has one release
for each series.
"""

from __future__ import annotations

from dataclasses import dataclass

from maillab.errors import UnknownName
from maillab.site.versions import Version

# The number by which Debian calls a release.
DEBIAN = {"bullseye": 11, "bookworm": 12, "trixie": 13, "forky": 14}


@dataclass(frozen=True)
class Change:
    """A change: what a user sees before it and after it.

    ``since`` has the first release of each series that has the change, in order; later
    series have it, too. ``debian`` is the first Debian release with a change that depends
    on Debian's other packages instead.
    """

    before: str
    after: str
    since: tuple[str, ...] = ()
    debian: int = 0

    @property
    def first(self) -> str:
        """Return the first release of each series with the change, or the Debian release."""
        return ", ".join(self.since) or f"Debian {self.debian}"

    def in_version(self, version: Version, debian: int) -> bool:
        """Return True if this version of Postfix, on this Debian release, has the change."""
        if self.debian:
            return debian >= self.debian
        if version >= self.since[-1]:
            return True
        return any(
            version.series == Version(first).series and version >= first for first in self.since
        )


CHANGES = {
    # Postfix.
    "local_login_sender_maps": Change(
        "there is no such parameter; a local user may name any sender",
        "local_login_sender_maps limits the senders of a local user, by name or numeric id",
        since=("3.6.0",),
    ),
    "known_tcp_ports": Change(
        'in a jail without etc/services: "unknown service: smtp/tcp"',
        "Postfix has the mail ports built in (known_tcp_ports), and mail leaves such a jail",
        since=("3.6.0",),
    ),
    "passing to transport logged": Change(
        "local(8) logs nothing when it passes mail to mailbox_transport",
        'the log has "passing <recipient> to transport=…"',
        since=("3.6.0",),
    ),
    "one text for a bad certificate": Change(
        'the certificate of an unknown CA: "Server certificate not trusted"',
        '"Server certificate not verified"',
        since=("3.6.0",),
    ),
    "500 for unknown commands": Change(
        "an unknown command: 502 5.5.2",
        "500 5.5.2",
        since=("3.7.0",),
    ),
    "SASL: Connect to Dovecot auth socket": Change(
        'a socket that smtpd(8) cannot use: "SASL: Connect to private/auth failed: …"',
        "\"SASL: Connect to Dovecot auth socket 'private/auth' failed: …\"",
        since=("3.7.0",),
    ),
    "smtp_per_request_deadline": Change(
        "smtp_per_record_deadline limits each reply, and is the only name",
        "smtp_per_request_deadline limits a request with its replies; the old name is its default",
        since=("3.7.0",),
    ),
    "smtpd_min_data_rate": Change(
        "under stress smtpd_timeout limits each line of a message",
        "it limits the whole message, plus its size over smtpd_min_data_rate",
        since=("3.7.0",),
    ),
    "postfix reports without a terminal": Change(
        "postfix(1) and postlog(1) report errors on standard error only if it is a terminal",
        "always: in a cron job, too",
        since=("3.8.0",),
    ),
    "smtpd_forbid_bare_newline=normalize": Change(
        "SMTP smuggling is blocked only if smtpd_forbid_bare_newline is set",
        "blocked by default",
        since=("3.9.0",),
    ),
    "check_relay_domains removed": Change(
        "check_relay_domains works, with a warning",
        "check_relay_domains refuses all mail: 451 4.3.5 Server configuration error",
        since=("3.9.0",),
    ),
    "permit_mx_backup deprecated": Change(
        "no warning",
        "smtpd(8) warns that support for permit_mx_backup will be removed",
        since=("3.9.0",),
    ),
    "postconf names deprecated parameters": Change(
        "no warning",
        "postconf(1) warns of disable_dns_lookups and other deprecated parameters",
        since=("3.9.0",),
    ),
    "log opened before privileges are dropped": Change(
        "postsuper(1) fails if the user postfix may not write maillog_file",
        "it opens the file as root, and finishes",
        since=("3.6.16", "3.7.12", "3.8.7", "3.9.1", "3.10.0"),
    ),
    "TLSA mismatch in the log": Change(
        'TLSA records that do not match: only "Server certificate not verified"',
        'the log has "no matching DANE TLSA records", too',
        since=("3.6.0",),
    ),
    "smtp_tlsrpt_enable": Change(
        "there is no such parameter",
        "smtp_tlsrpt_enable = yes asks for reports on TLS sessions (TLSRPT)",
        since=("3.10.0",),
    ),
    "TLSRPT": Change(
        'smtp_tlsrpt_enable = yes: "TLSRPT is selected, but TLSRPT is not compiled in"',
        "smtp(8) sends a report on each TLS session to smtp_tlsrpt_socket_name, if the domain "
        "wants one",
        debian=13,
    ),
    "TLSRPT attributes of TLS policies": Change(
        'a policy with policy_type and the like is invalid: "invalid attribute name", mail waits',
        "they are read, for reports (TLSRPT_README)",
        since=("3.10.0",),
    ),
    "smtp_tls_enforce_sts_mx_patterns": Change(
        "MTA-STS: any MX host may take the mail if its certificate is for a name of the policy",
        "the name of the MX host must match the policy, and the certificate that name "
        "(if the plugin sends TLSRPT attributes)",
        since=("3.10.5",),
    ),
    "milter_default_action=shutdown": Change(
        "while a Milter is down: 220, then 451 4.7.1 at MAIL FROM; there is no action shutdown",
        "421 in the greeting, and the connection is closed",
        since=("3.7.20", "3.8.15", "3.9.9", "3.10.8", "3.11.0"),
    ),
    "virtual_maps deprecated": Change(
        "no warning",
        "postconf(1) warns that support for virtual_maps will be removed",
        since=("3.11.0",),
    ),
    "PIX workarounds with commas": Change(
        "the log lists PIX workarounds with spaces",
        "with commas",
        since=("3.11.0",),
    ),
    # Debian's packages of Postfix.
    "default_database_type=cdb": Change(
        "the default table type is hash",
        "it is cdb (Debian)",
        since=("3.11.0",),
    ),
    "hash deprecated": Change(
        "no warning",
        "newaliases(1) and postmap(1) advise against hash (Debian)",
        since=("3.11.0",),
    ),
    "postfix start fills the jail": Change(
        "configure-instance.sh fills the jail, at boot; "
        '"postfix check" warns of a file there that differs from the host\'s',
        '"postfix start" and "postfix check" fill the jail, and update an old file (Debian)',
        since=("3.9.1",),
    ),
    "postfix check prints what it updates": Change(
        '"postfix check" updates files in the jail silently',
        'it prints "updating /etc/resolv.conf => …" (Debian, from 3.10.3-3 on)',
        since=("3.10.4",),
    ),
    "no uucp service in master.cf": Change(
        "the master.cf that Debian ships has the service uucp",
        "it has the service only as a comment, as in Postfix's own file (Debian)",
        since=("3.10.0",),
    ),
    # Debian. Its package 3.10.13 for Debian 13 has the jail, and 3.10.6-4 for 14 has not.
    "no jail in master.cf": Change(
        "the master.cf that Debian ships runs smtpd(8) in the jail",
        "outside it",
        debian=14,
    ),
    "no libnss_dns needed": Change(
        "names are resolved in the jail only with a copy of libnss_dns",
        "etc/resolv.conf is enough (glibc 2.34)",
        debian=12,
    ),
}


def has(name: str, version: Version, debian: int) -> bool:
    """Return True if this version of Postfix, on this Debian release, has the named change."""
    if name not in CHANGES:
        raise UnknownName.among("change", name, list(CHANGES))
    return CHANGES[name].in_version(version, debian)
