//! The nearest known name to a mistyped one.
//! Invariant: a suggestion is close enough that a person would have meant it; otherwise there is none.

/// The candidate with the fewest edits, if at most a third of the letters differ (at least two edits are allowed).
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(2);
    let near = candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate));
    near.filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_with_a_swap_as_one() {
        assert_eq!(distance("kafka", "kafka"), 0);
        assert_eq!(distance("kakfa", "kafka"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("databse", "database"), 1);
    }

    #[test]
    fn far_names_are_not_suggested() {
        assert_eq!(nearest("databse", ["kafka", "database"]), Some("database"));
        assert_eq!(nearest("zookeeper", ["kafka", "database"]), None);
    }
}
