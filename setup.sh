#!/bin/sh
# Makes the virtual environment $1 with the locked dependencies and maillab itself.
# Called by make; run by hand it does the same.
set -eu
venv=${1:-.venv}

say() { printf '%s\n' "$*" >&2; }

# The first Python that is new enough and can make environments.
find_python() {
  for python in "${PYTHON:-python3}" python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$python"
      return
    fi
  done
  return 1
}

if ! python=$(find_python); then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "No Python 3.11 with venv here; installing python3-venv from this machine's packages."
    apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends python3-venv >/dev/null
    python=$(find_python) || python=
  fi
fi
if [ -z "${python:-}" ]; then
  say "maillab needs Python 3.11 or newer with the venv module."
  say "Install it (on Debian and Ubuntu: apt install python3-venv), or name one: make PYTHON=python3.13"
  exit 2
fi

say "Making $venv with $("$python" --version) and the locked dependencies."
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
