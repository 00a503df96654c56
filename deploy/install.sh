#!/bin/sh
# Installs Berth on a Linux machine with systemd, from a release or from a file.
#
#   install.sh                                    the newest release, as one machine (berth up)
#   install.sh --version 1.4.0 node --join URL    a node that joins; what follows the kind becomes its options
#   install.sh --from berth_1.4.0_linux_amd64.tar.gz server --advertise 10.0.0.1
#
# The archive's SHA-256 must be in SHA256SUMS: that of the release or, with --from, the one beside the file (or --sums FILE).
# Running it again installs another version and restarts the service: tasks and load balancers go on meanwhile.
# With DESTDIR set, files go below it and no service is touched.
set -eu

releases=https://github.com/berthdev/berth/releases
version= from= sums= kind=up
say() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit "${1:-0}"; }

while [ $# -gt 0 ]; do
  case "$1" in
    --version) [ $# -ge 2 ] || usage 2 >&2; version=${2#v}; shift 2 ;;
    --from)    [ $# -ge 2 ] || usage 2 >&2; from=$2; shift 2 ;;
    --sums)    [ $# -ge 2 ] || usage 2 >&2; sums=$2; shift 2 ;;
    -h|--help) usage ;;
    up|server|node) kind=$1; shift; break ;;
    *) die "unknown argument '$1'; see install.sh --help" ;;
  esac
done

[ "$(uname -s)" = Linux ] || die "Berth's machines run Linux; for a client on this system see the archives at $releases"
case "$(uname -m)" in
  x86_64|amd64)  arch=amd64 ;;
  aarch64|arm64) arch=arm64 ;;
  *) die "there is no Berth for $(uname -m)" ;;
esac
[ -n "${DESTDIR:-}" ] || [ "$(id -u)" = 0 ] || die "it needs root: sudo sh install.sh"
command -v sha256sum >/dev/null || die "sha256sum is missing (package coreutils)"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
get() { # URL FILE
  if command -v curl >/dev/null; then curl -fsSL --proto '=https' --retry 3 -o "$2" "$1"
  elif command -v wget >/dev/null; then wget -q --https-only -O "$2" "$1"
  else die "curl or wget is needed to download $1; or download it elsewhere and say --from FILE"
  fi || die "cannot download $1"
}

if [ -n "$from" ]; then
  [ -f "$from" ] || die "$from is no file"
  archive=$from
  [ -n "$sums" ] || sums=$(dirname "$from")/SHA256SUMS
  [ -f "$sums" ] || die "$sums is missing: it holds the checksum of $from; say where it is with --sums FILE"
else
  if [ -z "$version" ]; then
    get "$releases/latest/download/VERSION" "$tmp/VERSION"
    version=$(cat "$tmp/VERSION")
  fi
  name=berth_${version}_linux_$arch.tar.gz
  archive=$tmp/$name
  [ -n "$sums" ] || { sums=$tmp/SHA256SUMS; get "$releases/download/v$version/SHA256SUMS" "$sums"; }
  say "downloading Berth $version for $arch"
  get "$releases/download/v$version/$name" "$archive"
fi

want=$(awk -v name="$(basename "$archive")" '$2 == name || $2 == "*" name {print $1}' "$sums")
[ -n "$want" ] || die "$sums does not name $(basename "$archive"): nothing was installed"
have=$(sha256sum "$archive" | cut -d' ' -f1)
[ "$want" = "$have" ] || die "the checksum of $(basename "$archive") is $have and should be $want: nothing was installed"

tar -xzf "$archive" -C "$tmp"
dir=$(find "$tmp" -mindepth 1 -maxdepth 1 -type d -name 'berth_*')
[ -x "$dir/berth" ] || die "$(basename "$archive") holds no berth for this machine"
"$dir/berth" version >/dev/null || die "the berth in $(basename "$archive") does not run here: is it for $arch?"

install -d "${DESTDIR:-}/usr/bin" "${DESTDIR:-}/lib/systemd/system" "${DESTDIR:-}/etc/default"
install -m 0755 "$dir/berth" "${DESTDIR:-}/usr/bin/berth.new"
mv "${DESTDIR:-}/usr/bin/berth.new" "${DESTDIR:-}/usr/bin/berth" # a running berth keeps its file
for unit in berth berth-server berth-node; do
  install -m 0644 "$dir/systemd/$unit.service" "${DESTDIR:-}/lib/systemd/system/"
done
unit=berth
[ "$kind" = up ] || unit=berth-$kind
defaults=${DESTDIR:-}/etc/default/$unit
if [ $# -gt 0 ] || [ ! -f "$defaults" ]; then
  umask 077 # a join token may be among them
  printf '# Options of the command that %s.service runs.\nBERTH_OPTIONS="%s"\n' "$unit" "$*" >"$defaults"
fi
if [ -n "${DESTDIR:-}" ] || ! command -v systemctl >/dev/null || [ ! -d /run/systemd/system ]; then
  say "installed $("$dir/berth" version); no systemd runs here: start it with: berth $kind $*"
  exit 0
fi
systemctl daemon-reload
systemctl enable "$unit.service"
systemctl restart "$unit.service"
say "$("$dir/berth" version) runs as $unit.service. Its log: journalctl -u $unit. This machine's checks: berth doctor"
