#!/usr/bin/env bash
# Runs a command and prints its last line, or all that it printed where it fails: tests/quiet.sh COMMAND [ARGUMENT...]
set -uo pipefail
output=$("$@" 2>&1) || { printf '%s\n' "$output" && exit 1; }
echo "$*: ${output##*$'\n'}"
