#!/usr/bin/env bash
# What action.yml runs: installs Berth, starts it, waits until it answers, and gives later steps its environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sudo=sudo
[ "$(id -u)" != 0 ] || sudo=
args=()
[ -z "${BERTH_VERSION:-}" ] || args+=(--version "$BERTH_VERSION")
[ -z "${BERTH_ARCHIVE:-}" ] || args+=(--from "$BERTH_ARCHIVE")
bin=${BERTH_BIN:-}
if [ -z "$bin" ]; then
  # Without the service: a runner lives as long as its job.
  prefix=$(mktemp -d)
  $sudo env DESTDIR="$prefix" sh "$here/install.sh" "${args[@]}" up
  bin=$prefix/usr/bin/berth
fi
data=${BERTH_DATA_DIR:-$(mktemp -d)/data}
log=${RUNNER_TEMP:-/tmp}/berth.log
read -ra options <<<"${BERTH_OPTIONS:-}"
$sudo env "PATH=$PATH" setsid "$bin" --data-dir "$data" up "${options[@]}" >"$log" 2>&1 </dev/null &
for _ in $(seq 240); do
  if env=$($sudo "$bin" --data-dir "$data" env 2>/dev/null); then
    eval "$env"
    address=${AWS_ENDPOINT_URL#http://}
    if (exec 3<>"/dev/tcp/${address%:*}/${address##*:}") 2>/dev/null; then
      echo "::add-mask::$AWS_SECRET_ACCESS_KEY"
      printf '%s\n' "$env" | sed 's/^export //' >>"${GITHUB_ENV:-/dev/stdout}"
      printf 'BERTH_DATA_DIR=%s\n' "$data" >>"${GITHUB_ENV:-/dev/stdout}"
      printf 'endpoint=%s\n' "$AWS_ENDPOINT_URL" >>"${GITHUB_OUTPUT:-/dev/stdout}"
      dirname "$bin" >>"${GITHUB_PATH:-/dev/stdout}"
      echo "Berth answers at $AWS_ENDPOINT_URL"
      exit 0
    fi
  fi
  kill -0 $! 2>/dev/null || break
  sleep 0.5
done
echo "::error::Berth did not start; its log:"
cat "$log"
exit 1
