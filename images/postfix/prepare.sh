# Makes the image's Postfix ready to start: version, configuration, users, maps.
version=$1
found=$(postconf -h mail_version)
case $found in
  "$version" | "$version".*) ;;
  *) echo "This Debian suite now has Postfix $found, not $version." >&2; exit 1 ;;
esac

cp /opt/maillab/main.cf /etc/postfix/main.cf
[ "$version" = 3.5 ] && postconf -e compatibility_level=2
# A chroot is what one FAQ entry is about; Debian up to 12 has it everywhere.
postconf -F '*/*/chroot=n'
# In a local table no program of the lab is told of mail by root's cron or the like.
database=$(postconf -h default_database_type)
postconf -e "alias_maps = $database:/etc/aliases" "alias_database = $database:/etc/aliases"
printf 'postmaster: root\n' >/etc/aliases
for user in alice bob carol dave joe; do
  useradd --create-home --shell /bin/sh "$user"
done
newaliases
# Where the lab's clock finds it, whatever the architecture.
ln -s /usr/lib/*/faketime/libfaketime.so.1 /opt/maillab/libfaketime.so.1
# The list that configure() checks against, since asking postconf takes longer.
postconf -d 2>/dev/null | sed 's/ =.*//' >/opt/maillab/parameters
postfix check
rm -f /var/log/mail.log
# The queue is a volume in memory, which comes up empty.
tar -C /var/spool/postfix -cf /opt/maillab/queue.tar .
