# Prepares the image's Postfix for its start: version, configuration, users, maps.
version=$1
found=$(postconf -h mail_version)
case $found in
  "$version" | "$version".*) ;;
  *) echo "This Debian suite now has Postfix $found, not $version." >&2; exit 1 ;;
esac

sh -eu /opt/maillab/as-installed.sh
cp /opt/maillab/main.cf /etc/postfix/main.cf
[ "$version" = 3.5 ] && postconf -e compatibility_level=2
# Debian up to 12 runs services in a chroot. Here only the scenarios of one FAQ entry do.
postconf -F '*/*/chroot=n'
# The local table only: the built-in default may add a NIS map (postconf(5) alias_maps).
database=$(postconf -h default_database_type)
postconf -e "alias_maps = $database:/etc/aliases" "alias_database = $database:/etc/aliases"
printf 'postmaster: root\n' >/etc/aliases
for user in alice bob carol dave joe; do
  useradd --create-home --shell /bin/sh "$user"
done
newaliases
# The lab's clock expects the library here, on every architecture.
ln -s /usr/lib/*/faketime/libfaketime.so.1 /opt/maillab/libfaketime.so.1
# The list that configure() checks against, since running postconf(1) takes longer.
postconf -d 2>/dev/null | sed 's/ =.*//' >/opt/maillab/parameters
postfix check
rm -f /var/log/mail.log
# The queue is a volume in memory, which is empty at the start.
tar -C /var/spool/postfix -cf /opt/maillab/queue.tar .
# The harness that builds the image reads this line.
dpkg-query -W -f 'maillab: installed ${Version}\n' postfix
