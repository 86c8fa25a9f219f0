//! Member and cluster ids, derived as etcd derives them (C-07), so that a member's identity follows
//! from its configuration and is the same on all members without asking anybody.

use rusd_messages::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

/// The id of the member at `peer_urls` in the cluster named `token`: the first eight bytes, big endian, of the
/// SHA-1 of the sorted URLs joined without a separator, the token, and for a member added to a running cluster
/// the Unix time of that moment in seconds, in decimal.
pub fn member_id<S: AsRef<str>>(
    peer_urls: &[S],
    token: &str,
    added_at_unix_s: Option<i64>,
) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(AsRef::as_ref).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = added_at_unix_s {
        hash.update(seconds.to_string());
    }
    MemberId(first_eight_bytes(hash))
}

/// The id of the cluster founded by `members`: the first eight bytes, big endian, of the SHA-1 of
/// their ids, ascending, eight big-endian bytes each.
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut members = members.to_vec();
    members.sort_unstable();
    let mut hash = Sha1::new();
    for member in members {
        hash.update(member.0.to_be_bytes());
    }
    ClusterId(first_eight_bytes(hash))
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_07_ids_of_the_default_member_are_etcds() {
        let member = member_id(&["http://localhost:2380"], "etcd-cluster", None);
        assert_eq!(member.to_string(), "8e9e05c52164694d");
        assert_eq!(cluster_id(&[member]).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn c_07_a_member_added_later_has_its_time_in_its_id() {
        let member = member_id(
            &["http://localhost:2380"],
            "etcd-cluster",
            Some(1_700_000_000),
        );
        assert_eq!(member.to_string(), "910dcd4dbd8153a6");
    }

    #[test]
    fn c_07_the_order_of_urls_and_members_does_not_matter() {
        let urls = ["https://10.0.0.2:2380", "http://10.0.0.1:2380"];
        let reversed = [urls[1], urls[0]];
        assert_eq!(
            member_id(&urls, "tok", None).to_string(),
            "4ec7f4fe512a73da"
        );
        assert_eq!(
            member_id(&urls, "tok", None),
            member_id(&reversed, "tok", None)
        );

        let mut founders: Vec<MemberId> = (10..13)
            .map(|host| {
                member_id(
                    &[format!("http://10.0.1.{host}:2380")],
                    "etcd-cluster-1",
                    None,
                )
            })
            .collect();
        assert_eq!(cluster_id(&founders).to_string(), "acccc8912db0cd57");
        founders.reverse();
        assert_eq!(cluster_id(&founders).to_string(), "acccc8912db0cd57");
    }
}
