# PID 1 of a mail host: waits for its agent, applies this host's part of the
# topology, starts master(8) and prints the mail log as the container's log.
until read -r first </etc/resolv.conf && [ "$first" = "# maillab" ]; do
  sleep 0.01
done
if [ -n "${AS_INSTALLED:-}" ]; then
  # Debian's configuration, and nothing of ours but the log file.
  cp -a /opt/maillab/as-installed/. /
  name=$(</etc/hostname)
  sed -i "s/maillab-host\.maillab-domain\.invalid/$name/g; s/maillab-domain\.invalid/${name#*.}/g" \
    /etc/postfix/main.cf /etc/mailname
  echo "maillog_file = /var/log/mail.log" >>/etc/postfix/main.cf
fi
mapfile -t settings < <(sed -n 's/^[a-zA-Z]/&/p' /etc/postfix/host.cf 2>/dev/null)
[ -n "${AS_INSTALLED:-}" ] || settings+=("myhostname = $(</etc/hostname)")
[ ${#settings[@]} = 0 ] || postconf -e "${settings[@]}" || exit 1
# Rows that the topology adds to Debian's master.cf, or that replace its rows.
while read -r name kind rest; do
  postconf -M "$name/$kind=$name $kind $rest" || exit 1
done < <(sed -n 's/^[a-z0-9]/&/p' /etc/postfix/host-master.cf 2>/dev/null)
# The topology's own preparations for this host, such as users' passwords.
[ ! -f /etc/postfix/host-setup.sh ] || bash -eu /etc/postfix/host-setup.sh || exit 1
# Postfix waits up to two seconds before it trusts a fresh file.
touch -d '10 seconds ago' /etc/postfix/main.cf /etc/postfix/master.cf
: >>/var/log/mail.log
[ -d /var/spool/postfix/pid ] || tar -C /var/spool/postfix -xpf /opt/maillab/queue.tar
if [ -n "${AS_INSTALLED:-}" ]; then
  # As Debian's systemd unit does first: fill the jail. Up to Debian 12 the image did so,
  # except for the files that differ from host to host.
  if grep -qs configure-instance /lib/systemd/system/postfix@.service; then
    cp -L /etc/hosts /etc/resolv.conf /var/spool/postfix/etc
  else
    postfix check
  fi
fi
# Not "postfix start": its checks take seconds, and the image's build ran them.
"$(postconf -h daemon_directory)/master" -w || true
# An ignored SIGCHLD stays ignored across exec, so that the kernel reaps for us.
trap '' CHLD
exec tail -n +1 -F /var/log/mail.log 2>/dev/null
