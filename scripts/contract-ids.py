#!/usr/bin/env python3
"""Lists the rows of tests/contract-ids.tsv that no test names, and fails if there are any.

A test names a row in its name: in Rust as `fn kv_r03_...` or in the name or a comment line of a golden script, in Go as
`TestX_KVR03` or in the title of a case (`## KV-R03 ...`) or of a table's row (`"F-01 version"`).
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SKIP = {"target", ".git"}


def files(*suffixes):
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and path.suffix in suffixes and not SKIP.intersection(parts):
            yield path


def main():
    claimed, excluded = [], {}
    for row in (ROOT / "tests/contract-ids.tsv").read_text().splitlines():
        if not row or row.startswith("#"):
            continue
        ident, _, reason = row.partition("\t")
        if reason:
            excluded[ident] = reason
        else:
            claimed.append(ident)
    known = set(claimed) | set(excluded)
    # kv_r03, w_05, pr_10 in Rust; KVR03, W05, PR10 in Go.
    plain = {ident.replace("-", ""): ident for ident in known}
    named = {}

    def found(ident, where):
        if ident in known:
            named.setdefault(ident, []).append(str(where.relative_to(ROOT)))

    dashed = re.compile(r"\b[A-Z]{1,2}-[A-Z]?\d\d\b")
    snake = re.compile(r"(?:^|_)([a-z]{1,2})_([a-z]?\d\d)(?=_|$)")
    for path in files(".rs"):
        text = path.read_text(errors="replace")
        for name in re.findall(r"\bfn\s+(\w+)", text):
            for kind, number in snake.findall(name):
                found(f"{kind}-{number}".upper(), path)
    for path in files("", ".txt", ".script"):
        if "scripts" in path.parts or "cases" in path.parts:
            for kind, number in snake.findall(path.stem):
                found(f"{kind}-{number}".upper(), path)
            for line in path.read_text(errors="replace").splitlines():
                if line.startswith("#"):
                    for ident in dashed.findall(line):
                        found(ident, path)
    for path in files(".go"):
        if not path.name.endswith("_test.go"):
            continue
        text = path.read_text()
        for name in re.findall(r"\bfunc (Test\w+)", text):
            for part in name.split("_")[1:]:
                if part in plain:
                    found(plain[part], path)
        for title in re.findall(r'\{"([^"]+)"', text):
            for ident in dashed.findall(title):
                found(ident, path)

    missing = [ident for ident in claimed if ident not in named]
    for ident in missing:
        print(f"no test names {ident}")
    for ident in sorted(set(excluded) & set(named)):
        print(f"note: {ident} is left out ({excluded[ident]}), but {named[ident][0]} names it")
    print(f"{len(claimed) - len(missing)} of {len(claimed)} rows have tests, {len(excluded)} are left out with a reason")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
