//! What can be wrong with a configuration.

use std::path::PathBuf;

/// Why the server does not start. Its text is for the operator: it names what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The command line cannot be read. The only one with exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A configuration file cannot be read at all.
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    File {
        /// The file, as a flag or a variable names it.
        path: PathBuf,
        /// What the system or the parser says.
        reason: String,
    },
    /// A key that no setting has.
    #[error("{place} is not a known setting{hint}")]
    UnknownKey {
        /// The flag, variable or key of a file where it stands, with the flag that it is.
        place: String,
        /// A correction, if there is an obvious one; empty otherwise.
        hint: String,
    },
    /// A value that its setting does not accept.
    #[error("invalid value {value} for {place}: {reason}")]
    BadValue {
        /// The flag, variable or key of a file where it stands, with the flag that it is.
        place: String,
        /// The value, in quotes if it is a text; `(hidden)` if it is a secret.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A flag and a variable for one setting.
    #[error(
        "conflicting environment variable {variable} is shadowed by the command-line flag {flag}: \
         unset the variable or leave out the flag"
    )]
    FlagAndVariable {
        /// The flag, with its dashes, in the spelling that was given.
        flag: String,
        /// The name of the variable.
        variable: String,
    },
    /// Two places that give one setting different values.
    #[error("{first} and {second} give one setting different values: remove one of them")]
    Disagreement {
        /// The flag, variable or key that was read first.
        first: String,
        /// The one that says otherwise.
        second: String,
    },
    /// A value that asks for something this build does not have.
    #[error(
        "{place} is set to {value}, but {feature} not part of this build: leave it at its default"
    )]
    NotBuilt {
        /// The flag, variable or key of a file where it stands, with the flag that it is.
        place: String,
        /// The value, in quotes if it is a text; `(hidden)` if it is a secret.
        value: String,
        /// What is missing, with its verb: `TLS is`, `feature gates are`.
        feature: String,
    },
    /// A rule that several settings break together, or one that needs its own explanation.
    #[error("{0}")]
    Rule(String),
}

impl ConfigError {
    /// The process's exit code: 2 for a command line that cannot be read, as Go's flag package does; 1 otherwise.
    pub fn exit_code(&self) -> i32 {
        match self {
            ConfigError::Usage(_) => 2,
            _ => 1,
        }
    }
}
