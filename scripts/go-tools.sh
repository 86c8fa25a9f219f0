#!/usr/bin/env bash
# Builds the real etcd 3.7, etcdctl and etcdutl into target/go-bin, from the versions pinned in tests/go/tools/go.mod.
# Does nothing when they are already there at that version. Prints the directory.
set -euo pipefail
cd "$(dirname "$0")/.."

module=tests/go/tools
out="${RUSD_GO_BIN:-$PWD/target/go-bin}"
mkdir -p "$out"

# The stamp names everything that decides the result: the pinned modules and the compiler.
stamp="$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c1-16) $(go version)"
if [[ -f "$out/.stamp" && "$(cat "$out/.stamp")" == "$stamp" && -x "$out/etcd" && -x "$out/etcdctl" && -x "$out/etcdutl" ]]; then
    echo "$out"
    exit 0
fi

build() { # name package
    # Stripped and static, as etcd's own releases are built: binary sizes are compared.
    (cd "$module" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$out/$1" "$2")
}
build etcd go.etcd.io/etcd/server/v3
build etcdctl go.etcd.io/etcd/etcdctl/v3
build etcdutl go.etcd.io/etcd/etcdutl/v3
echo "$stamp" >"$out/.stamp"
echo "$out"
