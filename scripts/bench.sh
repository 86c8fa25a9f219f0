#!/usr/bin/env bash
# Compares rusd, with each storage engine, and a real etcd 3.7: alternate rounds on this machine, the load from a process
# of its own. Prints one table with ratios, and writes it with a chart to target/bench/.
#
#   scripts/bench.sh                 the full comparison (about three quarters of an hour; the machine should be idle)
#   scripts/bench.sh --short         one round of one second a load, small store: to see that it works
#   scripts/bench.sh -only 'put, '   only some rows; any flag of `bench compare` may be given
#   scripts/bench.sh -before FILE    another build of rusd beside this one, in the same run
#
# RUSD_BIN and ETCD_BIN name other binaries, BENCH_DIR where the servers keep their data: it should be on the disk to be
# measured, not in memory.
set -euo pipefail
cd "$(dirname "$0")/.."

args=()
if [[ "${1:-}" == "--short" ]]; then
    shift
    args=(-rounds 1 -duration 1s -keys 10000 -big-keys 20000 -watchers 100,1000)
fi

scripts/go-tools.sh >/dev/null
if [[ -z "${RUSD_BIN:-}" ]]; then
    cargo build --release --locked
fi
(cd tests/go && go build -o ../../target/go-bin/bench ./bench)

dir="${BENCH_DIR:-target/bench/data}"
mkdir -p "$dir" target/bench
exec target/go-bin/bench compare -dir "$dir" -table target/bench/table.md -chart target/bench/chart.svg "${args[@]}" "$@"
