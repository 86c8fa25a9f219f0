//! The command line, in Go's syntax.
//!
//! etcd's flags are Go flags: one dash or two, `--x=v` or `--x v`, a boolean is `--x` or `--x=true` and never takes the
//! next word, the first word that is no flag ends them. clap reads another dialect, so [`parse`] first writes every
//! flag as `--name=value`, which both dialects agree on, and clap then checks names and values against the table of
//! [`super::flags`] and keeps the last of repeated flags.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::error::ConfigError;
use super::flags::{self, Alias, CONFIG_FILE_FLAG, CONFIG_FLAG, LEGACY, Section};
use super::literal::parse_bool;
use super::value::Kind;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `--help`, `-h`.
    Help,
    /// `--version`, with the flags beside it.
    Version(Vec<GivenFlag>),
    /// Run with these flags.
    Run(Vec<GivenFlag>),
}

/// A flag on the command line: each at most once, the last value given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFlag {
    /// Its name as spelled, without dashes.
    pub name: String,
    /// Its value; a bare boolean's is `true`.
    pub value: String,
}

/// Whether a flag takes the next word when it has no `=`.
fn takes_next_word(name: &str) -> bool {
    if name == "version" || LEGACY.contains(&name) {
        return false;
    }
    match flags::find_alias(name) {
        Some(Alias::Gate(_)) => false,
        Some(Alias::Flag(target)) => takes_next_word(target),
        None => flags::find(name).is_none_or(|flag| flag.kind != Kind::Bool),
    }
}

/// Reads the arguments after the program's name.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Request, ConfigError> {
    let mut words = Vec::new();
    for arg in args {
        let word = arg
            .into_string()
            .map_err(|arg| ConfigError::Usage(format!("the argument {arg:?} is not UTF-8")))?;
        words.push(word);
    }
    if let Some(first @ ("gateway" | "grpc-proxy")) = words.first().map(String::as_str) {
        return Err(ConfigError::Rule(format!(
            "the sub-command {first} is not part of this build"
        )));
    }
    let mut command = server_command();
    let mut normal = vec!["rusd".to_owned()];
    let mut stray = None;
    let mut rest = words.into_iter();
    while let Some(word) = rest.next() {
        let Some(bare) = word
            .strip_prefix("--")
            .or_else(|| word.strip_prefix('-'))
            .filter(|bare| !bare.is_empty())
        else {
            // `--` alone ends the flags; what follows it, like any other word, is no flag.
            stray = if word == "--" {
                rest.next()
            } else {
                Some(word)
            };
            break;
        };
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (bare, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(usage(format!("bad flag syntax: {word}")));
        }
        if matches!(name, "h" | "help") {
            check(&mut command, normal)?;
            return Ok(Request::Help);
        }
        if !is_known(name) {
            return Err(usage(format!("unknown flag --{name}")));
        }
        let value = match value {
            Some(value) => value,
            None if !takes_next_word(name) => "true".to_owned(),
            None => rest
                .next()
                .ok_or_else(|| usage(format!("flag needs an argument: --{name}")))?,
        };
        normal.push(format!("--{name}={value}"));
    }
    let matches = check(&mut command, normal)?;
    if let Some(word) = stray {
        return Err(ConfigError::Rule(format!("{word:?} is not a valid flag")));
    }
    let mut given = given_flags(&command, &matches);
    let version = given
        .iter()
        .position(|flag| flag.name == "version")
        .map(|position| given.remove(position));
    Ok(match version {
        Some(flag) if parse_bool(&flag.value) == Ok(true) => Request::Version(given),
        _ => Request::Run(given),
    })
}

/// Whether any spelling of any flag is `name`.
fn is_known(name: &str) -> bool {
    flags::find(name).is_some()
        || flags::find_alias(name).is_some()
        || LEGACY.contains(&name)
        || matches!(name, "version" | CONFIG_FLAG | CONFIG_FILE_FLAG)
}

/// An error that ends with how to get help.
fn usage(message: String) -> ConfigError {
    ConfigError::Usage(format!("{message}\nrusd --help shows all flags."))
}

/// The part of clap's message that says what is wrong, without its own usage text.
fn first_lines(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text.lines().take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let lines: Vec<&str> = lines
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("\n")
}

/// Lets clap check the flags in normal form.
fn check(command: &mut Command, normal: Vec<String>) -> Result<ArgMatches, ConfigError> {
    command
        .try_get_matches_from_mut(normal)
        .map_err(|error| usage(first_lines(&error)))
}

/// The flags that clap found, in the order of the table.
fn given_flags(command: &Command, matches: &ArgMatches) -> Vec<GivenFlag> {
    let mut given = Vec::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        if let Ok(Some(value)) = matches.try_get_one::<String>(id) {
            given.push(GivenFlag {
                name: id.to_owned(),
                value: value.clone(),
            });
        }
    }
    given
}

/// One flag as clap sees it: its value is checked by the table's kind and kept as text.
fn arg(name: &'static str, kind: Kind) -> Arg {
    let check = move |text: &str| match kind.parse(text) {
        Err(reason) if kind.is_checked_by_the_command_line() => Err(reason),
        _ => Ok(text.to_owned()),
    };
    Arg::new(name)
        .long(name)
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
        .value_name(kind.placeholder())
        .value_parser(ValueParser::new(check))
}

