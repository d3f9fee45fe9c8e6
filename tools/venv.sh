# Sourced by ./demo and ./check: makes .venv at the root of the checkout and keeps it in step with pyproject.toml.
# Needs nothing but a Python >= 3.11; on Debian it fetches the package that makes environments when root may.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"

say() { echo "== $*"; }
fail() { echo "!! $*" >&2; exit 1; }

# Prints the first interpreter that is new enough. $PYTHON, where set, is the only candidate.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" > /dev/null \
            && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python >= 3.11 found${PYTHON:+ at $PYTHON}; install one, or name it: PYTHON=/path/to/python3 $0"
}

# Debian splits ensurepip, which makes environments, off its Python into python3-venv.
need_ensurepip() {
    local python=$1 package
    "$python" -c 'import venv, ensurepip' 2> /dev/null && return
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        say "installing $package: this Python cannot make environments without it"
        apt-get -qq update || true
        DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
            install --yes --no-install-recommends "$package" > /dev/null || true
    fi
    "$python" -c 'import venv, ensurepip' 2> /dev/null \
        || fail "this Python cannot make environments. On Debian: sudo apt-get install $package"
}

# make_venv demo   the package with the extras that the demonstration needs
# make_venv dev    the same, and the dependency group "dev"
# Does nothing if that was done before with the same pyproject.toml, compiled part and Python.
make_venv() {
    local what=$1 python stamp key requirements=()
    stamp="$venv/.installed-$what"
    if ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; then
        python=$(find_python)
        need_ensurepip "$python"
        say "making .venv ($("$python" --version))"
        "$python" -m venv --clear "$venv"
    fi
    # The root as well: an editable install points to where the checkout stood.
    key=$({
        "$venv/bin/python" --version
        echo "$root"
        cat "$root/pyproject.toml" "$root/setup.py" "$root/src/pcj/_speed.c"
    } | sha256sum | cut -d' ' -f1)
    [ "$(cat "$stamp" 2> /dev/null)" != "$key" ] || return 0
    if [ "$what" = dev ]; then
        # Read by hand, because pip knows dependency groups from 25.1 on and Debian 12 has 23.0.
        mapfile -t requirements < <("$venv/bin/python" - "$root/pyproject.toml" <<'PYTHON'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(*tomllib.load(file)["dependency-groups"]["dev"], sep="\n")
PYTHON
        )
        [ ${#requirements[@]} -gt 0 ] || fail "no dependency group \"dev\" in pyproject.toml"
    fi
    say "installing into .venv; only the first time takes a while"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --editable "$root[cli,testing]" "${requirements[@]}" \
        || fail "pip could not install the dependencies, see above; is there a network?"
    echo "$key" > "$stamp"
    # Whoever has the tools has the demonstration's packages too.
    [ "$what" != dev ] || echo "$key" > "$venv/.installed-demo"
}
