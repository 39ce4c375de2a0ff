#!/bin/sh
# Powers a lab host on: the first process of its own mount and pid namespace. It assembles the host's root
# from the machine's programs (read only) and the host's own disk, then becomes the host's sshd, so that
# killing this one process takes every other one of the host along.
#
# A chroot and not a pivot_root: the namespace keeps the machine's own tree outside the host's root, and a
# volume that is attached later can be bind-mounted from there.
#
# From the environment: OWNER (pid of who booted it), HOST_NAME, DISK (the host's root directory), NODE, PROJECT,
# MODULES, CACHE, VOLUME (may be empty).
set -eu
umask 022

# Still the machine's /proc, so this is the pid by which the machine knows the host. If the owner is gone already,
# it died before setpriv could tie the host's life to its own.
read -r pid name state keeper rest </proc/self/stat
read -r _ name state owner rest <"/proc/$keeper/stat"
[ "$owner" = "$OWNER" ] || { echo "the process that booted this host is gone" && exit 1; }
mount --make-rprivate /
hostname "$HOST_NAME"

mount --bind "$DISK" "$DISK"
for name in bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$name" ]; then
    [ -L "$DISK/$name" ] || ln -s "$(readlink "/$name")" "$DISK/$name"
  elif [ -d "/$name" ]; then
    mkdir -p "$DISK/$name" && mount -o bind,ro "/$name" "$DISK/$name"
  fi
done
mkdir -p "$DISK/usr" "$DISK/proc" "$DISK/dev" "$DISK/mailu"
mkdir -p "$DISK/lab/project/scripts/lab" "$DISK/lab/project/node_modules"
mount -o bind,ro /usr "$DISK/usr"
for name in alternatives ssl; do
  [ -d "/etc/$name" ] || continue
  mkdir -p "$DISK/etc/$name" && mount -o bind,ro "/etc/$name" "$DISK/etc/$name"
done

touch "$DISK/lab/node" "$DISK/lab/project/package.json"
mount -o bind,ro "$NODE" "$DISK/lab/node"
mount -o bind,ro "$PROJECT/package.json" "$DISK/lab/project/package.json"
mount -o bind,ro "$PROJECT/scripts/lab" "$DISK/lab/project/scripts/lab"
mount -o bind,ro "$MODULES" "$DISK/lab/project/node_modules"
# Compiled code, shared by all hosts: halves the memory of a mail server and the time it takes to start.
mkdir -p "$CACHE" "$DISK/lab/cache"
mount --bind "$CACHE" "$DISK/lab/cache"

# A /dev of its own: the machine's real block devices must never be within reach of a mkfs on the host.
mount -t tmpfs -o mode=755,size=64k lab-dev "$DISK/dev"
mkdir "$DISK/dev/pts" "$DISK/dev/shm"
for name in null zero full random urandom tty; do
  : >"$DISK/dev/$name"
  mount --bind "/dev/$name" "$DISK/dev/$name"
done
mount -t devpts -o newinstance,mode=620,ptmxmode=666 lab-pts "$DISK/dev/pts"
ln -s pts/ptmx "$DISK/dev/ptmx"
ln -s /proc/self/fd "$DISK/dev/fd"
ln -s /proc/self/fd/0 "$DISK/dev/stdin"
ln -s /proc/self/fd/1 "$DISK/dev/stdout"
ln -s /proc/self/fd/2 "$DISK/dev/stderr"
mount -t proc proc "$DISK/proc"
[ -z "$VOLUME" ] || mount --bind "$VOLUME" "$DISK/mailu"

rm -rf "$DISK/run" "$DISK/tmp"
mkdir -p "$DISK/run/sshd"
mkdir -m 1777 "$DISK/tmp"
[ -f "$DISK/etc/ssh/ssh_host_ed25519_key" ] ||
  ssh-keygen -q -t ed25519 -N '' -C "" -f "$DISK/etc/ssh/ssh_host_ed25519_key"

echo "$pid" >&3
exec 3>&-
# What ran under `restart: always` comes back, as dockerd would bring it.
[ ! -f "$DISK/var/lib/docker/project.json" ] ||
  chroot "$DISK" /lab/bin/docker lab-boot </dev/null >>"$DISK/var/log/docker.log" 2>&1 &
# Since OpenSSH 9.8 an address that fails to log in is shut out for a while; here all clients share one address.
penalties=
! chroot "$DISK" /usr/sbin/sshd -t -f /etc/ssh/sshd_config -o PerSourcePenalties=no 2>/dev/null ||
  penalties="-o PerSourcePenalties=no"
exec chroot "$DISK" /usr/sbin/sshd $penalties -D -f /etc/ssh/sshd_config -E /var/log/sshd.log
