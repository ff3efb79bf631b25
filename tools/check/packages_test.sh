#!/bin/bash
# Tests tools/lib/packages.sh against a made-up Debian: stand-ins for dpkg-query, apt-get, sudo and systemctl that
# write down what they were asked. Nothing on this machine is installed or changed.
set -u
tree=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
place=$(mktemp -d "${TMPDIR:-/tmp}/bailey-packages-test.XXXXXX")
trap 'rm -rf "$place"' EXIT
bad=0
count=0

# expect SENTENCE COMMAND...
expect() {
  count=$((count + 1))
  local sentence=$1
  shift
  "$@" || { echo "does not hold: $sentence"; sed 's/^/    /' "$place/said" "$place/asked"; bad=1; }
}
said() { grep -q -- "$1" "$place/said"; }
asked() { grep -qx -- "$1" "$place/asked"; }
silent() { [ ! -s "$place/said" ] && [ ! -s "$place/asked" ]; }
same() { [ "$1" = "$2" ]; }

mkdir "$place/bin"
cat >"$place/bin/dpkg-query" <<'FAKE'
#!/bin/sh
for last; do :; done
case "$1" in
  -L) printf '/lib/systemd/system/%s.service\n/lib/systemd/system/%s@.service\n/usr/bin/%s\n' "$last" "$last" "$last" ;;
  -W) if grep -qx "$last" "$PLACE/installed"; then printf 'ii '; else exit 1; fi ;;
esac
FAKE
cat >"$place/bin/apt-get" <<'FAKE'
#!/bin/sh
echo "apt-get $*" >>"$PLACE/asked"
case "$1" in
  update) echo lists >"$PLACE/lists/some_Packages.lz4" ;;
  install)
    [ -x "$PLACE/policy-rc.d" ] && ! "$PLACE/policy-rc.d" && echo "no service may start" >>"$PLACE/asked"
    if [ -e "$PLACE/broken" ]; then echo "E: no such host"; exit 100; fi
    shift
    for word; do case "$word" in -*) ;; *) echo "$word" >>"$PLACE/installed" ;; esac; done ;;
esac
FAKE
printf '#!/bin/sh\necho "sudo $1" >>"$PLACE/asked"\nexec "$@"\n' >"$place/bin/sudo"
printf '#!/bin/sh\necho "systemctl $*" >>"$PLACE/asked"\n' >"$place/bin/systemctl"
chmod +x "$place/bin/"*
cat >"$place/packages.txt" <<'LIST'
# comment
[run]
g++        # the compiler
libfoo-dev # foo
[test]
redis-server  # peer
LIST
export PLACE=$place

# machine PACKAGE...: a machine with these installed, lists fetched, no policy-rc.d.
machine() {
  printf '%s\n' "$@" >"$place/installed"
  rm -rf "$place/lists" "$place/policy-rc.d" "$place/broken"
  mkdir "$place/lists"
  echo lists >"$place/lists/some_Packages.lz4"
  : >"$place/asked"
}
cat >"$place/try.sh" <<'TRY'
# try.sh YES UID SECTION...
root=$PLACE; assume_yes=$1; uid=$2; shift 2
PATH=$PLACE/bin:$PATH
. "$TREE/tools/lib/say.sh"
. "$TREE/tools/lib/packages.sh"
packages_gate=$PLACE/policy-rc.d
packages_lists=$PLACE/lists
id() { echo "$uid"; }
packages_install "$@"
echo "went on"
TRY
export TREE=$tree
try() { bash "$place/try.sh" "$@" </dev/null >"$place/went" 2>"$place/said"; }

machine g++ libfoo-dev
try 0 1000 run
expect "with all there it goes on" same $? 0
expect "with all there it says and asks nothing" silent

machine g++
try 0 0 run
expect "without a terminal and --yes it refuses" same $? 1
expect "the refusal lists the package with its reason" said 'libfoo-dev  *foo'
expect "the refusal names --yes" said 'Pass --yes'
expect "a package that is there is not listed" same "$(grep -c 'g++' "$place/said")" 0
expect "nothing was asked of the system" same "$(cat "$place/asked")" ""

machine
try 1 0 run test
expect "--yes as root installs" same $? 0
expect "what is missing of both sections, in one go" asked 'apt-get install -y --no-install-recommends g++ libfoo-dev redis-server'
expect "a name with a plus sign is listed too" said 'g++  *the compiler'
expect "services are held back meanwhile" asked 'no service may start'
expect "a service that came along is disabled" asked 'systemctl disable redis-server.service'
expect "a template of a service is left alone" same "$(grep -c '@' "$place/asked")" 0
expect "lists that are there are not fetched" same "$(grep -c update "$place/asked")" 0
expect "root needs no sudo" same "$(grep -c sudo "$place/asked")" 0
expect "policy-rc.d is taken away again" test ! -e "$place/policy-rc.d"
: >"$place/asked"
try 0 0 run test
expect "a second time it says and asks nothing" silent

machine g++
rm "$place/lists/"*
try 1 1000 run
expect "an ordinary user goes through sudo" asked 'sudo sh'
expect "missing lists are fetched" asked 'apt-get update'

machine g++
printf '#!/bin/sh\nexit 0\n' >"$place/policy-rc.d"
chmod +x "$place/policy-rc.d"
try 1 0 run
expect "a policy-rc.d of the machine is left alone" same "$(tail -n 1 "$place/policy-rc.d")" "exit 0"

machine g++
touch "$place/broken"
try 1 0 run
expect "a failed installation is a failure" same $? 1
expect "the lists are fetched once more before giving up" asked 'apt-get update'
expect "what apt-get said is shown" said 'no such host'
expect "policy-rc.d is taken away after a failure too" test ! -e "$place/policy-rc.d"

mv "$place/bin/sudo" "$place/no-sudo"
machine g++
PATH_WITHOUT_SUDO=$place/path
mkdir "$PATH_WITHOUT_SUDO"
for tool in bash sh awk sed tr cat grep mktemp tail wc rm ls; do ln -s "$(command -v $tool)" "$PATH_WITHOUT_SUDO/"; done
PATH=$PATH_WITHOUT_SUDO try 1 1000 run
expect "without sudo an ordinary user is told what root has to do" said 'apt-get install --no-install-recommends libfoo-dev'
mv "$place/no-sudo" "$place/bin/sudo"

# On a terminal it asks; `script` is Debian's own pseudo terminal.
machine g++
printf 'n\n' | script -qec "bash $place/try.sh 0 0 run" /dev/null >"$place/said" 2>&1
expect "on a terminal it asks" said 'Install them now'
expect "no is no" same "$(grep -c install "$place/asked")" 0
machine g++
printf 'y\n' | script -qec "bash $place/try.sh 0 0 run" /dev/null >"$place/said" 2>&1
expect "yes is yes" asked 'apt-get install -y --no-install-recommends libfoo-dev'

echo "packages_test.sh: $count expectations looked at"
exit $bad
