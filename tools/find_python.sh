#!/bin/sh
# Print the first interpreter that is new enough and can make virtual environments; else one line saying what is wrong.
found=""
for python in python3 python3.14 python3.13 python3.12 python3.11 python; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    found="$found $python=$version"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python"
        exit 0
    fi
    no_venv=$python
done
if [ -n "$no_venv" ]; then
    echo "setup: $no_venv lacks the module venv: install it (Debian, Ubuntu: apt install python3-venv)." >&2
else
    echo "setup: Python 3.11 or newer is needed (found:${found:- none}): install it, or use make ... PYTHON=/path/to/it." >&2
fi
exit 1
