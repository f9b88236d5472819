#!/usr/bin/env bash
# The independent SSH programs that tests/interop talks to.
#
#   scripts/peers.sh          (root, on Debian or a derivative whose apt has the Debian archive)
#
# 1. Debian's own builds, by apt: OpenSSH, dropbear, tinysshd, PuTTY's tools, tshark, tcpdump, strace,
#    bpftrace, a PAM module for one-time codes, OpenLDAP, a Kerberos KDC, what runs ssh and has to find ours
#    as good (git, rsync, sshfs, mosh, autossh), fail2ban with its filter of sshd's log, ssh-audit, and what our
#    views are held against: asciinema, promtool, chromium. No service is started.
# 2. The newest Debian builds, each with its own libraries, in one folder to chroot into; the
#    packages of this machine are left alone. The tests run `chroot FOLDER /usr/sbin/sshd ...`.
#
# GLASSHELL_PEERS        the folder of (2)              (default /opt/glasshell-peers/newest)
# GLASSHELL_PEERS_SUITE  the Debian suite it comes from (default forky)
#
# Running it again does nothing, unless the suite or this script has changed.
set -euo pipefail
script=$0
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

folder=${GLASSHELL_PEERS:-/opt/glasshell-peers/newest}
suite=${GLASSHELL_PEERS_SUITE:-forky}
system=(openssh-server openssh-client dropbear-bin tinysshd putty-tools tshark tcpdump util-linux
  strace bpftrace asciinema prometheus chromium poppler-utils iproute2 debian-archive-keyring
  openssl libpam-google-authenticator slapd ldap-utils krb5-kdc krb5-admin-server krb5-user man-db mandoc
  git rsync sshfs fuse3 mosh autossh fail2ban ssh-audit)
newest=(openssh-server openssh-client openssh-sftp-server dropbear-bin tinysshd tshark
  bash dash coreutils libc-bin)

say() { printf 'peers: %s\n' "$*"; }
die() { printf 'peers: %s\n' "$*" >&2; exit 1; }

installed() { [ "$(dpkg-query -Wf '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_system() {
  local missing=() package policy=/usr/sbin/policy-rc.d
  for package in "${system[@]}"; do installed "$package" || missing+=("$package"); done
  if [ ${#missing[@]} -eq 0 ]; then say "Debian's own builds are installed"; return; fi
  say "installing ${missing[*]}"
  apt-get -qq update
  # A test machine wants the sshd program, not a daemon on port 22 (invoke-rc.d(8), policy layer).
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
  [ -z "$(trap -p EXIT)" ] || { rm -f "$policy"; trap - EXIT; }
}

# The first Debian archive among the sources that apt already uses, in either of their two formats.
archive() {
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources || true; } 2>/dev/null |
    awk '/^URIs:/ { for (i = 2; i <= NF; i++) print $i }
         /^deb / { sub(/^deb +(\[[^]]*\] *)?/, ""); print $1 }' |
    awk '/\/debian\/?$/ && !found { found = 1; print } END { exit !found }'
}

# Download into "$1" with an apt that knows only this suite and believes nothing is installed, so
# that every library comes along.
download() {
  local state=$1 url
  url=$(archive) || die "apt has no Debian archive among its sources, so the newest builds cannot be fetched"
  mkdir -p "$state"/lists/partial "$state"/cache/archives/partial
  : >"$state/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url $suite main" >"$state/sources.list"
  local apt=(apt-get -qq -o Dir::State="$state" -o Dir::State::status="$state/status"
    -o Dir::Cache="$state/cache" -o Dir::Etc::sourcelist="$state/sources.list"
    -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root)
  "${apt[@]}" update || die "cannot read the suite '$suite' of $url"
  "${apt[@]}" -y --no-install-recommends --download-only install "${newest[@]}" >/dev/null
}

# Unpack the archives of "$1" into "$2", with what a chrooted sshd and its sessions need: accounts,
# devices, the empty folder of privilege separation, homes. glass's password is "glass".
lay_out() {
  local archives=$1 root=$2 name
  mkdir -p "$root"/{dev/pts,etc,home/glass,proc,root,run/sshd,tmp,usr/{bin,sbin,lib,lib64},var/empty}
  chmod 755 "$root" "$root/run/sshd" "$root/var/empty"
  for name in bin sbin lib lib64; do ln -sfn "usr/$name" "$root/$name"; done
  for name in "$archives"/*.deb; do dpkg -x "$name" "$root"; done
  # After the packages, which may bring modes of their own.
  chmod 1777 "$root/tmp"
  chmod 700 "$root/root"
  chown 1000:1000 "$root/home/glass"
  cat >"$root/etc/passwd" <<'ACCOUNTS'
root:x:0:0:root:/root:/bin/bash
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
glass:x:1000:1000:a test user:/home/glass:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
ACCOUNTS
  printf '/bin/sh\n/bin/bash\n' >"$root/etc/shells"
  printf 'root:x:0:\ntty:x:5:\nglass:x:1000:\nnogroup:x:65534:\n' >"$root/etc/group"
  printf 'root:*:20000::::::\nsshd:!:20000::::::\nglass:%s:20000::::::\nnobody:*:20000::::::\n' \
    "$(perl -e 'print crypt("glass", "\$6\$glasshell\$")')" >"$root/etc/shadow"
  chmod 600 "$root/etc/shadow"
  for name in null zero full random urandom tty ptmx; do
    [ -e "$root/dev/$name" ] || cp -a "/dev/$name" "$root/dev/" ||
      die "cannot make the device $root/dev/$name: this container lacks CAP_MKNOD"
  done
}

install_newest() {
  local stamp work
  stamp="$suite $(cksum <"$script")"
  if [ "$(cat "$folder/.glasshell-peers" 2>/dev/null)" = "$stamp" ]; then
    say "the newest builds are in $folder"; return
  fi
  [ ! -e "$folder" ] || [ -e "$folder/.glasshell-peers" ] ||
    die "$folder exists and was not made by this script; name another folder in GLASSHELL_PEERS"
  say "fetching the newest builds ($suite) into $folder"
  mkdir -p "$(dirname "$folder")"
  work=$(mktemp -d "$folder.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  download "$work/apt"
  lay_out "$work/apt/cache/archives" "$work/root"
  echo "$stamp" >"$work/root/.glasshell-peers"
  [ ! -e "$folder" ] || mv "$folder" "$work/old"
  mv "$work/root" "$folder"
  rm -rf "$work"
  trap - EXIT
}

[ "$(uname -s)" = Linux ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
  die "this installer knows Debian only (apt-get); elsewhere install OpenSSH, dropbear, tinysshd, PuTTY and tshark by hand"
[ "$(id -u)" = 0 ] || die "run this as root: it installs packages and makes a folder to chroot into"

install_system
install_newest
say "$(ssh -V 2>&1 | cut -d, -f1) and $(chroot "$folder" ssh -V 2>&1 | cut -d, -f1) are ready"
