#!/bin/busybox sh
# The first process of a test machine: mounts what a Linux system has, runs the
# tests of a directory below /selection, and switches the machine off.
# What is there already is preferred, and complained about.
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
chmod 1777 /tmp
ip link set lo up
# As systemd's default for services.
ulimit -n 4096
# Software emulation on a busy host is some ten times slower than the host, whose
# limits are generous. A wait in vain (60 s) ends well before the machine does.
export PMON_TEST_PATIENCE=5 RUST_BACKTRACE=0 PMON_BIN=/pmon/pmon
echo "vm: release: $(uname -r)"
selection=/selection/all
grep -q lockdown=confidentiality /proc/cmdline && selection=/selection/locked_down
code=0
for program in kernel_side behaviour; do
    # The words of the selection are the arguments.
    /pmon/deps/$program --exact --show-output --test-threads=2 $(cat $selection/$program) || code=1
done
[ "$code" = 0 ] || dmesg | tail -n 40
echo "vm: end: $code after $(cut -d' ' -f1 /proc/uptime) s"
reboot -f
