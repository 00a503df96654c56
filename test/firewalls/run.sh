#!/bin/sh
# Runs TestRealFirewalls with firewalls that are installed in a copy of this machine's root file system: an overlay in memory, in a mount
# namespace that the caller has made for it, so that all is gone when it ends. Needs root, Debian's packages, and about three minutes.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "SKIP test-firewalls: it needs root"; exit 0; }
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/up /mnt/work /mnt/root
root=/mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work $root
mount -t proc proc $root/proc
mount --rbind /dev $root/dev
mount --rbind /sys $root/sys
mount -t tmpfs tmpfs $root/run
printf '#!/bin/sh\nexit 101\n' >$root/usr/sbin/policy-rc.d # nothing is started by its installation
chmod +x $root/usr/sbin/policy-rc.d
chroot $root sh -c 'apt-get update -qq || echo "apt-get update failed for some sources; going on" >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ufw firewalld iptables nftables docker.io' >/mnt/apt.log 2>&1 ||
	{ cat /mnt/apt.log; exit 1; }
test=$PWD/bin/network.test
cd internal/node/agent/network
BERTH_INTEGRATION=1 BERTH_FIREWALLS=$root "$test" -test.v -test.count=1 -test.run 'TestRealFirewalls$'