/// The server's command, built from the table.
fn server_command() -> Command {
    let mut command = Command::new("rusd")
        .about("rusd serves etcd's v3 API.")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .override_usage("rusd [flags]")
        .next_help_heading("General")
        .arg(arg("version", Kind::Bool).help("Print the version and exit."))
        .arg(arg(CONFIG_FLAG, Kind::Text).help(
            "Base configuration (TOML); variables and flags override it. config/rusd.toml lists every key.",
        ))
        .arg(arg(CONFIG_FILE_FLAG, Kind::Text).help(
            "etcd's configuration file (YAML or JSON, durations in nanoseconds). All other flags and variables are \
             then ignored.",
        ));
    for &section in Section::ALL {
        command = command.next_help_heading(section.heading());
        for flag in flags::all().filter(|flag| flag.section == section) {
            command = command.arg(arg(flag.name, flag.kind).help(help_text(flag)));
        }
    }
    for (name, alias) in flags::experimental() {
        let kind = match alias {
            Alias::Gate(_) => Kind::Bool,
            Alias::Flag(target) => flags::find(target).map_or(Kind::Text, |flag| flag.kind),
        };
        command = command.arg(arg(name, kind).hide(true));
    }
    for name in LEGACY {
        command = command.arg(arg(name, Kind::Text).hide(true));
    }
    command
}

/// The help of one flag: what it is, its default, and what it does not do here.
fn help_text(flag: &flags::Flag) -> String {
    let mut text = flag.help.to_owned();
    if let Some(words) = flag.kind.words() {
        text.push_str(&format!(" One of: {}.", words.join(", ")));
    }
    if !flag.default.is_empty() {
        text.push_str(&format!(" Default: {}.", flag.default));
    }
    text + &flag.status.remark()
}

/// What `--help` prints.
pub fn help() -> String {
    server_command().render_help().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use proptest::prelude::*;

    fn run(words: &[&str]) -> Result<Request, ConfigError> {
        parse(words.iter().map(OsString::from))
    }

    fn flags_of(words: &[&str]) -> Vec<(String, String)> {
        match run(words).unwrap() {
            Request::Run(given) => given
                .into_iter()
                .map(|flag| (flag.name, flag.value))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn f01_one_dash_or_two_and_the_value_after_an_equals_sign_or_in_the_next_word() {
        for words in [
            ["--name=a"].as_slice(),
            &["-name=a"],
            &["--name", "a"],
            &["-name", "a"],
        ] {
            assert_eq!(flags_of(words), pairs(&[("name", "a")]), "{words:?}");
        }
        assert_eq!(flags_of(&["--name", "-x"]), pairs(&[("name", "-x")]));
        assert_eq!(flags_of(&["--name="]), pairs(&[("name", "")]));
        assert_eq!(
            flags_of(&["--quota-backend-bytes", "-1"]),
            pairs(&[("quota-backend-bytes", "-1")])
        );
        assert_eq!(
            flags_of(&["--initial-cluster=a=b,c=d"]),
            pairs(&[("initial-cluster", "a=b,c=d")])
        );
    }

    #[test]
    fn pr01_the_last_of_repeated_flags_wins() {
        assert_eq!(
            flags_of(&["--name=a", "-name", "b", "--name=c"]),
            pairs(&[("name", "c")])
        );
    }

    #[test]
    fn pr01_a_bare_boolean_never_eats_the_next_word() {
        assert_eq!(
            flags_of(&["--pre-vote", "--name=a"]),
            pairs(&[("name", "a"), ("pre-vote", "true")])
        );
        assert_eq!(
            flags_of(&["--pre-vote=false"]),
            pairs(&[("pre-vote", "false")])
        );
        let error = run(&["--pre-vote", "false"]).unwrap_err();
        assert_eq!(
            error,
            ConfigError::Rule("\"false\" is not a valid flag".to_owned())
        );
    }

    #[test]
    fn f01_unknown_flags_and_bad_values_exit_with_2() {
        for words in [
            ["--nope"].as_slice(),
            &["---x"],
            &["--=x"],
            &["--name"],
            &["--pre-vote=maybe"],
            &["--heartbeat-interval=x"],
            &["--max-concurrent-streams=4294967296"],
            &["--grpc-keepalive-interval=5"],
        ] {
            let error = run(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}: {error}");
        }
        assert!(run(&["--nope"]).unwrap_err().to_string().contains("--nope"));
    }

    #[test]
    fn f01_a_stray_word_is_refused_by_name() {
        for words in [
            ["stray"].as_slice(),
            &["--name=a", "stray"],
            &["--", "stray"],
            &["-"],
        ] {
            let error = run(words).unwrap_err().to_string();
            assert!(error.contains("is not a valid flag"), "{words:?}: {error}");
        }
        assert_eq!(flags_of(&["--name=a", "--"]), pairs(&[("name", "a")]));
    }

    #[test]
    fn f01_help_and_version() {
        for word in ["-h", "--help", "-help", "--h"] {
            assert_eq!(run(&[word]).unwrap(), Request::Help);
        }
        assert_eq!(run(&["--version"]).unwrap(), Request::Version(Vec::new()));
        assert_eq!(
            run(&["-version=true"]).unwrap(),
            Request::Version(Vec::new())
        );
        assert_eq!(run(&["--version=false"]).unwrap(), Request::Run(Vec::new()));
        assert_eq!(run(&["--nope", "--help"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn f07_legacy_flags_take_no_word_and_any_value() {
        assert_eq!(
            flags_of(&["--snapshot", "-vv=3"]),
            pairs(&[("snapshot", "true"), ("vv", "3")])
        );
    }

    const WORD: &str = "(-|--|)(name|pre-vote|h|version|cors|v|)(=|)[ -~]{0,8}";

    proptest! {
        #[test]
        fn no_arguments_panic(words in proptest::collection::vec(WORD, 0..5)) {
            let _ = parse(words.into_iter().map(OsString::from));
        }
    }
}
