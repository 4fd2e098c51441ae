# Certificates of the lab's own authority. No public authority certifies the lab's names.
#
#   sh certify.sh             writes this host's certificate: /etc/ssl/maillab/NAME.pem
#   sh certify.sh authority   prints the authority
#   sh certify.sh issue NAME… prints a certificate for names; the authority is standard input
#
# Each is PEM, the private key first. The hosts of a topology may share the authority's folder
# as a volume: the first that needs the authority makes it, and all trust authority.pem there.
# DAYS is how long a certificate is valid.
set -eu
folder=/etc/ssl/maillab-authority
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 077

# openssl(1) reports its progress on standard error; show that only if it fails.
ssl() {
  openssl "$@" 2>"$work/words" || {
    cat "$work/words" >&2
    exit 1
  }
}

new_key() {
  ssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

authority() {
  if [ -e "$folder/authority.pem" ]; then
    cat "$folder/authority.key" "$folder/authority.pem"
    return
  fi
  new_key "$work/authority.key"
  # The extensions that RFC 5280 requires; Python checks them since 3.13.
  ssl req -x509 -new -key "$work/authority.key" -days 7300 -subj "/CN=maillab authority" \
    -addext keyUsage=critical,keyCertSign,cRLSign -out "$work/authority.pem"
  cat "$work/authority.key" "$work/authority.pem"
}

issue() {
  cat >"$work/issuer"
  names=$(printf ',DNS:%s' "$@")
  new_key "$work/key"
  ssl req -new -key "$work/key" -subj "/CN=$1" -out "$work/request"
  printf '%s\n' "subjectAltName=${names#,}" basicConstraints=critical,CA:FALSE \
    subjectKeyIdentifier=hash authorityKeyIdentifier=keyid >"$work/extensions"
  ssl x509 -req -in "$work/request" -CA "$work/issuer" -CAkey "$work/issuer" \
    -CAserial "$work/serial" -CAcreateserial -days "${DAYS:-3650}" -extfile "$work/extensions" \
    -out "$work/certificate"
  cat "$work/key" "$work/certificate"
}

case ${1:-} in
  authority) authority ;;
  issue)
    shift
    issue "$@"
    ;;
  *)
    name=$(cat /etc/hostname)
    mkdir -p "$folder" /etc/ssl/maillab
    exec 9>"$folder/lock"
    flock 9
    authority >"$work/both"
    if [ ! -e "$folder/authority.pem" ]; then
      chmod 644 "$work/authority.pem"
      mv "$work/authority.key" "$work/authority.pem" "$folder"
    fi
    issue "$name" <"$work/both" >"/etc/ssl/maillab/$name.pem"
    ;;
esac
