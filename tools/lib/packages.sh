# Sourced by ./run and ./test: installs the Debian packages that packages.txt names and this machine lacks.
# Needs: root (the checkout), assume_yes (0 or 1), say and die from say.sh.

packages_gate=/usr/sbin/policy-rc.d       # where Debian asks whether a service may start
packages_lists=/var/lib/apt/lists         # where apt-get update puts what it learns

# Prints the packages of one section of packages.txt, one a line.
packages_of() {
  awk -v want="[$1]" '/^\[/ { on = ($1 == want); next }
                      { sub(/#.*/, "") } on && NF { print $1 }' "$root/packages.txt"
}

# Prints the packages of the given sections that are not installed.
packages_missing() {
  local section name
  for section in "$@"; do
    for name in $(packages_of "$section"); do
      case "$(dpkg-query -W -f='${db:Status-Abbrev}' "$name" 2>/dev/null)" in
        ii*) ;;
        *) printf '%s\n' "$name" ;;
      esac
    done
  done
}

# What runs with root's rights, in one piece, so that sudo asks once. Servers that come with a package are
# installed but neither started nor enabled: who tries Bailey must not find a Redis running afterwards.
# An own /usr/sbin/policy-rc.d of this machine is respected and left alone.
packages_script='
set -eu
export DEBIAN_FRONTEND=noninteractive
gate=$1
lists=$2
shift 2
ours=
finish() { [ -z "$ours" ] || rm -f "$gate"; }
trap finish EXIT
trap "exit 130" INT TERM HUP
if [ ! -e "$gate" ] && [ ! -L "$gate" ]; then
  ours=yes
  printf "#!/bin/sh\nexit 101\n" > "$gate"
  chmod 755 "$gate"
fi
fresh=
if ! ls "$lists"/*Packages* >/dev/null 2>&1; then
  apt-get update
  fresh=yes
fi
install() { apt-get install -y --no-install-recommends "$@"; }
# Old lists name files that are gone: fetch the lists once more before giving up.
install "$@" || { [ -z "$fresh" ] && apt-get update && install "$@"; }
for package in "$@"; do
  for unit in $(dpkg-query -L "$package" | sed -n "s|^\(/usr\)*/lib/systemd/system/\([^/@]*\.service\)\$|\2|p"); do
    if command -v systemctl >/dev/null 2>&1; then
      systemctl disable "$unit" || echo "could not disable $unit" >&2
    elif [ -e "/etc/init.d/${unit%.service}" ] && command -v update-rc.d >/dev/null 2>&1; then
      update-rc.d "${unit%.service}" disable || echo "could not disable $unit" >&2
    fi
  done
done
'

# packages_install SECTION...: silent when all is there. Lists what is missing, asks, installs; dies when it may
# not or can not.
packages_install() {
  local missing list log answer
  if ! command -v dpkg-query >/dev/null 2>&1; then
    say "This is no Debian: packages.txt can't be checked. The build tells what is missing, if anything is."
    return 0
  fi
  missing=$(packages_missing "$@")
  [ -n "$missing" ] || return 0
  list=$(printf '%s' "$missing" | tr '\n' ' ')
  say "These Debian packages are needed and missing:"
  printf '%s\n' "$missing" | while read -r name; do
    awk -v name="$name" '$1 == name { sub(/^[^#]*# */, ""); printf "  %-22s %s\n", name, $0 }' "$root/packages.txt" >&2
  done
  if [ "$assume_yes" != 1 ]; then
    if [ ! -t 0 ] || [ ! -t 2 ]; then
      die "Nothing was installed: there is no terminal to ask on. Pass --yes to agree, or install them yourself:
  apt-get install --no-install-recommends $list"
    fi
    printf 'Install them now? [y/N] ' >&2
    read -r answer || answer=
    case "$answer" in
      y | Y | yes | Yes) ;;
      *) die "Nothing was installed, on your word. The build can't go on without these packages." ;;
    esac
  fi
  local become=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 ||
      die "Installing needs root, and there is no sudo here. Let root run:
  apt-get install --no-install-recommends $list"
    become=(sudo)
  fi
  say "Installing $(printf '%s\n' "$missing" | wc -l) packages ..."
  log=$(mktemp "${TMPDIR:-/tmp}/bailey-packages.XXXXXX")
  # shellcheck disable=SC2086  # one word a package
  if ! ${become[@]+"${become[@]}"} sh -c "$packages_script" packages "$packages_gate" "$packages_lists" $missing >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    die "Installing the packages failed; the last lines of apt-get are above."
  fi
  rm -f "$log"
  missing=$(packages_missing "$@")
  [ -z "$missing" ] || die "apt-get was content, but these packages are still missing: $missing"
}
