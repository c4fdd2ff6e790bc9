#!/usr/bin/env bash
# Install edge_ad as a service on a PC without a network: user, directories, units, and a virtual environment
# of its own for each release. The release in use is one symbolic link, so that an upgrade is one rename and
# so is the way back. Configuration and state of stations are never touched.
set -euo pipefail
umask 022

usage() {
    cat <<'TEXT'
usage: install.sh install [--python FILE] [--skip-check]
       install.sh upgrade [--python FILE] [--skip-check]
       install.sh rollback
       install.sh uninstall [--purge]

  install     from the package that this script lies in; once more changes nothing
  upgrade     the same over another release. 'edge-ad check' of every station is run with the new one first.
              Then what runs is started anew; what does not get ready brings the old release back
  rollback    to the release before; once more returns. /opt/edge-ad/install.sh does it without the package
  uninstall   stops and removes the program and its units; stations in /etc/edge-ad and /var/lib/edge-ad stay

  --python FILE  the interpreter, else the python3.X on the path that the package was built for
  --skip-check   upgrade though a station's check fails
  --purge        remove the stations too: configuration, bundles, kept parts, evidence, keys, and the user
TEXT
}

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

root="${EDGE_AD_ROOT:-}" # another root directory, as the tests have it
rooted=()
[ -z "$root" ] || rooted=("--root=$root")
prefix="$root/opt/edge-ad"
etc="$root/etc"
units="$etc/systemd/system"
link="$root/usr/local/bin/edge-ad"
settle_s="${EDGE_AD_SETTLE_S:-3}" # what is ready must still run after so long
kinds=('edge-ad@*.service' 'edge-ad-station@*.service' 'edge-ad-plc@*.service')
here="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

# Of the package that this script lies in: version, python, machine.
read_package() {
    [ -d "$here/wheels" ] || fail \
        "$here is no package; unpack edge-ad-VERSION.tar.gz and run the install.sh in it"
    local key value
    while IFS='=' read -r key value; do
        case "$key" in
            version) version="$value" ;;
            python) wanted="$value" ;;
            machine) machine="$value" ;;
        esac
    done <"$here/PACKAGE"
    (cd "$here" && sha256sum --check --strict --quiet SHA256SUMS) || fail \
        "$here: does not match SHA256SUMS; it is damaged, take another copy of the package"
}

find_python() {
    [ -n "$python" ] || python="$(command -v "python$wanted")" || fail \
        "python$wanted is not installed, which this package is for; install it, or give --python FILE"
    local found
    found="$("$python" -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.machine())')"
    [ "$found" = "$wanted $machine" ] || fail \
        "$python: is Python $found, this package is for $wanted $machine; build one on a PC like this"
}

release_of() { # LINK: the release that it names, or nothing
    if [ -L "$prefix/$1" ]; then basename "$(readlink "$prefix/$1")"; fi
}

point() { # LINK TARGET: in one rename
    ln -sfn "$2" "$1.new" && mv -T "$1.new" "$1"
}

make_release() { # DIRECTORY
    local tool=("$here"/pip/pip-*.whl)
    "$python" -m venv --without-pip "$1" &&
        PYTHONPATH="${tool[0]}" "$1/bin/python" -m pip --isolated --disable-pip-version-check install -q \
            --no-index --find-links "$here/wheels" --require-hashes -r "$here/requirements.txt" &&
        "$1/bin/edge-ad" --version &&
        cp -r "$here/systemd" "$here/install.sh" "$here/requirements.txt" "$here/sbom.cdx.json" \
            "$here/PACKAGE" "$here/SHA256SUMS" "$1" &&
        touch "$1/.complete"
}

install_release() {
    local release="$prefix/releases/$version"
    if [ -e "$release/.complete" ]; then
        cmp -s "$here/SHA256SUMS" "$release/SHA256SUMS" || fail \
            "$release is another build of $version; build this one with a version of its own, or" \
            "'install.sh uninstall' first, which keeps stations"
        say "release $version: is there already"
        return
    fi
    [ ! -e "$prefix/pyvenv.cfg" ] || fail \
        "$prefix is a virtual environment that was made by hand; stop its units and move it away"
    rm -rf "$release"
    mkdir -p "$prefix/releases"
    make_release "$release" || {
        rm -rf "$release"
        fail "release $version could not be installed; nothing has changed"
    }
}

