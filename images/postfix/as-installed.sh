# Configures Postfix as Debian's package does on a new host, with the answers that it
# proposes ("Internet Site"), and keeps the files in /opt/maillab/as-installed. The
# host's name stands in them as maillab-host.maillab-domain.invalid: an image has none.
stubs=$(mktemp -d)
cat >"$stubs/hostname" <<'END'
#!/bin/sh
case $1 in
  -f | --fqdn) echo maillab-host.maillab-domain.invalid ;;
  -d | --domain) echo maillab-domain.invalid ;;
  *) echo maillab-host ;;
esac
END
# invoke-rc.d(8) asks it, and then does not start Postfix.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x "$stubs/hostname" /usr/sbin/policy-rc.d
rm -f /etc/postfix/main.cf /etc/postfix/master.cf /etc/aliases /etc/aliases.* /etc/mailname
echo PURGE | debconf-communicate postfix
# Postfix's package makes procmail the mailbox_command if it can be executed.
mode=$(stat -c %a /usr/bin/procmail)
chmod a-x /usr/bin/procmail
PATH=$stubs:$PATH dpkg-reconfigure -f noninteractive postfix
chmod "$mode" /usr/bin/procmail
rm -r "$stubs" /usr/sbin/policy-rc.d
kept=/opt/maillab/as-installed
mkdir -p "$kept"
cd /
cp -a --parents etc/postfix/main.cf etc/postfix/master.cf etc/mailname etc/aliases* "$kept"
# Up to Debian 12 the service first fills the jail, which takes long: it hashes certificates.
if grep -qs configure-instance /lib/systemd/system/postfix@.service; then
  cp -a var/spool/postfix /tmp/queue
  /usr/lib/postfix/configure-instance.sh ""
  for folder in etc lib usr; do cp -a --parents "var/spool/postfix/$folder" "$kept"; done
  rm -r var/spool/postfix
  mv /tmp/queue var/spool/postfix
fi
