//! The pages of the tree point at what exists: relative links, their headings, and the paths that they name.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// What begins a path of the tree in running text.
const ROOTS: [&str; 13] = [
    ".ci/", "actors/", "benches/", "config/", "docs/", "fuzz/", "proto/", "scripts/", "src/",
    "state/", "storage/", "tests/", ".cargo/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let markdown = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .collect()
    };
    [markdown(root()), markdown(&root().join("docs"))].concat()
}

/// The targets of `[text](target)` and of `![text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
}

/// What stands between backticks and begins like a path of the tree. One with a wildcard or a placeholder is none.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let spans = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| {
        ROOTS.iter().any(|root| span.starts_with(root))
            && !span.contains(|c: char| c.is_whitespace() || "*<{$".contains(c))
    })
}

/// The name that a heading has as the target of a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

fn has_heading(page: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(page).unwrap_or_default();
    let headings = text
        .lines()
        .filter_map(|line| Some(line.strip_prefix('#')?.trim_start_matches('#')));
    headings.map(anchor).any(|anchor| anchor == wanted)
}

fn broken(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let dir = page.parent().unwrap();
    let is_broken = |link: &&str| {
        let (path, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() {
            page.to_owned()
        } else {
            dir.join(path)
        };
        !target.exists() || !heading.is_empty() && !has_heading(&target, heading)
    };
    let local = links(&text).filter(|link| !link.contains("://"));
    let broken_links = local.filter(is_broken).map(str::to_owned);
    let broken_paths = paths(&text)
        .filter(|path| !root().join(path).exists())
        .map(str::to_owned);
    broken_links.chain(broken_paths).collect()
}

#[test]
fn what_pages_point_at_exists() {
    let broken: Vec<String> = pages()
        .iter()
        .flat_map(|page| {
            broken(page)
                .into_iter()
                .map(|target| format!("{}: {target}", page.display()))
        })
        .collect();
    assert!(
        broken.is_empty(),
        "these lead nowhere:\n{}",
        broken.join("\n")
    );
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs");
    fs::create_dir_all(&dir).unwrap();
    let page = dir.join("page.md");
    let text = "# One, two\n[a](page.md#one-two) [b](page.md#three) [c](gone.md) \
                `src/gone.rs` `src/lib.rs` [d](https://d)";
    fs::write(&page, text).unwrap();
    assert_eq!(broken(&page), ["page.md#three", "gone.md", "src/gone.rs"]);
}

/// The drawings and tables of some text, fences included, in order, each with where it begins and ends in lines.
fn drawings(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let begins = at;
        at += 1;
        let ends = |at: usize| match lines[begins] {
            "```text" => lines[at - 1] == "```" && at - 1 > begins,
            table if table.starts_with('|') => {
                lines.get(at).is_none_or(|line| !line.starts_with('|'))
            }
            _ => true,
        };
        while at < lines.len() && !ends(at) {
            at += 1;
        }
        if lines[begins] == "```text" || lines[begins].starts_with('|') {
            found.push((begins, at));
        }
    }
    found
}

/// The nth drawing of the documentation that opens a file of the tree.
fn drawing_of(source: &str, n: usize) -> String {
    let text = fs::read_to_string(root().join(source)).unwrap();
    let documentation = text.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<&str> = documentation
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let found = drawings(&lines);
    let (begins, ends) = *found
        .get(n - 1)
        .unwrap_or_else(|| panic!("{source} has {} drawings", found.len()));
    lines[begins..ends].join("\n")
}

/// A page with each drawing below `<!-- drawn in FILE -->`, or `<!-- drawn in FILE, N -->`, as it is in that file.
fn redrawn(page: &str) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let found = drawings(&lines);
    let mut out = String::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        out.push_str(line);
        out.push('\n');
        at += 1;
        let Some(source) = line
            .strip_prefix("<!-- drawn in ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        else {
            continue;
        };
        let (file, n) = source
            .split_once(", ")
            .map_or((source, 1), |(file, n)| (file, n.parse().unwrap()));
        out.push_str(&format!("\n{}\n", drawing_of(file, n)));
        at = found
            .iter()
            .find(|(begins, _)| *begins >= at)
            .map_or(at, |(_, ends)| *ends);
    }
    out
}

#[test]
fn drawings_are_those_of_the_code() {
    let page = root().join("docs/formats.md");
    let text = fs::read_to_string(&page).unwrap();
    let redrawn = redrawn(&text);
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        fs::write(&page, redrawn).unwrap();
        return;
    }
    assert!(
        redrawn == text,
        "docs/formats.md differs from the code: run this test with UPDATE_GOLDENFILES=1"
    );
}
