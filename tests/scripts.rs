//! Golden scripts of the configuration: what is given, and what becomes of it.
//!
//! `file NAME LINE...` makes a file that the next commands may name. `load WORD...` loads a configuration: words that
//! begin with `-` or have no `=` are arguments, `NAME=value` is a variable. It prints the warnings and every typed
//! value that differs from those of a member that is given the name `a` and the directory `d` and nothing else, or the
//! error with its exit code. `bootstrap WORD...` does the same for a member without data.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use goldenscript::{Argument, Command, Runner};
use rusd::config::{Action, Config, ConfigError, load_with};

#[derive(Default)]
struct Loader {
    files: BTreeMap<String, String>,
}

impl Loader {
    fn load(&self, words: &[String]) -> Result<Action, ConfigError> {
        let is_variable = |word: &&String| !word.starts_with('-') && word.contains('=');
        let args = words
            .iter()
            .filter(|word| !is_variable(word))
            .map(OsString::from);
        let env = words.iter().filter(is_variable).filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        let read = |path: &Path| {
            let name = path.to_string_lossy();
            self.files
                .get(name.as_ref())
                .cloned()
                .ok_or_else(|| io::Error::other("no such file"))
        };
        load_with(args, env, &read)
    }
}

/// Every leaf of the configuration as `path: value`, read off its pretty-printed form.
fn leaves(config: &Config) -> BTreeSet<String> {
    let mut stack: Vec<String> = Vec::new();
    let mut leaves = BTreeSet::new();
    for line in format!("{config:#?}").lines() {
        let depth = (line.len() - line.trim_start().len()) / 4;
        let text = line.trim().trim_end_matches(',');
        stack.truncate(depth);
        match text.split_once(": ") {
            Some((field, variant)) if variant.ends_with('(') && variant != "Some(" => {
                stack.push(format!("{field} {variant}"))
            }
            Some((field, rest)) if rest.ends_with(['{', '(', '[']) => stack.push(field.to_owned()),
            _ if text.ends_with(['{', '(', '[']) => stack.push(String::new()),
            _ if text.is_empty() || text.starts_with(['}', ')', ']']) => {}
            _ => {
                let path: Vec<&str> = stack
                    .iter()
                    .map(String::as_str)
                    .filter(|part| !part.is_empty())
                    .collect();
                leaves.insert(format!("{} {text}", path.join(".")));
            }
        }
    }
    leaves
}

fn report(result: Result<Action, ConfigError>, bootstrap: bool) -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    let error = |error: ConfigError| Ok(format!("exit {}: {error}\n", error.exit_code()));
    match result {
        Err(failed) => return error(failed),
        Ok(Action::PrintHelp(_)) => writeln!(out, "help")?,
        Ok(Action::PrintVersion(text)) => {
            writeln!(out, "version {}", text.lines().next().unwrap_or_default())?
        }
        Ok(Action::Serve(config, warnings)) => {
            if bootstrap
                && let Err(failed) = config
                    .cluster
                    .check_bootstrap(&config.member.name, &|_, _| Vec::new())
            {
                return error(failed);
            }
            for warning in warnings {
                writeln!(out, "warn: {warning}")?;
            }
            let plain = ["--name=a".to_owned(), "--data-dir=d".to_owned()];
            let Action::Serve(plain, _) = Loader::default().load(&plain)? else {
                return Err("no defaults".into());
            };
            for leaf in leaves(&config).difference(&leaves(&plain)) {
                writeln!(out, "{leaf}")?;
            }
        }
    }
    Ok(out)
}

impl Runner for Loader {
    type Command = Command;

    fn run(
        &mut self,
        command: &Command,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let words = command.args.iter().map(|argument| match argument {
            Argument::Positional(word) => Ok(word.clone()),
            Argument::KeyValue(name, value) => Ok(format!("{name}={value}")),
            other => Err(format!("{other:?} is no word")),
        });
        let words: Vec<String> = words.collect::<Result<_, _>>()?;
        match command.name.as_str() {
            "file" => {
                let (name, lines) = words.split_first().ok_or("a file needs a name")?;
                self.files.insert(name.clone(), lines.join("\n"));
                Ok(String::new())
            }
            "load" => report(self.load(&words), false),
            "bootstrap" => report(self.load(&words), true),
            other => Err(format!("unknown command {other}").into()),
        }
    }
}

rusd_kit::run_dir!("tests/scripts/config", Loader::default(), [
    f01_pr01_f07_command_line
    f02_f03_pr02_pr03_variables
    f04_f05_f06_etcd_file
    f06_feature_gates_and_experimental_spellings
    f08_f09_f10_pr08_urls_and_the_initial_cluster
    o17_log_settings
    toml_file_is_the_base_layer
    v08_v13_o05_rules_of_values
    what_is_not_built_is_refused_by_name_unless_it_is_the_default
]);

#[test]
fn f10_default_urls_are_advertised_under_the_machines_own_address() {
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let serve = |text: &str| match Loader::default().load(&words(text)) {
        Ok(Action::Serve(config, _)) => config,
        other => panic!("{other:?}"),
    };
    let host = [10, 1, 2, 3].into();
    let mut all = serve(
        "--name=a --listen-peer-urls=http://0.0.0.0:7 --listen-client-urls=http://0.0.0.0:8 \
         --advertise-client-urls=http://localhost:2379",
    );
    assert!(all.advertise_host(host));
    assert_eq!(
        all.cluster.advertise_peer_urls.to_string(),
        "http://10.1.2.3:7"
    );
    assert_eq!(
        all.cluster.advertise_client_urls.to_string(),
        "http://10.1.2.3:8"
    );
    assert_eq!(all.cluster.initial.to_string(), "a=http://10.1.2.3:7");
    assert!(all.cluster.check_bootstrap("a", &|_, _| Vec::new()).is_ok());

    let mut own = serve(
        "--name=a --initial-advertise-peer-urls=http://h:1 --listen-peer-urls=http://0.0.0.0:7",
    );
    assert!(!own.advertise_host(host));
    let mut local = serve("--name=a");
    assert!(!local.advertise_host(host));
    assert_eq!(
        local.cluster.advertise_peer_urls.to_string(),
        "http://localhost:2380"
    );
}
