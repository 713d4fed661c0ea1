#!/usr/bin/env bash
# pip install, told in one line a package: .ci/install.sh PYTHON [ARGUMENT of pip install...]. All that pip says stays in
# build/pip.log, and is shown where it fails.
set -uo pipefail
mkdir -p build
"$1" -m pip install --progress-bar off --disable-pip-version-check --root-user-action=ignore "${@:2}" 2>&1 |
    tee build/pip.log | awk '
        function tell(text) { print "   " text; fflush() }
        match($0, /[^ \/]+\.(whl|tar\.gz)( |$)/) && /^ *(Downloading|Using cached|Processing) / {
            split(substr($0, RSTART, RLENGTH), file, "-")
            size = match($0, /\([0-9.]+ [kMG]?B\)/) ? " " substr($0, RSTART, RLENGTH) : ""
            tell(++count " " file[1] " " file[2] size)
        }
        /^Installing collected packages:/ { tell("unpacking " NF - 3 " packages") }
        /^Successfully installed/ { tell(NF - 2 " packages installed") }'
code=${PIPESTATUS[0]}
[ "$code" -eq 0 ] || cat build/pip.log
exit "$code"
