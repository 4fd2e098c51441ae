# PID 1 of a mail host: waits for its agent, applies what the topology says of
# this host, starts master and turns the mail log into the container's log.
until read -r first </etc/resolv.conf && [ "$first" = "# maillab" ]; do
  sleep 0.01
done
mapfile -t settings < <(sed -n 's/^[a-zA-Z]/&/p' /etc/postfix/host.cf 2>/dev/null)
postconf -e "myhostname = $(</etc/hostname)" "${settings[@]}" || exit 1
# Rows that this host has beside Debian's master.cf, or instead of its rows.
while read -r name kind rest; do
  postconf -M "$name/$kind=$name $kind $rest" || exit 1
done < <(sed -n 's/^[a-z0-9]/&/p' /etc/postfix/host-master.cf 2>/dev/null)
# Postfix waits up to two seconds before it trusts a fresh file.
touch -d '10 seconds ago' /etc/postfix/main.cf /etc/postfix/master.cf
: >>/var/log/mail.log
[ -d /var/spool/postfix/pid ] || tar -C /var/spool/postfix -xpf /opt/maillab/queue.tar
# Not "postfix start": its checks take seconds and were made with the image.
"$(postconf -h daemon_directory)/master" -w || true
# An ignored SIGCHLD stays ignored across exec, so that the kernel reaps for us.
trap '' CHLD
exec tail -n +1 -F /var/log/mail.log 2>/dev/null
