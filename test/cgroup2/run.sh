#!/bin/sh
# Boots a small virtual machine whose only cgroups are v2 and whose kernel has AppArmor, and runs tests of test/e2e in it: first as on a machine, then from inside a
# cgroup that holds processes, as in a container. Debian's kernel is unpacked into bin/cgroup2, and not installed. Needs root for what is
# to be installed only, bin/berth, and about a minute without KVM. BERTH_VM_ACCEL=kvm uses KVM where it works for a guest's kernel.
set -eu
cd "$(dirname "$0")/../.."
work=bin/cgroup2
mkdir -p "$work/kernel" "$work/root"
if ! command -v qemu-system-x86_64 >/dev/null || ! command -v cpio >/dev/null || ! command -v depmod >/dev/null; then
	echo "installing qemu-system-x86, cpio, kmod"
	apt-get update -qq || echo "apt-get update failed for some sources; going on" >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-system-x86 cpio kmod >/dev/null
fi
if ! ls "$work"/kernel/boot/vmlinuz-* >/dev/null 2>&1; then
	package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image/ {print $2; exit}')
	(cd "$work" && apt-get download -qq "$package" 2>/dev/null && dpkg-deb -x "$package"_*.deb kernel && rm "$package"_*.deb)
fi
vmlinuz=$(ls "$work"/kernel/boot/vmlinuz-* | tail -n 1)
release=${vmlinuz##*/vmlinuz-}
depmod -b "$work/kernel" "$release"

# The modules go into one folder, numbered in the order in which they are loaded.
rm -rf "$work/root"
mkdir -p "$work/root/modules"
modprobe -a -d "$work/kernel" -S "$release" --show-depends overlay veth bridge nf_conntrack nft_ct nft_nat nft_masq nft_chain_nat \
	nft_redir nft_reject_inet nft_fib_inet nft_limit nft_log nft_numgen nft_hash nft_objref tun nft_reject_ipv4 nft_reject_ipv6 nft_reject_bridge nft_meta_bridge nf_conntrack_bridge |
	awk '$1 == "insmod" && !seen[$2]++ {print $2}' | { n=100; while read -r file; do
		cp "$file" "$work/root/modules/$n-${file##*/}"
		n=$((n + 1))
	done; }
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/root/init" ./test/cgroup2/vm
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/root/web" ./test/e2e/web
CGO_ENABLED=0 go test -c -trimpath -ldflags '-s -w' -o "$work/root/e2e" ./test/e2e
cp bin/berth "$work/root/berth"

# AppArmor: the kernel has it; its loader and the libraries that it needs come along.
if ! [ -e "$work/apparmor/sbin/apparmor_parser" ]; then
	(cd "$work" && apt-get download -qq apparmor 2>/dev/null && dpkg-deb -x apparmor_*.deb apparmor && rm apparmor_*.deb)
fi
mkdir -p "$work/root/walls/sbin" "$work/root/walls/usr/share"
cp "$work/apparmor/sbin/apparmor_parser" "$work/root/walls/sbin/"
cp -r "$work/apparmor/etc" "$work/root/walls/"
cp -r "$work/apparmor/usr/share/apparmor-features" "$work/root/walls/usr/share/"
ldd "$work/apparmor/sbin/apparmor_parser" | grep -o '/[^ ]*' | while read -r library; do
	mkdir -p "$work/root/walls${library%/*}"
	cp -L "$library" "$work/root/walls$library"
done
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/initramfs"

echo "booting Linux $release with cgroup v2; the console is $work/console"
timeout 900 qemu-system-x86_64 -machine "q35,accel=${BERTH_VM_ACCEL:-tcg}" -cpu max -smp 1 -m 2560 -nic none -nographic -no-reboot \
	-kernel "$vmlinuz" -initrd "$work/initramfs" -append "console=ttyS0 panic=-1 quiet nowatchdog" </dev/null >"$work/console" 2>&1 || true
grep -aE '^(=== RUN|--- |PASS|FAIL|berth-vm:)' "$work/console" | tr -d '\r' | grep -v '=== RUN' || true
if ! grep -aq '^berth-vm: all passed' "$work/console"; then
	echo "the tests on cgroup v2 failed; the end of $work/console:" >&2
	tail -n "${LINES_SHOWN:-80}" "$work/console" >&2
	exit 1
fi
