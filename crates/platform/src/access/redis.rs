//! Redis: a user for the aggregator, one for the operator's tool, one for a rebuild, one for erasing persons, one for whoever reads
//! the keys meant for readers.
//!
//! Invariant: nobody may empty the server, change its configuration or see other keys; the reader sees no state of ours.

use std::fmt::Write as _;

/// Writes state and reader keys.
pub const AGGREGATOR: &str = "redis-aggregator";
/// Compares, and moves positions on (`engagectl lineage adopt`).
pub const OPERATOR: &str = "engagectl";
/// Carries out `engagectl rebuild redis`: a user of its own, because it writes what otherwise only the aggregator writes.
pub const REBUILD: &str = "engagectl-rebuild";
/// Takes a person out of the keys for readers (`engagectl erase`).
pub const ERASER: &str = "engagectl-erase";
/// Reads what is meant for readers.
pub const READER: &str = "engage-reader";

/// The default names of the keys for readers; whoever renames them changes this, too.
const READER_KEYS: [&str; 10] = [
    "content:last:*",
    "content:count:*",
    "content_stats:*",
    "content_users:*",
    "recent_events:*",
    "top:content:*",
    "engagement:10min",
    "top_engagement:10min",
    "top_content_last_10min",
    "user_engagement:*",
];

/// Those of them that name a user, or count one.
const PERSONAL_KEYS: [&str; 4] = [
    "content:last:*",
    "recent_events:*",
    "content_users:*",
    "user_engagement:*",
];

/// One user: its name, and what it may do as an ACL says it (without a password).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: &'static str,
    /// Keys, channels and commands.
    pub rules: String,
}

/// The users. `prefix` is `redis.prefix`, `eng:` by default.
#[must_use]
pub fn users(prefix: &str) -> [User; 5] {
    let marked = |mark: &str, keys: &[&str]| {
        let all: Vec<String> = keys.iter().map(|key| format!("{mark}{key}")).collect();
        all.join(" ")
    };
    let keys = |mark: &str| marked(mark, &READER_KEYS);
    let common = "resetchannels -@all +@connection +ping +info";
    let writing = format!(
        "~{prefix}* {} {common} +@read +@write +@transaction +eval +evalsha +script|load +script|exists -@dangerous +info \
         +bgrewriteaof",
        keys("~")
    );
    [
        User {
            name: AGGREGATOR,
            rules: writing.clone(),
        },
        User {
            name: OPERATOR,
            rules: format!(
                "~{prefix}* %R~content:count:* {common} +@read +@transaction +eval +hset -@dangerous +info"
            ),
        },
        User {
            name: REBUILD,
            rules: writing,
        },
        User {
            name: ERASER,
            rules: format!(
                "{} ~{prefix}erase:* {common} +@read +@transaction +unlink +xdel +copy +pfadd -@dangerous +info",
                marked("~", &PERSONAL_KEYS)
            ),
        },
        User {
            name: READER,
            rules: format!("{} {common} +@read -@dangerous", keys("%R~")),
        },
    ]
}

/// As lines of an `aclfile`, to which a password is added (`#` and its SHA-256 in hex); without one nobody can log in.
#[must_use]
pub fn lines(prefix: &str) -> String {
    let mut text = "user default off\n".to_owned();
    for User { name, rules } in users(prefix) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "user {name} on {rules}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_user_is_off_and_no_line_lets_anybody_in_without_a_password() {
        let text = lines("eng:");
        assert!(text.starts_with("user default off\n"));
        assert!(!text.contains("nopass") && !text.contains("allkeys") && !text.contains("+@all"));
    }

    #[test]
    fn readers_cannot_write_and_see_no_state() {
        let [.., eraser, reader] = users("eng:");
        assert!(!reader.rules.contains("eng:") && !reader.rules.contains("+@write"));
        assert!(!eraser.rules.contains("~eng:*") && !eraser.rules.contains("+@write"));
        assert!(
            reader
                .rules
                .split(' ')
                .filter(|word| word.contains('~'))
                .all(|key| key.starts_with("%R~"))
        );
    }
}
