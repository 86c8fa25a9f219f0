//! Configuration: from files, variables and flags to one typed [`Config`].
//!
//! ```text
//!   argv ----> cli ---+
//!   environment ------+--> layers --> Settings --> build --> Config, or one clear error
//!   rusd.toml --------+               (name ->      (checks that concern
//!   etcd's YAML ------+                value, place) several settings)
//! ```
//!
//! [`flags`] is the table that all of this is derived from: names, kinds, defaults, help, and whether a setting works,
//! is moot with one member, has no effect, or is not part of this build. `value` reads single values by Go's rules.
//! `given` knows what a name in any spelling stands for. `layers` merges the sources and knows who may override whom;
//! every value keeps its place, so that an error says where the bad value stands. `build` turns the flat settings into
//! [`Config`], with real types, and applies the rules that concern several of them.
//!
//! [`load`] is a function of its arguments, the environment that it is given and the file that these name. It logs
//! nothing: what is odd without being wrong comes back as [`Warning`]s, to be logged once logging is set up, since how
//! to log is itself part of the configuration.

mod build;
mod choice;
mod cli;
mod cluster;
mod duration;
mod environment;
mod error;
mod etcd_file;
pub mod flags;
mod gates;
mod given;
mod layers;
mod literal;
mod model;
pub mod render;
mod rusd_toml;
mod settings;
mod summary;
mod url;
mod value;
mod version;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;

use cli::{GivenFlag, Request};

pub use cluster::{default_route_host, system_resolver};
pub use error::ConfigError;
pub use layers::ReadFile;
pub use model::*;
pub use settings::Warning;
pub use summary::Summary;
pub use url::{BindAddress, EtcdUrl, Scheme, Urls};

/// The most bytes that a configuration file may have. A longer one is not a configuration file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the process is to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Serve with this configuration, after logging the warnings.
    Serve(Box<Config>, Vec<Warning>),
    /// Print this and exit with 0.
    PrintVersion(String),
    /// Print this and exit with 0.
    PrintHelp(String),
}

/// Reads the configuration. `args` are the arguments after the program's name.
pub fn load(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Action, ConfigError> {
    load_with(args, env, &read_file)
}

/// [`load`] with another way to read a file.
pub fn load_with(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (String, String)>,
    read: ReadFile<'_>,
) -> Result<Action, ConfigError> {
    let env: HashMap<String, String> = env.collect();
    match cli::parse(args)? {
        Request::Help => Ok(Action::PrintHelp(cli::help())),
        Request::Version(given) => Ok(Action::PrintVersion(version::version_text(reported(
            &given, &env,
        )?))),
        Request::Run(given) => {
            let mut settings = layers::settle(given, &env, read)?;
            let config = build::build(&mut settings)?;
            Ok(Action::Serve(Box::new(config), settings.warnings))
        }
    }
}

/// The version to print: asked for by a flag or a variable, or the default.
fn reported(
    given: &[GivenFlag],
    env: &HashMap<String, String>,
) -> Result<version::ReportedVersion, ConfigError> {
    const NAME: &str = "report-version";
    let flag = given
        .iter()
        .find(|flag| flag.name == NAME)
        .map(|flag| flag.value.as_str());
    let variable = env
        .get("RUSD_REPORT_VERSION")
        .map(String::as_str)
        .filter(|text| !text.is_empty());
    let default = flags::find(NAME).map_or("", |flag| flag.default);
    let text = flag.or(variable).unwrap_or(default);
    text.parse().map_err(|reason| ConfigError::BadValue {
        place: format!("--{NAME}"),
        value: format!("{text:?}"),
        reason,
    })
}

/// The process's environment, less what is not UTF-8: none of our variables is.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Reads a file that is not longer than a configuration can be.
fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(CONFIG_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is longer than {CONFIG_FILE_BYTES_MAX} bytes"),
        ));
    }
    Ok(text)
}
