//! Views of the table: the documented `rusd.toml` and the table in `docs/flags.md`.
//!
//! Both files are kept in the repository and compared with these views by a test, so neither can drift from the code.

use super::flags::{self, Flag, LEGACY, Section, Status};
use super::value::Kind;

/// `config/rusd.toml`: every key of the table with its explanation, at its default.
pub fn toml() -> String {
    let mut text = String::from(
        "# Every setting of rusd at its default. Starting with this file is the same as starting without.\n\
         #\n\
         # A flag --name or a variable RUSD_NAME (ETCD_NAME too, except in the last section) overrides a key.\n\
         # Durations are written as 300ms, 5s or 1h30m.\n",
    );
    for &section in Section::ALL {
        text.push_str(&format!(
            "\n# {}.\n[{}]\n",
            section.heading(),
            section.as_str()
        ));
        for flag in flags::all().filter(|flag| flag.section == section) {
            text.push('\n');
            for line in wrap(&help(flag), 110) {
                text.push_str(&format!("# {line}\n"));
            }
            text.push_str(&format!("{} = {}\n", flag.name, toml_default(flag)));
        }
    }
    text
}

/// The default as TOML writes it.
fn toml_default(flag: &Flag) -> String {
    let quote = |text: &str| {
        if text.contains('"') {
            format!("'{text}'")
        } else {
            format!("\"{text}\"")
        }
    };
    match flag.kind {
        Kind::Bool | Kind::Uint(_) | Kind::Int => flag.default.to_owned(),
        Kind::Duration | Kind::Text | Kind::Choice(_) | Kind::Word(_) | Kind::Gates => {
            quote(flag.default)
        }
        Kind::List | Kind::Urls | Kind::Origins if flag.default.is_empty() => "[]".to_owned(),
        Kind::List | Kind::Urls | Kind::Origins => {
            let items: Vec<String> = flag.default.split(',').map(quote).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

/// What a setting is, and what it does not do here.
fn help(flag: &Flag) -> String {
    let mut text = flag.help.to_owned();
    if let Some(words) = flag.kind.words().filter(|words| words.len() > 1) {
        text.push_str(&format!(" One of: {}.", words.join(", ")));
    }
    text + &flag.status.remark()
}

/// `docs/flags.md`: every setting in a table.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Settings\n\n\
         Each is a flag `--name`, a variable `ETCD_NAME` or `RUSD_NAME`, a key of `rusd.toml` in the section named \
         here,\nand a key of etcd's YAML file (`--config-file`).\n\n\
         - **works**: does what it says.\n\
         - **moot**: accepted; with a single member there is nothing for it to do, in etcd either.\n\
         - **no effect**: accepted with a warning, since what it tunes does not exist here.\n\
         - **not built**: refused unless it is the default.\n",
    );
    for &section in Section::ALL {
        text.push_str(&format!(
            "\n## {} (`[{}]`)\n\n",
            section.heading(),
            section.as_str()
        ));
        text.push_str("| name | default | here | meaning |\n|---|---|---|---|\n");
        for flag in flags::all().filter(|flag| flag.section == section) {
            let here = match flag.status {
                Status::Works => "works".to_owned(),
                Status::Moot(reason) => format!("moot: {reason}"),
                Status::NoEffect(reason) => format!("no effect: {reason}"),
                Status::NotBuilt(_) => "not built".to_owned(),
            };
            let default = if flag.default.is_empty() {
                String::new()
            } else {
                format!("`{}`", flag.default)
            };
            text.push_str(&format!(
                "| {} | {default} | {here} | {} |\n",
                flag.name, flag.help
            ));
        }
    }
    text.push_str("\n## Older spellings\n\nAccepted with a warning, as the setting of the right-hand column:\n\n");
    text.push_str("| spelling | is |\n|---|---|\n");
    for (name, alias) in flags::experimental() {
        let target = match alias {
            flags::Alias::Flag(target) => format!("`{target}`"),
            flags::Alias::Gate(gate) => format!("feature gate `{}`", gate.as_str()),
        };
        text.push_str(&format!("| {name} | {target} |\n"));
    }
    text.push_str("\nAccepted with a warning and ignored: ");
    let legacy: Vec<String> = LEGACY.iter().map(|name| format!("`{name}`")).collect();
    text.push_str(&format!("{}.\n", legacy.join(", ")));
    text
}

/// Breaks a text at spaces into lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
