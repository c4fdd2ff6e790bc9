#!/usr/bin/env bash
# Install edge_ad on a Jetson with JetPack 6.1 or later, or 7: a virtual environment that sees JetPack's
# TensorRT, and the GStreamer packages that cameras need. Running it again brings an installation up to
# date. Power mode and clocks are shown, never changed.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: install.sh [--wheelhouse DIR] [--prefix DIR] [--dry-run]

  --wheelhouse DIR  install from DIR alone, as deploy/wheelhouse makes it; without it from this checkout
                    and the package index
  --prefix DIR      the virtual environment (/opt/edge-ad)
  --dry-run         print the commands instead of running them

NV_TEGRA_RELEASE=FILE is read instead of /etc/nv_tegra_release.
TEXT
}

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

dry_run=0
wheelhouse=""
prefix="/opt/edge-ad"
while [ $# -gt 0 ]; do
    case "$1" in
        --dry-run) dry_run=1 ;;
        --wheelhouse | --prefix)
            if [ $# -lt 2 ] || [ -z "$2" ]; then fail "$1: needs a directory"; fi
            if [ "$1" = --prefix ]; then prefix="$2"; else wheelhouse="$2"; fi
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            fail "$1: unknown; see above"
            ;;
    esac
    shift
done
checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)

# Print a command, and run it unless this is a dry run.
run() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    [ "$dry_run" = 1 ] || "$@"
}

# What cannot be is only said in a dry run, which may be on another machine.
require() {
    if [ "$dry_run" = 1 ]; then warn "$*"; else fail "$*"; fi
}

# Sets jetpack and python from the first line of the release file:
# "# R36 (release), REVISION: 4.3, GCID: ..."
read_release() {
    local file="${NV_TEGRA_RELEASE:-/etc/nv_tegra_release}" line="" minor
    [ -r "$file" ] || fail "$file is not there: this is no Jetson, or its L4T was not flashed by JetPack"
    IFS= read -r line <"$file" || true
    if ! [[ "$line" =~ ^#\ R([0-9]+)\ \(release\),\ REVISION:\ ([0-9]+)(\.[0-9]+)? ]]; then
        fail "$file: its first line is not an L4T release ($line); expected '# R36 (release), REVISION: 4.3'"
    fi
    l4t="${BASH_REMATCH[1]}.${BASH_REMATCH[2]}${BASH_REMATCH[3]}"
    minor="${BASH_REMATCH[2]}"
    case "${BASH_REMATCH[1]}" in
        36)
            [ "$minor" -ge 4 ] || fail "L4T $l4t is JetPack 6.0, whose TensorRT 8.6 is too old (10 is" \
                "needed); update to JetPack 6.1 or later"
            jetpack="6 (CUDA 12, TensorRT 10.3)" python="python3.10"
            ;;
        38) jetpack="7 (CUDA 13, TensorRT 10.13)" python="python3.12" ;;
        39) jetpack="7 (CUDA 13.2, TensorRT 10.16)" python="python3.12" ;;
        [0-9] | [12][0-9] | 3[0-57]) fail "L4T $l4t has a Python or a CUDA that edge_ad does not" \
            "support; update to JetPack 6.1 or later (JetPack 5 is the last for Xavier)" ;;
        *)
            warn "L4T $l4t is newer than this script; it is taken to be like JetPack 7"
            jetpack="unknown" python="python3.12"
            ;;
    esac
}

