//! The sources as tokens: comments and the insides of strings are no code.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use std::fmt;
use std::path::Path;

/// Where a rule is broken, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// One Rust file.
pub struct Source {
    /// From the root, with slashes.
    pub path: String,
    pub text: String,
    pub tokens: TokenStream,
    /// It is declared behind `#[cfg(test)]`.
    is_test_module: bool,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let tokens = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens,
            is_test_module: false,
        }
    }

    /// The code that is built into the product: what is behind `#[cfg(test)]` is left out.
    pub fn product(&self) -> TokenStream {
        without_tests(self.tokens.clone())
    }

    /// Whether the whole file is test code.
    pub fn is_test(&self) -> bool {
        let folder =
            |name: &str| self.path.starts_with(name) || self.path.contains(&format!("/{name}"));
        folder("tests/") || folder("benches/") || folder("fuzz/") || self.is_test_module
    }

    pub fn at(&self, line: usize, what: impl Into<String>) -> Violation {
        Violation {
            path: self.path.clone(),
            line,
            what: what.into(),
        }
    }
}

/// Every Rust file of the repository.
pub fn sources(root: &Path) -> Vec<Source> {
    fn visit(root: &Path, folder: &Path, found: &mut Vec<Source>) {
        let mut entries: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    visit(root, &path, found);
                }
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .replace('\\', "/");
                found.push(Source::new(&path, &text));
            }
        }
    }
    let mut found = Vec::new();
    visit(root, root, &mut found);
    let test_modules: Vec<String> = found.iter().flat_map(test_modules).collect();
    for source in &mut found {
        source.is_test_module = test_modules.contains(&source.path);
    }
    found
}

/// The files of the modules that a file declares behind `#[cfg(test)]`.
fn test_modules(source: &Source) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let folder = match file {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        file => format!("{folder}/{}", file.trim_end_matches(".rs")),
    };
    let tokens: Vec<_> = source.tokens.clone().into_iter().collect();
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(attribute) = token else {
            continue;
        };
        if !is_cfg_test(attribute) {
            continue;
        }
        let item = tokens[at + 1..]
            .iter()
            .take_while(|token| !matches!(token, TokenTree::Punct(end) if end.as_char() == ';'))
            .map(ToString::to_string);
        // A module with a body has no name at the end of this.
        let item: Vec<String> = item.collect();
        if let [.., keyword, name] = &item[..]
            && keyword == "mod"
        {
            found.extend([
                format!("{folder}/{name}.rs"),
                format!("{folder}/{name}/mod.rs"),
            ]);
        }
    }
    found
}

fn is_cfg_test(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)"
}

/// Drops each item that follows `#[cfg(test)]`, through its closing brace or semicolon.
fn without_tests(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match (&token, tokens.peek()) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(attribute)))
                if hash.as_char() == '#' && is_cfg_test(attribute) =>
            {
                for skipped in tokens.by_ref() {
                    match skipped {
                        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                        TokenTree::Punct(end) if end.as_char() == ';' => break,
                        _ => {}
                    }
                }
            }
            (TokenTree::Group(group), _) => {
                let mut inside = Group::new(group.delimiter(), without_tests(group.stream()));
                inside.set_span(group.span());
                kept.push(TokenTree::Group(inside));
            }
            _ => kept.push(token),
        }
    }
    kept.into_iter().collect()
}

/// A name as it is written: `std::fs::read`, also when it comes from `use std::{fs::read, net}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub segments: Vec<String>,
    /// It begins with `::`, so that it can be a crate only.
    pub is_absolute: bool,
    pub line: usize,
}

impl Name {
    /// Whether this is `path`, something below it, or a glob that brings it in.
    pub fn reaches(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split("::").collect();
        let glob = self.segments.last().is_some_and(|last| last == "*");
        let segments = &self.segments[..self.segments.len() - usize::from(glob)];
        let common = segments.len().min(path.len());
        segments[..common].iter().eq(path[..common].iter())
            && (segments.len() >= path.len() || glob)
    }

