# Prepares the image's Dovecot for its start: configuration and users.
rm -rf /etc/dovecot/dovecot.conf /etc/dovecot/conf.d
mkdir /etc/dovecot/conf.d
cp /opt/maillab/dovecot.conf /etc/dovecot/dovecot.conf
# All mailboxes of users that Dovecot has from a file belong to this user.
groupadd --gid 5000 vmail
useradd --uid 5000 --gid vmail --home-dir /nonexistent --shell /usr/sbin/nologin vmail
install -d -o vmail -g vmail -m 700 /var/vmail
# Users whom the system knows, as on every mail host.
for user in alice bob carol dave joe; do
  useradd --create-home --shell /bin/sh "$user"
done
# The lab's clock expects the library here, on every architecture.
ln -s /usr/lib/*/faketime/libfaketime.so.1 /opt/maillab/libfaketime.so.1
# The harness that builds the image reads this line.
dpkg-query -W -f 'maillab: installed ${Version}\n' dovecot-core
