//! What a member of a group has, as clients tell each other (Kafka's `ConsumerProtocolAssignment`). Pure.
//!
//! Invariant: bytes that are something else give what could be read of them, never a panic.

use std::collections::BTreeSet;

/// Topics and partitions. The form: version, then for each topic its name and its partitions; all lengths are signed and big endian.
pub(super) fn read(bytes: &[u8]) -> BTreeSet<(String, i32)> {
    let mut found = BTreeSet::new();
    let mut bytes = Bytes(bytes);
    let _ = all(&mut bytes, &mut found);
    found
}

fn all(bytes: &mut Bytes<'_>, found: &mut BTreeSet<(String, i32)>) -> Option<()> {
    let _version = bytes.i16()?;
    for _ in 0..bytes.i32()? {
        let length = usize::try_from(bytes.i16()?).ok()?;
        let topic = std::str::from_utf8(bytes.take(length)?).ok()?;
        for _ in 0..bytes.i32()? {
            found.insert((topic.to_owned(), bytes.i32()?));
        }
    }
    Some(())
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(topics: &[(&str, &[i32])]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend((topics.len() as i32).to_be_bytes());
        for (name, partitions) in topics {
            bytes.extend((name.len() as i16).to_be_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend((partitions.len() as i32).to_be_bytes());
            partitions
                .iter()
                .for_each(|one| bytes.extend(one.to_be_bytes()));
        }
        // user data, which nobody needs
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }

    #[test]
    fn partitions_of_several_topics_are_read() {
        let found = read(&written(&[("a", &[0, 3]), ("b", &[1])]));
        let expected =
            [("a", 0), ("a", 3), ("b", 1)].map(|(topic, partition)| (topic.to_owned(), partition));
        assert_eq!(found, expected.into());
        assert!(read(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_part_of_it_gives_a_part_of_what_is_there(cut in 0_usize..60) {
            let whole = written(&[("a", &[0, 3]), ("b", &[1])]);
            let part = read(&whole[..cut.min(whole.len())]);
            prop_assert!(part.is_subset(&read(&whole)));
        }
    }
}
