#!/bin/sh
# Runs uv with the Python that is already here. The first run installs uv from PyPI into .tools/.
# Usage, from the root of the project: sh scripts/uv.sh sync --locked
set -eu

# Pinned, so that everybody writes uv.lock in the same format.
version=0.13.9
folder=".tools/uv-$version"

usable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3 python; do
        if usable "$name"; then
            # The real path: a pyenv shim answers differently in another folder.
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    echo "No Python 3.11, 3.12 or 3.13 found; install one, or name it: make PYTHON=/path/to/python" >&2
    return 1
}

UV_PYTHON=$(find_python)
export UV_PYTHON
export UV_PYTHON_DOWNLOADS=never
export UV_PROJECT_ENVIRONMENT=.venv
# Another active environment is none of our business; uv would warn about it each time.
unset VIRTUAL_ENV

if [ ! -x "$folder/bin/uv" ]; then
    echo "Installing uv $version into $folder" >&2
    "$UV_PYTHON" scripts/install_uv.py "$folder" "$version"
fi
exec "$folder/bin/uv" "$@"