make_accounts() { # RELEASE: the user and the directories
    local kind
    for kind in sysusers.d tmpfiles.d; do
        install -D -m 644 "$prefix/releases/$1/systemd/$kind/edge-ad.conf" -t "$etc/$kind"
    done
    systemd-sysusers "${rooted[@]}" edge-ad.conf
    systemd-tmpfiles --create "${rooted[@]}" edge-ad.conf
}

check_stations() {
    local file failed=""
    for file in "$etc"/edge-ad/*/line.toml; do
        [ -e "$file" ] || continue
        say "check of $file with $version:"
        runuser -u edge-ad -- "$prefix/releases/$version/bin/edge-ad" check -c "$file" || failed+=" $file"
    done
    [ -n "$failed" ] || return 0
    if [ "$skip_check" != 1 ]; then
        # Another build of the same version may come.
        [ "$version" = "$(release_of current)" ] || [ "$version" = "$(release_of previous)" ] ||
            rm -rf "$prefix/releases/$version"
        fail "the check failed of$failed; nothing has changed. --skip-check goes on"
    fi
    warn "the check failed of$failed"
}

# What runs now, and has to run again: it is ready, or is on its way and may stay there.
find_running() {
    local unit _ now starting calibrating
    # In variables: of a process substitution nobody would see that systemctl failed.
    now="$(list_units active,reloading)"
    starting="$(list_units activating)"
    calibrating="$(list_units activating 'edge-ad-calibrate@*.service')"
    ready=() coming=()
    while read -r unit _; do [ -z "$unit" ] || ready+=("$unit"); done <<<"$now"
    while read -r unit _; do [ -z "$unit" ] || coming+=("$unit"); done <<<"$starting"
    [ -z "$calibrating" ] || fail "a calibration is running; wait for it, or stop edge-ad-calibrate@"
}

list_units() { # STATES [PATTERN]
    local patterns=("${kinds[@]}")
    [ $# = 1 ] || patterns=("$2")
    systemctl list-units --plain --no-legend --state="$1" "${patterns[@]}"
}

place() { # RELEASE: units and links are its own
    local old unit name
    old="$(release_of current)"
    mkdir -p "$units"
    for unit in "$prefix/releases/$1"/systemd/*.service; do
        name="$(basename "$unit")"
        install -m 644 "$unit" "$units/.$name.new"
        mv "$units/.$name.new" "$units/$name"
    done
    for unit in "$prefix/releases/${old:-$1}"/systemd/*.service; do
        name="$(basename "$unit")"
        [ -e "$prefix/releases/$1/systemd/$name" ] || rm -f "$units/$name"
    done
    point "$prefix/current" "releases/$1"
    point "$prefix/bin" current/bin # where the units have it
    point "$prefix/install.sh" current/install.sh
    mkdir -p "$(dirname "$link")"
    point "$link" "$prefix/bin/edge-ad"
    systemctl daemon-reload
}

# Start what ran anew; fails where one that was ready does not get there again.
restart_running() {
    local unit failed=""
    [ ${#coming[@]} = 0 ] || systemctl restart --no-block "${coming[@]}"
    [ ${#ready[@]} != 0 ] || return 0
    say "starting anew: ${ready[*]}"
    systemctl restart "${ready[@]}" || failed=1
    sleep "$settle_s"
    for unit in "${ready[@]}"; do
        systemctl is-active --quiet "$unit" || {
            warn "$unit is not ready; its last lines:"
            journalctl --no-pager -n 5 -o cat -u "$unit" >&2 || true
            failed=1
        }
    done
    [ -z "$failed" ]
}

# Of a switch that was killed: the release before it, and what was ready then.
read_interrupted() {
    before="" was_ready=()
    [ -e "$prefix/.switching" ] || return 0
    local unit
    { read -r before || true
        while read -r unit; do was_ready+=("$unit"); done; } <"$prefix/.switching"
}

switch_to() { # RELEASE: and back again where something does not get ready
    local old unit
    old="$(release_of current)"
    read_interrupted
    if [ -n "$before" ]; then # what was ready then is to be so again, and that release is the way back
        for unit in "${was_ready[@]}"; do
            [[ " ${ready[*]} " == *" $unit "* ]] || ready+=("$unit")
        done
        old="$before"
    fi
    if [ "$1" = "$old" ]; then
        place "$1"
        [ -z "$before" ] || restart_running || fail "not everything is ready; see above"
        rm -f "$prefix/.switching"
        say "release $1 is in use"
        return
    fi
    printf '%s\n' "$old" "${ready[@]}" >"$prefix/.switching.new"
    mv "$prefix/.switching.new" "$prefix/.switching"
    place "$1"
    if restart_running; then
        [ -z "$old" ] || point "$prefix/previous" "releases/$old"
        rm -f "$prefix/.switching"
        say "release $1 is in use${old:+; before it was $old, to which $prefix/install.sh rollback returns}"
        return
    fi
    if [ -z "$old" ]; then
        rm -f "$prefix/.switching"
        fail "release $1 is in use, but not everything is ready; see above"
    fi
    warn "release $1 does not get ready; back to $old"
    place "$old"
    rm -f "$prefix/.switching"
    restart_running || fail "release $old is in use again, but not everything is ready; see above"
    fail "release $1 did not get ready; $old is in use again"
}

remove_old_releases() {
    local path name
    [ ! -e "$prefix/.switching" ] || return 0
    for path in "$prefix"/releases/*; do
        name="$(basename "$path")"
        [ "$name" = "$(release_of current)" ] || [ "$name" = "$(release_of previous)" ] || rm -rf "$path"
    done
}

install_or_upgrade() { # COMMAND
    local old
    read_package
    find_python
    old="$(release_of current)"
    [ "$1" = upgrade ] || [ -z "$old" ] || [ "$old" = "$version" ] || fail \
        "release $old is installed; 'install.sh upgrade' goes to $version"
    [ "$1" = install ] || [ -n "$old" ] || fail "nothing is installed; 'install.sh install'"
    find_running
    install_release
    [ -n "$old" ] || make_accounts "$version"
    check_stations
    [ -z "$old" ] || make_accounts "$version"
    find_running # once more: all this took minutes
    switch_to "$version"
    remove_old_releases
}

rollback() {
    local previous
    previous="$(release_of previous)"
    read_interrupted
    [ -z "$before" ] || previous="$before"
    [ -e "$prefix/releases/${previous:-none}/.complete" ] || fail "there is no release before this one"
    find_running
    make_accounts "$previous"
    switch_to "$previous"
}

uninstall() {
    local path
    for path in "$units"/*.target.wants/edge-ad{,-station,-plc}@*.service; do
        [ ! -L "$path" ] || systemctl disable --quiet "$(basename "$path")"
    done
    systemctl stop "${kinds[@]}" 'edge-ad-calibrate@*.service'
    rm -f "$units"/edge-ad{,-station,-plc,-calibrate}@.service "$link"
    rm -f "$etc/sysusers.d/edge-ad.conf" "$etc/tmpfiles.d/edge-ad.conf"
    rm -rf "$prefix"
    if [ "$purge" = 1 ]; then
        rm -rf "$etc/edge-ad" "$root/var/lib/edge-ad" "$root/var/log/edge-ad" "$root/var/cache/edge-ad" \
            "$root/run/edge-ad" "$units"/edge-ad{,-station,-plc,-calibrate}@*.service.d
        if getent passwd edge-ad >/dev/null; then userdel edge-ad; fi
        say "edge_ad and its stations are removed"
    else
        say "edge_ad is removed; stations are kept in $etc/edge-ad and $root/var/lib/edge-ad"
    fi
    systemctl daemon-reload
}

main() {
    local command="${1:-}"
    python="" skip_check=0 purge=0
    [ $# = 0 ] || shift
    while [ $# -gt 0 ]; do
        case "$command $1" in
            "install --skip-check" | "upgrade --skip-check") skip_check=1 ;;
            "uninstall --purge") purge=1 ;;
            "install --python" | "upgrade --python")
                [ $# -ge 2 ] || fail "--python: needs a file"
                python="$2"
                shift
                ;;
            *) usage >&2 && fail "$1: unknown after '$command'; see above" ;;
        esac
        shift
    done
    case "$command" in
        install | upgrade | rollback | uninstall) ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && fail "give a command; see above" ;;
    esac
    [ "$(id -u)" = 0 ] || fail "be root"
    mkdir -p "$root/run"
    exec 9>"$root/run/edge-ad-install.lock"
    flock -n 9 || fail "another install.sh is running; wait for it"
    case "$command" in
        install | upgrade) install_or_upgrade "$command" ;;
        *) "$command" ;;
    esac
}

main "$@"
