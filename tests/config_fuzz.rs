//! Whatever is on the command line, in the environment or in a file: loading ends with a configuration or an error.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use rusd::config::{Action, flags, load_with};

/// Any flag's name in any of the spellings, or something near it.
fn name() -> impl Strategy<Value = String> {
    let known: Vec<String> = flags::all()
        .map(|flag| flag.name.to_owned())
        .chain(flags::experimental().map(|(name, _)| name.to_owned()))
        .chain(flags::LEGACY.iter().map(|name| (*name).to_owned()))
        .collect();
    prop_oneof![8 => proptest::sample::select(known), 1 => "[-a-z.=]{0,12}"]
}

/// A value that some flag accepts, or anything.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        Just("http://127.0.0.1:0".to_owned()),
        Just("a=http://127.0.0.1:0".to_owned()),
        Just("5s".to_owned()),
        Just("AllAlpha=true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        (0_u32..2000).prop_map(|number| number.to_string()),
        ".{0,20}",
    ]
}

/// Loads with one file, whichever name is asked for, and checks what must hold of any result.
fn check(args: Vec<OsString>, env: Vec<(String, String)>, file: &str) {
    match load_with(args.into_iter(), env.into_iter(), &|_| Ok(file.to_owned())) {
        Ok(Action::Serve(config, _)) => {
            assert!(config.raft.election_timeout >= 5 * config.raft.heartbeat_interval);
            assert!(!config.listen.client_urls.is_empty() && !config.logging.outputs.is_empty());
            assert!(
                config
                    .listen
                    .client_urls
                    .iter()
                    .all(|url| url.bind_address().is_ok())
            );
            let _ = config
                .cluster
                .check_bootstrap(&config.member.name, &|_, _| Vec::new());
            let summary = config.summary().to_string();
            assert!(
                serde_json::from_str::<serde_json::Value>(&summary).is_ok(),
                "{summary}"
            );
        }
        Ok(_) => {}
        Err(error) => {
            assert!(matches!(error.exit_code(), 1 | 2));
            assert!(!error.to_string().is_empty());
        }
    }
}

proptest! {
    #[test]
    fn f01_any_arguments(
        flags in proptest::collection::vec((name(), value(), 0_u8..4), 0..6),
        env in proptest::collection::vec((name(), value(), any::<bool>()), 0..4),
    ) {
        let args = flags.into_iter().flat_map(|(name, value, form)| match form {
            0 => vec![format!("--{name}={value}")],
            1 => vec![format!("-{name}"), value],
            2 => vec![format!("--{name}")],
            _ => vec![format!("--{name}"), value],
        });
        let env = env.into_iter().map(|(name, value, ours)| {
            let prefix = if ours { "RUSD" } else { "ETCD" };
            (format!("{prefix}_{}", name.replace('-', "_").to_uppercase()), value)
        });
        check(args.map(OsString::from).collect(), env.collect(), "");
    }

    #[test]
    fn f01_any_bytes(args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..16), 0..4)) {
        check(args.into_iter().map(OsString::from_vec).collect(), Vec::new(), "");
    }

    #[test]
    fn any_toml(text in "(?s).{0,200}") {
        check(vec!["--config=f".into()], Vec::new(), &text);
    }

    #[test]
    fn near_toml(keys in proptest::collection::vec((name(), value(), any::<bool>()), 0..5), section in 0_usize..6) {
        let section = flags::Section::ALL[section].as_str();
        let lines: Vec<String> = keys
            .into_iter()
            .map(|(name, value, quoted)| match quoted {
                true => format!("{name} = {value:?}"),
                false => format!("{name} = {value}"),
            })
            .collect();
        check(vec!["--config=f".into()], Vec::new(), &format!("[{section}]\n{}\n", lines.join("\n")));
    }

    #[test]
    fn f04_any_yaml(text in "(?s).{0,200}") {
        check(vec!["--config-file=f".into()], Vec::new(), &text);
    }

    #[test]
    fn f04_near_yaml(
        keys in proptest::collection::vec((name(), value(), any::<bool>()), 0..5),
        nested in any::<bool>(),
    ) {
        let lines: Vec<String> = keys
            .into_iter()
            .map(|(name, value, quoted)| if quoted { format!("{name}: {value:?}") } else { format!("{name}: {value}") })
            .collect();
        let text = if nested {
            format!("peer-transport-security:\n  {}\n", lines.join("\n  "))
        } else {
            lines.join("\n")
        };
        check(vec!["--config-file=f".into()], Vec::new(), &text);
    }
}
