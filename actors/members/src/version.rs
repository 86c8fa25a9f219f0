//! Versions of the cluster, of which only major and minor count.

use std::fmt;
use std::str::FromStr;

/// A version without its patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterVersion {
    /// 3 for all that etcd v3 is.
    pub major: u32,
    /// As in etcd's releases: 7 for 3.7.
    pub minor: u32,
}

impl ClusterVersion {
    /// What a cluster starts with while the versions of its members are not known.
    pub const MIN: Self = Self { major: 3, minor: 0 };
}

/// The text is not `major.minor`, with or without something after a further dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAVersion;

impl FromStr for ClusterVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let mut parts = text.splitn(3, '.').map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(NotAVersion),
        }
    }
}

/// As it is replicated: with a patch level of 0.
impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o_14_versions_compare_by_number_and_without_the_patch_level() {
        let parsed = |text: &str| text.parse::<ClusterVersion>();
        assert_eq!(parsed("3.7.4"), parsed("3.7.0"));
        assert!(parsed("3.10.0").is_ok_and(|ten| parsed("3.9.9").is_ok_and(|nine| nine < ten)));
        for text in ["", "3", "3.x.0", "v3.7.0", "-3.7.0"] {
            assert_eq!(parsed(text), Err(NotAVersion), "{text:?}");
        }
        assert_eq!(
            parsed("3.7.4").map(|version| version.to_string()),
            Ok("3.7.0".to_owned())
        );
    }
}
