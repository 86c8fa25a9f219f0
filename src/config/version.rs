//! The versions that the server shows.

use std::fmt;
use std::str::FromStr;

/// rusd's own version.
pub const RUSD_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of etcd that clients and tools are told: a plain semantic version among those whose behaviour is
/// implemented. kube-apiserver switches features off for a version that it cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportedVersion {
    minor: u16,
    patch: u16,
}

impl ReportedVersion {
    /// The minor version: 6 or 7.
    pub fn minor(self) -> u16 {
        self.minor
    }

    /// The version of the cluster and of the storage: the same without the patch level.
    pub fn cluster(self) -> ReportedVersion {
        ReportedVersion { patch: 0, ..self }
    }
}

impl FromStr for ReportedVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || format!("{text:?} is not 3.6.x or 3.7.x");
        let patch_text = |prefix: &str| text.strip_prefix(prefix);
        let (minor, patch) = match (patch_text("3.6."), patch_text("3.7.")) {
            (Some(patch), _) => (6, patch),
            (_, Some(patch)) => (7, patch),
            _ => return Err(known()),
        };
        let plain = !patch.is_empty()
            && patch.bytes().all(|b| b.is_ascii_digit())
            && (patch == "0" || !patch.starts_with('0'));
        if !plain {
            return Err(known());
        }
        Ok(ReportedVersion {
            minor,
            patch: patch.parse().map_err(|_| known())?,
        })
    }
}

impl fmt::Display for ReportedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}.{}", self.minor, self.patch)
    }
}

/// The commit that the binary was built from, when the build said so.
pub fn git_sha() -> &'static str {
    option_env!("RUSD_GIT_SHA").unwrap_or("Not provided")
}

/// The operating system in Go's words, which tools compare.
pub fn go_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// The processor architecture in Go's words.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

/// What `--version` prints: etcd's four lines, which tools read, and rusd's own.
pub fn version_text(reported: ReportedVersion) -> String {
    format!(
        "etcd Version: {reported}\nGit SHA: {}\nGo Version: none (rusd is written in Rust)\nGo OS/Arch: {}/{}\n\
         rusd Version: {RUSD_VERSION}\n",
        git_sha(),
        go_os(),
        go_arch(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn pr12_only_plain_versions_of_the_implemented_minors_are_reported() {
        for text in ["3.7.1", "3.6.0", "3.6.14"] {
            assert_eq!(text.parse::<ReportedVersion>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "3.7",
            "3.5.13",
            "3.8.0",
            "3.7.01",
            "3.7.1-rc.0",
            "v3.7.1",
            "3.7.1.0",
            "3.7.99999999",
        ] {
            assert!(text.parse::<ReportedVersion>().is_err(), "{text:?}");
        }
        assert_eq!(
            "3.7.1"
                .parse::<ReportedVersion>()
                .unwrap()
                .cluster()
                .to_string(),
            "3.7.0"
        );
    }
}
