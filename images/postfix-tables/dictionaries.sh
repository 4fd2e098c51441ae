# Writes a mail host's files of credentials: /etc/postfix/KIND-TABLE.cf, which Postfix may read.
#
#   sh dictionaries.sh SERVER   KIND is pgsql, mysql, ldap or sqlite; TABLE is one of the site's
#
# Each host of "hosting" keeps its tables on SERVER, or for sqlite in /etc/postfix/site.sqlite.
set -eu
server=$1
cd /etc/postfix

sql() {
  cat <<END
user = postfix
password = secret
dbname = mail
query = SELECT $2 FROM $1 WHERE $3 = '%s'
END
}

ldap() {
  cat <<END
server_host = ldap://$server
version = 3
bind = yes
bind_dn = cn=postfix,dc=example,dc=com
bind_pw = secret
search_base = ou=$1,dc=example,dc=com
query_filter = ($3=%s)
result_attribute = $2
END
}

file() {
  cat >"$1"
  chown root:postfix "$1"
  chmod 640 "$1"
}

while read -r table result key attribute name; do
  for kind in pgsql mysql; do
    { echo "hosts = $server"; sql "$table" "$result" "$key"; } | file "$kind-$table.cf"
  done
  { echo "dbpath = /etc/postfix/site.sqlite"; sql "$table" "$result" "$key" | grep ^query; } |
    file "sqlite-$table.cf"
  ldap "$table" "$attribute" "$name" | file "ldap-$table.cf"
done <<END
domains name name associatedDomain associatedDomain
users address address mail mail
aliases destination address rfc822MailMember cn
END
chown root:postfix site.sqlite
chmod 640 site.sqlite
