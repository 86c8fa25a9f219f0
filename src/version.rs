//! The versions that are reported: etcd's, whose behaviour this server has, and rusd's own.

/// This program's own version.
pub const RUSD: &str = env!("CARGO_PKG_VERSION");

/// `major.minor.0` of a `major.minor.patch` version.
pub fn minor(version: &str) -> String {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => format!("{major}.{minor}.0"),
        _ => version.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_10_the_cluster_version_has_no_patch() {
        assert_eq!(minor("3.7.1"), "3.7.0");
        assert_eq!(minor("3.6.14"), "3.6.0");
    }
}
