#!/usr/bin/env python3
"""Holds the rows of tests/contract-ids.tsv against the tests, and docs/contract.md against both.

Fails if a row that rusd keeps has no test, or if docs/contract.md is not what it would write now; `--write` writes it.

A test names a row in its name: in Rust as `fn kv_r03_...` or in the name or a comment line of a golden script, in Go as
`TestX_KVR03` or in the title of a case (`## KV-R03 ...`) or of a table's row (`"F-01 version"`).
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = ROOT / "tests/contract-ids.tsv"
PAGE = ROOT / "docs/contract.md"
SKIP = {"target", ".git"}

SECTIONS = {
    "G": "Every call",
    "KV-R": "Range",
    "KV-S": "RangeStream",
    "KV-P": "Put",
    "KV-D": "DeleteRange",
    "KV-T": "Txn",
    "KV-C": "Compact",
    "W": "Watch",
    "L": "Lease",
    "C": "Cluster",
    "M": "Maintenance",
    "H": "gRPC health",
    "E": "Errors",
    "V": "Limits",
    "P": "HTTP and the ports",
    "F": "Flags, variables and the configuration file",
    "K": "What Kubernetes relies on",
    "O": "Operation",
    "PR": "The process",
}

HEAD = """# The contract

What clients, operators and tools can observe of rusd, which is what they observe of etcd 3.7: one row for each behaviour, and the
tests that carry its id in their names. Each id is a name in code too: `KV-R03` is `kv_r03` in a test or a golden script in Rust, and
`KVR03` in Go. Rows under "left out" are etcd's, and rusd does not keep them yet.

Beside these rows, `tests/go/differential/metrics_test.go` compares the names, kinds and labels of metrics with etcd's, and
`proto/src/error.rs` has the texts and codes of errors.

Written by `scripts/contract-ids.py --write` out of `tests/contract-ids.tsv` and the tests.
"""

DASHED = re.compile(r"\b[A-Z]{1,2}-[A-Z]?\d\d\b")
SNAKE = re.compile(r"(?:^|_)([a-z]{1,2})_([a-z]?\d\d)(?=_|$)")


class Row:
    def __init__(self, line):
        fields = line.split("\t")
        if len(fields) not in (2, 3) or not all(fields):
            sys.exit(f"{ROWS.name}: a row is an id, a sentence and perhaps a reason: {line!r}")
        self.ident, self.sentence = fields[:2]
        self.left_out = fields[2] if len(fields) == 3 else None
        self.section = re.sub(r"-?\d+$", "", self.ident)
        self.tests = set()


def files(*suffixes):
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.suffix in suffixes and not SKIP.intersection(parts) and path.is_file():
            yield path


def in_rust():
    for path in files(".rs"):
        for name in re.findall(r"\bfn\s+(\w+)", path.read_text(errors="replace")):
            for kind, number in SNAKE.findall(name):
                yield f"{kind}-{number}".upper(), name, path


def in_scripts():
    for path in files("", ".txt", ".script"):
        if "scripts" not in path.parts and "cases" not in path.parts:
            continue
        for kind, number in SNAKE.findall(path.stem):
            yield f"{kind}-{number}".upper(), path.name, path
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("#"):
                for ident in DASHED.findall(line):
                    yield ident, path.name, path


def in_go(known):
    plain = {ident.replace("-", ""): ident for ident in known}
    for path in files(".go"):
        if not path.name.endswith("_test.go"):
            continue
        text = path.read_text()
        for name in re.findall(r"\bfunc (Test\w+)", text):
            for part in name.split("_")[1:]:
                if part in plain:
                    yield plain[part], name, path
        for title in re.findall(r'\{"([^"]+)"', text):
            for ident in DASHED.findall(title):
                yield ident, path.name, path


def read_rows():
    lines = (line for line in ROWS.read_text().splitlines() if line and not line.startswith("#"))
    rows = {row.ident: row for row in map(Row, lines)}
    for found in (in_rust(), in_scripts(), in_go(rows)):
        for ident, name, path in found:
            if ident in rows:
                rows[ident].tests.add((name, path.relative_to(ROOT).as_posix()))
    return rows


def link(test):
    name, path = test
    return f"[{name}](../{path})"


def proof(row):
    tests = ", ".join(map(link, sorted(row.tests)))
    if not row.left_out:
        return tests
    return f"left out: {row.left_out}" + (f"; in part: {tests}" if tests else "")


def page(rows):
    out = [HEAD]
    for section, title in SECTIONS.items():
        of_section = [row for row in rows.values() if row.section == section]
        out.append(f"\n## {title}\n\n| id | what is observed | tests |\n|---|---|---|\n")
        for row in of_section:
            out.append(f"| {row.ident} | {row.sentence} | {proof(row)} |\n")
    return "".join(out)


def main():
    rows = read_rows()
    missing = [row.ident for row in rows.values() if not row.left_out and not row.tests]
    for ident in missing:
        print(f"no test names {ident}")
    unknown = sorted({row.section for row in rows.values()} - set(SECTIONS))
    if unknown:
        sys.exit(f"no section is named for {', '.join(unknown)}")
    written = page(rows)
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(written)
    stale = not PAGE.exists() or PAGE.read_text() != written
    if stale:
        print(f"docs/{PAGE.name} is stale: run scripts/contract-ids.py --write")
    kept = sum(1 for row in rows.values() if not row.left_out)
    print(f"{kept - len(missing)} of {kept} rows have tests, {len(rows) - kept} are left out with a reason")
    return 1 if missing or stale else 0


if __name__ == "__main__":
    sys.exit(main())
