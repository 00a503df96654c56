#!/usr/bin/env bash
# Makes dist/: archives of Berth for Linux (amd64, arm64) and of its client for macOS and Windows, Debian packages, a bill of materials, and
# SHA256SUMS. It builds what is committed, in a copy of its own. Usage: deploy/dist.sh [VERSION] [TARGET...], such as linux/arm64.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
version=${1:-$(git describe --tags --always | sed 's/^v//')}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64)
runc_version=$(go list -m -f '{{.Version}}' github.com/opencontainers/runc)
export GOFLAGS=-buildvcs=false SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
out=$top/dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/src"
git archive HEAD | tar -x -C "$work/src"
cd "$work/src"
described= # the programs of the bill of materials
step() { printf '%s\n' "$*" >&2; }

# runc is linked against libseccomp, which must be there for the target.
cross() { # ARCH: sets CC and PKG_CONFIG_PATH
  case "$1" in
    "$(go env GOHOSTARCH)") CC=gcc PKG_CONFIG_LIBDIR= ; return ;;
    arm64) gnu=aarch64-linux-gnu ;;
    amd64) gnu=x86-64-linux-gnu ;;
  esac
  triple=${gnu/x86-64/x86_64}
  CC=$triple-gcc PKG_CONFIG_LIBDIR=/usr/lib/$triple/pkgconfig
  if ! command -v "$CC" >/dev/null || [ ! -f "$PKG_CONFIG_LIBDIR/libseccomp.pc" ]; then
    step "installing the cross compiler and libseccomp for $1"
    dpkg --add-architecture "$1"
    apt-get update -qq || step "apt-get update failed for some sources; going on"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "gcc-$gnu" "libc6-dev-$1-cross" "libseccomp-dev:$1" >/dev/null
  fi
}

berth() { # OS ARCH FILE
  CGO_ENABLED=0 GOOS=$1 GOARCH=$2 go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$3" ./cmd/berth
}

pack() { # FOLDER ARCHIVE: the same content gives the same bytes
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$(dirname "$1")" -c "$(basename "$1")" | gzip -n9 >"$2"
}

deb() { # FOLDER ARCH
  local root=$work/deb-$2
  mkdir -p "$root/DEBIAN" "$root/usr/bin" "$root/lib/systemd/system" "$root/usr/share/doc/berth"
  cp "$1/berth" "$root/usr/bin/"
  cp "$1"/systemd/*.service "$root/lib/systemd/system/"
  cp deploy/debian/postinst deploy/debian/prerm "$root/DEBIAN/"
  sed -e "s/@VERSION@/$(printf %s "$version" | sed 's/^[^0-9]/0~&/')/" -e "s/@ARCH@/$2/" -e "s/@SIZE@/$(du -sk "$root" | cut -f1)/" deploy/debian/control >"$root/DEBIAN/control"
  chmod 0755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
  dpkg-deb --root-owner-group --build "$root" "$out/berth_${version}_$2.deb" >/dev/null
}

for target in "${targets[@]}"; do
  os=${target%/*} arch=${target#*/}
  step "$target"
  folder=$work/$os-$arch/berth_${version}_${os}_$arch
  mkdir -p "$folder"
  case $os in
    linux)
      cross "$arch"
      bin=internal/node/embedded/bin
      CC=$CC PKG_CONFIG_LIBDIR=$PKG_CONFIG_LIBDIR CGO_ENABLED=1 GOOS=linux GOARCH=$arch go build -trimpath -tags 'seccomp netgo osusergo urfave_cli_no_docs' \
        -ldflags "-s -w -extldflags -static -X main.version=${runc_version#v}" -o $bin/runc github.com/opencontainers/runc
      CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -ldflags '-s -w' -o $bin/containerd-shim-runc-v2 ./cmd/berth-shim
      berth linux "$arch" "$folder/berth"
      if [ -z "$described" ]; then # the programs inside are written down too
        mkdir "$work/described" && cp "$folder/berth" $bin/runc $bin/containerd-shim-runc-v2 "$work/described/"
        described="$work/described/berth $work/described/runc $work/described/containerd-shim-runc-v2"
      fi
      cp -r deploy/systemd deploy/cloud-init deploy/install.sh README.md docs "$folder/"
      pack "$folder" "$out/berth_${version}_linux_$arch.tar.gz"
      if command -v dpkg-deb >/dev/null; then deb "$folder" "$arch"; else step "no dpkg-deb here: no Debian package for $arch"; fi ;;
    windows)
      berth windows "$arch" "$folder/berth.exe"
      cp README.md "$folder/"
      (cd "$work/$os-$arch" && if command -v zip >/dev/null; then zip -qrX "$out/berth_${version}_windows_$arch.zip" .; else
        python3 -m zipfile -c "$out/berth_${version}_windows_$arch.zip" ./*; fi) ;;
    *)
      berth "$os" "$arch" "$folder/berth"
      cp README.md "$folder/"
      pack "$folder" "$out/berth_${version}_${os}_$arch.tar.gz" ;;
  esac
done

step "bill of materials"
[ -n "$described" ] || described=$(find "$work" -name berth -type f | head -n 1)
go run ./deploy/sbom "$version" $described >"$out/berth_$version.cdx.json"
printf '%s\n' "$version" >"$out/VERSION"
cp deploy/install.sh "$out/"
cd "$out"
sha256sum -- berth_"${version}"[_.]* install.sh VERSION >SHA256SUMS
step "made $(wc -l <SHA256SUMS) files in dist/"
