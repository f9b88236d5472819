#!/usr/bin/env bash
# The SSH clients of other languages that tests/interop/test_clients.py talks to (root, Debian, npm, PyPI).
# Heavier than what `make peers` brings, and not in CI: ruby, PHP, Java, node.js, and bindings of libssh2 and libssh.
#
# GLASSHELL_CLIENTS  the folder of what comes from npm and PyPI  (default /opt/glasshell-peers/clients)
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

folder=${GLASSHELL_CLIENTS:-/opt/glasshell-peers/clients}
[ "$(id -u)" = 0 ] || { echo "peers-all: run this as root: it installs packages" >&2; exit 1; }
apt-get -qq update
apt-get -qq -y --no-install-recommends install ruby-net-ssh ruby-ed25519 ruby-bcrypt-pbkdf php-cli php-phpseclib \
  libjsch-java default-jdk-headless nodejs npm python3-venv openssh-tests >/dev/null
mkdir -p "$folder"
npm install --prefix "$folder" --no-audit --no-fund --omit=optional ssh2 >/dev/null
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check ssh2-python ssh-python
echo "peers-all: the clients are ready"
