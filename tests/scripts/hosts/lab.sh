# shellcheck shell=bash
# lab.sh - what the scripts of this folder share; sourced. One lab is one directory, one set of network
# namespaces without a way out, and one cgroup, all named after $lab: everything can be found and ended by that.

lab=${VT_LAB:-vthosts}    # at most 8 letters: it prefixes names of network devices
subnet=${VT_LAB_SUBNET:-10.88.77}    # .1 is the controller, hosts from .11
cache=${VT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vitrail}/hosts
dir=$cache/$lab
lan=$lab-lan

die() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# Where cgroups of version 2 are: beside version 1 on a "hybrid" machine.
if [ -d /sys/fs/cgroup/unified ]; then cgroup2=/sys/fs/cgroup/unified; else cgroup2=/sys/fs/cgroup; fi

address_of() { echo "$subnet.$((10 + ${1#h}))"; }
hosts_there() { find "$dir/hosts" -mindepth 1 -maxdepth 1 -name 'h*' -printf '%f\n' 2>/dev/null | sort -V; }
is_up() { grep -qs 'populated 1' "$cgroup2/$lab/$1/cgroup.events"; }
# on_lan COMMAND...: runs it on the network of the hosts, as the controller.
on_lan() { nsenter --net="/run/netns/$lan" -- "$@"; }
