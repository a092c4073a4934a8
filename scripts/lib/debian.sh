# shellcheck shell=bash
# Programs of the operating system that tests and demo drive: real NBD clients, filesystems, a database, a backup tool.

# What we look for, and the Debian package that has it.
readonly tool_packages=(
  libatomic.so.1=libatomic1 # Node.js itself, in the release that npm installs
  nbdinfo=libnbd-bin
  nbdfuse=libnbd-bin
  qemu-img=qemu-utils
  qemu-storage-daemon=qemu-system-common
  fio=fio
  nbdkit=nbdkit
  nbd-client=nbd-client
  mkfs.ext4=e2fsprogs
  mkfs.xfs=xfsprogs
  mkfs.btrfs=btrfs-progs
  mount=mount
  losetup=mount
  fsfreeze=util-linux
  fusermount3=fuse3
  ip=iproute2
  openssl=openssl
  curl=curl
  modprobe=kmod
  update-ca-certificates=ca-certificates
  postgres=postgresql
  restic=restic
  spin=spin # it makes a C program of a model
  gcc=gcc
  stdio.h=libc6-dev
)

has_tool() {
  case $1 in
    lib*.so.*) compgen -G "/usr/lib/*/$1" >/dev/null ;;
    *.h) [[ -e /usr/include/$1 ]] ;;
    postgres) compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# Prints the packages of the tools that are missing, each once.
missing_packages() {
  local entry
  for entry in "${tool_packages[@]}"; do
    has_tool "${entry%%=*}" || printf '%s\n' "${entry#*=}"
  done | sort -u
}

# Debian starts a database cluster of its own when PostgreSQL is installed, on a port that is not ours to take.
forbid_database_cluster() {
  mkdir -p /etc/postgresql-common/createcluster.d
  printf 'create_main_cluster = false\n' >/etc/postgresql-common/createcluster.d/understudy.conf
}

# Installs what is missing, as root; comes before use_node_modules, which may need it. Anyone else is told, and what needs it is left out.
use_debian_tools() {
  PATH="$PATH:/usr/sbin:/sbin"
  export PATH
  local missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]} > 0)) || return 0
  if ((EUID != 0)); then
    note "Not root, so these packages are not installed, and what needs them is left out: ${missing[*]}"
    return 0
  fi
  command -v apt-get >/dev/null || die "apt-get is missing: install by hand what has these: ${missing[*]}"
  say "Installing Debian packages: ${missing[*]}"
  [[ " ${missing[*]} " == *' postgresql '* ]] && forbid_database_cluster
  local log
  log=$(mktemp)
  if ! install_packages "${missing[@]}" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die 'apt-get failed, see above'
  fi
  rm -f "$log"
}

install_packages() {
  # Another apt may be at work, for instance the nightly one.
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"
}
