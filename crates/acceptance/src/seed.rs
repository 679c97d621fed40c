//! What is left to chance in a run, at which of its visits to a moment a process dies, follows from one number, which
//! is printed: with it, another run takes the same choices. How processes take turns is the operating system's, and no number repeats that.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

static SEED: OnceLock<u32> = OnceLock::new();

/// The run's number: the given one, or a new one. Later calls change nothing.
pub(crate) fn plant(given: Option<u32>) -> u32 {
    *SEED.get_or_init(|| {
        given.unwrap_or_else(|| {
            // A clock before 1970 does not matter here.
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.unwrap_or_default().subsec_nanos()
        })
    })
}

/// A number out of a range, another one for each occasion and each run.
pub(crate) fn pick(occasion: &str, range: RangeInclusive<u32>) -> u32 {
    choose(plant(None), occasion, range)
}

fn choose(seed: u32, occasion: &str, range: RangeInclusive<u32>) -> u32 {
    let mut hasher = DefaultHasher::new();
    (seed, occasion).hash(&mut hasher);
    let width = range.end() - range.start() + 1;
    range.start() + u32::try_from(hasher.finish() % u64::from(width)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_takes_the_same_choice_and_others_take_others() {
        assert_eq!(choose(7, "here", 10..=50), choose(7, "here", 10..=50));
        let choices: BTreeSet<u32> = (0..1000)
            .map(|seed| choose(seed, "here", 10..=50))
            .collect();
        assert_eq!(choices, (10..=50).collect());
        let occasions = ["a", "b", "c", "d"].map(|occasion| choose(7, occasion, 1..=1_000_000));
        assert_eq!(BTreeSet::from(occasions).len(), 4);
    }
}
