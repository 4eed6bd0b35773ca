#!/bin/sh
# Prints the path of a Python that jaxfwi supports.
#
#   find_python.sh [newest|oldest] [PYTHON]
#
# Looks at python3.14 down to python3 in every folder of PATH and at pyenv's versions, and believes a Python only
# once it has run: a shim may point to a version that is not there, and a system Python may lack venv. With PYTHON
# (a path or a name) only that one is considered. Exits 1, saying why, when there is none.
set -u

want=${1:-newest}
asked=${2:-}
supported="CPython 3.11 to 3.14 with venv and ensurepip"

# Of a Python inside a virtual environment prints the one beneath: the environment may be the one to be replaced.
probe='
import sys
version = sys.version_info
if sys.implementation.name != "cpython" or version.releaselevel != "final":
    raise SystemExit("not a release of CPython: " + sys.version)
if not (3, 11) <= version[:2] <= (3, 14):
    raise SystemExit("version " + sys.version.split()[0])
if sys.maxsize < 2**32:
    raise SystemExit("a 32-bit build")
import ensurepip, sysconfig, venv
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise SystemExit("a free-threaded build")
ensurepip.version()
print(version[1], version[2], getattr(sys, "_base_executable", None) or sys.executable)
'

examine() { # PATH: prints "minor micro path" of a supported Python
    "$1" -I -c "$probe" </dev/null
}

candidates() {
    names="python3.14 python3.13 python3.12 python3.11 python3"
    printf '%s\n' "$PATH" | tr ':' '\n' | while IFS= read -r folder; do
        for name in $names; do
            if [ -x "$folder/$name" ]; then printf '%s\n' "$folder/$name"; fi
        done
    done
    for root in "${PYENV_ROOT:-}" "${HOME:-}/.pyenv"; do
        for python in "$root"/versions/*/bin/python3; do
            if [ -n "$root" ] && [ -x "$python" ]; then printf '%s\n' "$python"; fi
        done
    done
}

case $want in
newest | oldest) ;;
*)
    echo "usage: find_python.sh [newest|oldest] [PYTHON]" >&2
    exit 2
    ;;
esac

if [ -n "$asked" ]; then
    if found=$(examine "$asked"); then
        printf '%s\n' "${found#* * }"
        exit 0
    fi
    echo "'$asked' is not a Python that jaxfwi supports ($supported)." >&2
    exit 1
fi

# Of equals the first stays; of the oldest line of versions its newest release is taken.
if [ "$want" = newest ]; then order="-k1,1nr"; else order="-k1,1n"; fi
found=$(
    candidates | while IFS= read -r python; do examine "$python" 2>/dev/null; done | sort -s "$order" -k2,2nr | head -n 1
)
if [ -z "$found" ]; then
    echo "No supported Python found: jaxfwi needs $supported." >&2
    echo "Install one (on Debian and Ubuntu: python3 and python3-venv), or name yours: make PYTHON=/path/to/python" >&2
    exit 1
fi
printf '%s\n' "${found#* * }"
