# The verbs of a bare host for floor.py: each line on standard input is a command, and its
# answer is "ok" or "failed". The verbs use bash itself where they can, so that nearly all of
# the cost is Postfix's.
set -u
MAIN=/etc/postfix/main.cf
QUEUE=/var/spool/postfix
# A copy of the files below /etc that a scenario changes.
KEPT=/run/floor
MESSAGE=$'From: bob@example.net\r\nTo: floor@example.org\r\nSubject: floor\r\n\r\nfloor\r'

mkfifo /run/pause
exec 4<>/run/pause
if [ -f $MAIN ]; then
  until (: </dev/tcp/127.0.0.1/25) 2>/dev/null; do read -r -t 0.05 -u 4; done
  mkdir -p $KEPT/postfix
  cp -a $MAIN $KEPT/postfix/
  cp -a /etc/aliases* $KEPT/
  # Follow the log as the harness does; most of its lines report no delivery.
  exec 3< <(exec tail -s 0.05 -n 0 -F /var/log/mail.log 2>/dev/null | grep --line-buffered 'status=')
fi

# Stop Postfix, delete its mail, and restore the configuration that the lab started with.
fresh() {
  stop
  rm -rf /var/mail/* /home/*/Maildir $QUEUE/{incoming,active,deferred,defer,bounce}/*
  cp -a $KEPT/. /etc/
}

stop() {
  local master name
  read -r master <$QUEUE/pid/master.pid && read -r name 2>/dev/null <"/proc/$master/comm" || return 0
  [ "$name" = master ] || return 0
  kill "$master"
  while kill -0 -- "-$master" 2>/dev/null; do read -r -t 0.005 -u 4; done
  return 0
}

start() {
  /usr/lib/postfix/sbin/master -w
}

# configure "NAME = VALUE"...
configure() {
  local text="" line setting
  while IFS= read -r line; do
    for setting; do
      [ "${line%% =*}" = "${setting%% =*}" ] && continue 2
    done
    text+=$line$'\n'
  done <$MAIN
  printf '%s' "$text" >$MAIN
  printf '%s\n' "$@" >>$MAIN
  # Postfix waits up to two seconds before it trusts a fresh file.
  touch -d '10 seconds ago' $MAIN
}

# table NAME LINE...: a lookup table of the default type.
table() {
  printf '%s\n' "${@:2}" >"/etc/postfix/$1"
  postmap "/etc/postfix/$1"
}

aliases() {
  printf '%s\n' 'postmaster: root' "$@" >/etc/aliases
  newaliases
}

# send FROM TO...
send() {
  sendmail -i -f "$1" -- "${@:2}" <<<"${MESSAGE//$'\r'/}"
}

# smtp ADDRESS CODE FROM TO...: the reply to each RCPT is CODE.
smtp() {
  local to code=$2
  exec 5<>"/dev/tcp/$1/25" || return 1
  reply 220 && ask 250 "EHLO $HOSTNAME" && ask 250 "MAIL FROM:<$3>" || return 1
  for to in "${@:4}"; do
    ask "$code" "RCPT TO:<$to>" || return 1
  done
  [ "$code" != 250 ] || { ask 354 DATA && ask 250 "$MESSAGE"$'\n.'; } || return 1
  ask 221 QUIT
  exec 5>&-
}

ask() {
  printf '%s\r\n' "$2" >&5
  reply "$1"
}

reply() {
  local line
  while IFS= read -r -t 60 -u 5 line; do
    [ "${line:3:1}" = - ] && continue
    [ "${line:0:3}" = "$1" ] && return
    break
  done
  echo "the server says ${line:-nothing}, not $1" >&2
  return 1
}

# logged REGEX...: wait for a line for each, in any order.
logged() {
  local line regex missing
  while [ $# -gt 0 ]; do
    IFS= read -r -t 60 -u 3 line || { echo "not logged: $*" >&2; return 1; }
    missing=()
    for regex; do
      [[ $line =~ $regex ]] || missing+=("$regex")
    done
    set -- ${missing[@]+"${missing[@]}"}
  done
}

# stored TEXT FILE...: each file has the message.
stored() {
  local file text
  for file in "${@:2}"; do
    # A file that cannot be read leaves the variable as it is.
    text=""
    IFS= read -r -d '' text <"$file"
    [[ $text == *"$1"* ]] || { echo "$file: no $1" >&2; return 1; }
  done
}

echo ok
while IFS= read -r line; do
  if eval "$line"; then echo ok; else echo failed; fi
done
