"""The servers of this image: how each starts, what its log says, and where its rows are."""

from __future__ import annotations

from parts import Part

# In memory, see compose/hosting.yaml; and the copies with which each start of a lab begins.
DATA = "/var/lib/tables"
FRESH = "/opt/maillab/data"

_POSTGRESQL_READS = (
    r"^\S*@\S* (?:LOG:  (?:statement: (?:SELECT |set client_encoding )|connection "
    r"|disconnection: |checkpoint |could not|unexpected EOF)|FATAL:  |DETAIL:  |HINT:  )"
)
_MARIADB_READS = (
    r"\[(?:Note|Warning)\]"
    r"|^(?:\d{6} [ \d:]{8})?\s*\d+ (?:Connect|Quit|Ping|Init DB|Query\s+(?:SELECT|SET NAMES) )"
)
_OPENLDAP_READS = r"\bconn=\d+ (?:fd=\d+|op=\d+ (?:BIND|UNBIND|SRCH|SEARCH|RESULT|ABANDON))\b"

PARTS = {
    "mariadb": Part(
        ("mariadbd", "--defaults-file=/etc/tables/mariadb.cnf"),
        "/etc/tables/mariadb.cnf",
        ports=(3306,),
        user="mysql",
        ready="mariadbd: ready for connections",
        log="/run/mysqld/general",
        reads=_MARIADB_READS,
    ),
    "openldap": Part(
        # Beside the level "stats" for what it prints, nothing for syslogd(8).
        ("slapd", "-d", "stats", "-h", "ldap://", "-f", "/etc/tables/slapd.conf"),
        "/etc/tables/slapd.conf",
        ports=(389,),
        ready="slapd starting",
        reads=_OPENLDAP_READS,
    ),
    "postgresql": Part(
        (
            *("/opt/maillab/postgresql/postgres", "-D", f"{DATA}/postgresql"),
            *("-c", "config_file=/etc/tables/postgresql.conf"),
            *("-c", "hba_file=/etc/tables/pg_hba.conf"),
            *("-c", f"data_directory={DATA}/postgresql"),
        ),
        "/etc/tables/postgresql.conf",
        ports=(5432,),
        user="postgres",
        ready="database system is ready to accept connections",
        reads=_POSTGRESQL_READS,
    ),
}