    /// Whether these segments stand one after the other in it, as `Instant::now` does in `time::Instant::now`.
    pub fn contains(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split("::").collect();
        self.segments
            .windows(path.len())
            .any(|window| window == path)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let absolute = if self.is_absolute { "::" } else { "" };
        write!(f, "{absolute}{}", self.segments.join("::"))
    }
}

/// All names in a piece of code, also in what macros are given.
pub fn names(tokens: TokenStream) -> Vec<Name> {
    let mut found = Vec::new();
    collect(
        &tokens.into_iter().collect::<Vec<_>>(),
        &[],
        false,
        &mut found,
    );
    found
}

fn is_path_separator(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(first), TokenTree::Punct(second), ..]
        if first.as_char() == ':' && first.spacing() == Spacing::Joint && second.as_char() == ':')
}

/// `prefix` is what stands before the braces of a `use`.
fn collect(
    tokens: &[TokenTree],
    prefix: &[String],
    prefix_is_absolute: bool,
    found: &mut Vec<Name>,
) {
    let mut at = 0;
    while at < tokens.len() {
        let is_absolute =
            prefix_is_absolute || (prefix.is_empty() && is_path_separator(&tokens[at..]));
        if is_path_separator(&tokens[at..]) {
            at += 2;
            continue_if_group(tokens, &mut at, found);
        }
        match tokens.get(at) {
            Some(TokenTree::Ident(first)) => {
                let line = first.span().start().line;
                let mut segments = prefix.to_vec();
                segments.push(first.to_string());
                at += 1;
                at = follow(tokens, at, line, segments, is_absolute, found);
            }
            Some(TokenTree::Group(group)) => {
                let inside: Vec<_> = group.stream().into_iter().collect();
                collect(&inside, &[], false, found);
                at += 1;
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' && !prefix.is_empty() => {
                let line = star.span().start().line;
                let segments = [prefix, &["*".to_owned()]].concat();
                found.push(Name {
                    segments,
                    is_absolute,
                    line,
                });
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// `use ::{a, b}`.
fn continue_if_group(tokens: &[TokenTree], at: &mut usize, found: &mut Vec<Name>) {
    if let Some(TokenTree::Group(group)) = tokens.get(*at) {
        let inside: Vec<_> = group.stream().into_iter().collect();
        collect(&inside, &[], true, found);
        *at += 1;
    }
}

/// Reads the rest of a name from `at` on; returns where it ends.
fn follow(
    tokens: &[TokenTree],
    mut at: usize,
    line: usize,
    mut segments: Vec<String>,
    is_absolute: bool,
    found: &mut Vec<Name>,
) -> usize {
    while is_path_separator(&tokens[at..]) {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(next)) => {
                segments.push(next.to_string());
                at += 3;
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                segments.push("*".to_owned());
                at += 3;
                break;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inside: Vec<_> = group.stream().into_iter().collect();
                collect(&inside, &segments, is_absolute, found);
                return at + 3;
            }
            _ => break,
        }
    }
    // `use a::b::{self}` names `a::b`.
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    found.push(Name {
        segments,
        is_absolute,
        line,
    });
    at
}

/// A macro that is called, or a method: `todo!`, `.unwrap(`.
pub struct Call {
    pub name: String,
    pub line: usize,
}

/// All calls of macros (with `!` at the end) and of methods (with `.` in front).
pub fn calls(tokens: TokenStream) -> Vec<Call> {
    fn visit(tokens: TokenStream, found: &mut Vec<Call>) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|before| tokens.get(before));
            match (token, tokens.get(at + 1)) {
                (TokenTree::Ident(name), Some(TokenTree::Punct(bang)))
                    if bang.as_char() == '!'
                        && matches!(tokens.get(at + 2), Some(TokenTree::Group(_))) =>
                {
                    let line = name.span().start().line;
                    found.push(Call {
                        name: format!("{name}!"),
                        line,
                    });
                }
                (TokenTree::Ident(name), _)
                    if matches!(before, Some(TokenTree::Punct(dot)) if dot.as_char() == '.')
                        || matches!(before, Some(TokenTree::Punct(colon)) if colon.as_char() == ':') =>
                {
                    let line = name.span().start().line;
                    found.push(Call {
                        name: format!(".{name}"),
                        line,
                    });
                }
                (TokenTree::Group(group), _) => visit(group.stream(), found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    visit(tokens, &mut found);
    found
}

/// A function with a body, wherever it stands; also inside what a macro is given.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

pub fn functions(tokens: TokenStream) -> Vec<Function> {
    fn visit(tokens: TokenStream, found: &mut Vec<Function>) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            if let TokenTree::Group(group) = token {
                visit(group.stream(), found);
            }
            let (TokenTree::Ident(keyword), Some(TokenTree::Ident(name))) =
                (token, tokens.get(at + 1))
            else {
                continue;
            };
            if keyword != "fn" {
                continue;
            }
            let body = tokens[at + 2..]
                .iter()
                .take_while(|token| !matches!(token, TokenTree::Punct(end) if end.as_char() == ';'))
                .find_map(|token| match token {
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
                    _ => None,
                });
            if let Some(body) = body {
                let line = keyword.span().start().line;
                let lines = body.span_close().end().line - line + 1;
                let name = name.to_string();
                found.push(Function { name, line, lines });
            }
        }
    }
    let mut found = Vec::new();
    visit(tokens, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        names(text.parse().unwrap())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn names_are_found_wherever_they_stand() {
        let found =
            all("use std::{fs::{self, File}, net as n, time::*}; fn f() { m!(a::b, ::c::d) }");
        for name in [
            "std::fs",
            "std::fs::File",
            "std::net",
            "std::time::*",
            "a::b",
            "::c::d",
        ] {
            assert!(
                found.iter().any(|f| f == name),
                "{name} is not in {found:?}"
            );
        }
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        let found = all("/* std::fs */ // std::fs\n /// std::fs\n fn f() { \"std::fs\" }");
        assert!(!found.iter().any(|f| f.contains("std")), "{found:?}");
    }

    #[test]
    fn a_glob_reaches_what_it_brings_in() {
        let name = &names("use std::*;".parse().unwrap())[1];
        assert!(name.reaches("std::fs"), "{name}");
        let name = &names("use std::time::Duration;".parse().unwrap())[1];
        assert!(!name.reaches("std::time::Instant"), "{name}");
    }

    #[test]
    fn tests_are_left_out_of_the_product() {
        let text =
            "fn a() {} #[cfg(test)] mod tests { fn b() {} } #[cfg(test)] use c::d; fn e() {}";
        let product = Source::new("src/x.rs", text).product();
        let found: Vec<String> = functions(product).into_iter().map(|f| f.name).collect();
        assert_eq!(found, ["a", "e"]);
    }

    #[test]
    fn a_module_may_be_a_test_as_a_whole() {
        let text = "mod a; #[cfg(test)] pub(crate) mod testing; #[cfg(test)] mod tests {}";
        let found = test_modules(&Source::new("src/api/mod.rs", text));
        assert_eq!(found, ["src/api/testing.rs", "src/api/testing/mod.rs"]);
        let found = test_modules(&Source::new("src/index/tree.rs", "#[cfg(test)] mod tests;"));
        assert_eq!(found[0], "src/index/tree/tests.rs");
    }

    #[test]
    fn functions_are_measured_inside_macros_too() {
        let text = "proptest! {\n fn a() {\n 1;\n }\n }\ntrait T { fn b(); fn c() {} }";
        let found = functions(text.parse().unwrap());
        let found: Vec<(&str, usize)> = found.iter().map(|f| (f.name.as_str(), f.lines)).collect();
        assert_eq!(found, [("a", 3), ("c", 1)]);
    }
}
