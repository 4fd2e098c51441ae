# Makes each server's data, with the mail site in it, so that a lab starts with copies.
cd /opt/maillab || exit
data=/var/lib/tables
useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin mysql
mkdir -p $data /opt/maillab/data /run/postgresql /run/mysqld /run/slapd /etc/tables
chown postgres /run/postgresql
chown mysql /run/mysqld
chown openldap /run/slapd
cp postgresql.conf pg_hba.conf mariadb.cnf slapd.conf /etc/tables
# slapd's file has the administrator's password.
chown root:openldap /etc/tables/slapd.conf
chmod 640 /etc/tables/slapd.conf
ln -s /usr/lib/*/faketime/libfaketime.so.1 /opt/maillab/libfaketime.so.1
ln -s /usr/lib/postgresql/*/bin /opt/maillab/postgresql

install -d -o postgres -m 700 $data/postgresql
# shellcheck disable=SC2016  # the inner shell expands them
setpriv --reuid postgres --regid postgres --clear-groups sh -euc '
  PATH=/opt/maillab/postgresql:$PATH
  initdb -D /var/lib/tables/postgresql --wal-segsize=1 --no-sync --locale=C.UTF-8 --encoding=UTF8
  rm /var/lib/tables/postgresql/postgresql.conf /var/lib/tables/postgresql/pg_hba.conf
  set -- -D /var/lib/tables/postgresql -o "-c config_file=/etc/tables/postgresql.conf -c hba_file=/etc/tables/pg_hba.conf -c data_directory=/var/lib/tables/postgresql"
  pg_ctl -w start -l /tmp/postgresql.log "$@"
  cd /
  createdb mail
  psql -q -v ON_ERROR_STOP=1 mail <<END
\i /opt/maillab/site.sql
CREATE ROLE postfix LOGIN PASSWORD '"'secret'"';
CREATE ROLE dovecot LOGIN PASSWORD '"'secret'"';
GRANT SELECT ON domains, users, aliases TO postfix, dovecot;
UPDATE pg_database SET datistemplate = false;
DROP DATABASE postgres;
DROP DATABASE template0;
DROP DATABASE template1;
VACUUM FREEZE;
CHECKPOINT;
END
  pg_ctl -w stop "$@"
'

mariadb-install-db --defaults-file=/etc/tables/mariadb.cnf --user=mysql --skip-test-db >/dev/null
mariadbd --defaults-file=/etc/tables/mariadb.cnf --user=mysql --bootstrap --skip-general-log <<END
FLUSH PRIVILEGES;
CREATE DATABASE mail;
USE mail;
$(cat site.sql)
CREATE USER postfix IDENTIFIED BY 'secret';
CREATE USER dovecot IDENTIFIED BY 'secret';
GRANT SELECT ON mail.* TO postfix, dovecot;
END

install -d -o openldap -m 700 $data/openldap
setpriv --reuid openldap --regid openldap --clear-groups \
  slapadd -q -f /etc/tables/slapd.conf -l site.ldif

mv $data/* /opt/maillab/data/
rm -f /run/*/*.pid /run/*/.s.PGSQL* /run/mysqld/* /tmp/postgresql.log
# The packages' own data, which no server here has.
rm -rf /var/lib/postgresql/* /var/lib/mysql/* /var/lib/ldap/* /etc/postgresql /etc/mysql
