#!/usr/bin/env bash
# Runs rusd under 1000 clients with 1000 watches, leases that expire and compactions, and fails on a stall (no call completed
# for five seconds), a failed call, a lost event or memory beyond a bound.
#
#   scripts/soak.sh            ten minutes
#   scripts/soak.sh --short    forty seconds, for CI
#
# Any flag of `bench soak` may be given. RUSD_BIN names another binary.
set -euo pipefail
cd "$(dirname "$0")/.."

args=()
if [[ "${1:-}" == "--short" ]]; then
    shift
    args=(-duration 40s -compact-every 20s)
fi
if [[ -z "${RUSD_BIN:-}" ]]; then
    cargo build --release --locked
fi
(cd tests/go && go build -o ../../target/go-bin/bench ./bench)
exec target/go-bin/bench soak "${args[@]}" "$@"