install_packages() {
    local wanted=(
        python3-venv python3-libnvinfer nvidia-l4t-gstreamer libgstreamer1.0-0
        libgstreamer-plugins-base1.0-0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
        gstreamer1.0-tools v4l-utils
    )
    local package missing=()
    # Without a wheelhouse pycuda is compiled here.
    [ -n "$wheelhouse" ] || wanted+=(g++ python3-dev)
    for package in "${wanted[@]}"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    if [ ${#missing[@]} = 0 ]; then
        say "packages: all ${#wanted[@]} are installed"
        return
    fi
    run "${sudo[@]}" apt-get install -y --no-install-recommends "${missing[@]}"
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

make_environment() {
    if [ -x "$prefix/bin/python" ]; then
        if command -v "$python" >/dev/null; then
            [ "$(version_of "$prefix/bin/python")" = "$(version_of "$python")" ] || fail \
                "$prefix was made with Python $(version_of "$prefix/bin/python"), this JetPack has" \
                "$python; move it away, then run this again"
        fi
        # Without this JetPack's TensorRT is out of sight.
        grep -qi '^include-system-site-packages = true' "$prefix/pyvenv.cfg" || fail \
            "$prefix does not see the system's packages; move it away, then run this again"
        say "environment: $prefix is kept"
        return
    fi
    command -v "$python" >/dev/null || require "$python is not installed, as JetPack $jetpack has it"
    run "${sudo[@]}" "$python" -m venv --system-site-packages "$prefix"
}

install_edge_ad() {
    local pip=("$prefix/bin/python" -m pip install --upgrade)
    if [ -z "$wheelhouse" ]; then
        [ -e "$checkout/edge_ad/cuda/bin" ] || warn "this checkout has no GPU kernels, whose compiler is" \
            "for x86-64: what needs them says so; for these install from a wheelhouse"
        # pycuda looks for CUDA by its compiler.
        run "${sudo[@]}" env "PATH=/usr/local/cuda/bin:$PATH" "${pip[@]}" "${checkout}[build,cuda]"
        return
    fi
    compgen -G "$wheelhouse/edge_ad-*.whl" >/dev/null || require \
        "$wheelhouse: no wheel of edge_ad is in it; make it with deploy/wheelhouse/make.py"
    pip+=(--no-index --find-links "$wheelhouse")
    if [ -e "$wheelhouse/requirements.txt" ]; then
        run "${sudo[@]}" "${pip[@]}" --require-hashes -r "$wheelhouse/requirements.txt"
    else
        run "${sudo[@]}" "${pip[@]}" 'edge_ad[build,cuda]'
    fi
}

check_installation() {
    local code='import tensorrt
version = tensorrt.__version__
print("TensorRT", version)
raise SystemExit(int(version.split(".")[0]) < 10)'
    run "$prefix/bin/python" -c "$code" || fail "TensorRT 10 or later cannot be imported by" \
        "$prefix/bin/python; apt-get install --reinstall python3-libnvinfer"
    run "$prefix/bin/edge-ad" --version
    run gst-inspect-1.0 --exists nvarguscamerasrc ||
        warn "no element nvarguscamerasrc: CSI cameras cannot be read; apt-get install nvidia-l4t-gstreamer"
}

show_power() {
    say ""
    say "Power mode and clocks, which this script does not change:"
    if command -v nvpmodel >/dev/null; then
        "${sudo[@]}" nvpmodel -q || warn "nvpmodel -q failed; is nvpmodel.service running?"
    else
        say "(no nvpmodel here)"
    fi
    if command -v jetson_clocks >/dev/null; then
        "${sudo[@]}" jetson_clocks --show || warn "jetson_clocks --show failed"
    else
        say "(no jetson_clocks here)"
    fi
    cat <<'TEXT'
For short and even times choose the mode with the most power that supply and cooling bear, then lock the
clocks; calibrate and measure ('edge-ad bench') with what the line will run:
  nvpmodel -p --verbose        lists the modes;  sudo nvpmodel -m ID  chooses one, kept over a restart
  sudo jetson_clocks --store   keeps the clocks as they are;  sudo jetson_clocks  locks them, until a restart
deploy/jetson/README.md has a unit that locks them at every start.
TEXT
}

read_release
say "L4T $l4t: JetPack $jetpack, $python"
[ "$(uname -m)" = aarch64 ] || require "this is $(uname -m), a Jetson is aarch64"
install_packages
make_environment
install_edge_ad
check_installation
show_power
