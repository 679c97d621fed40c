//! What a look at one account and its ledger says. Neither waits nor knows a database.

use std::fmt;

/// A rule that this service's own database can show broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// A balance is the sum of its ledger.
    S1,
    /// No balance is or was below zero.
    S2,
    /// An order is debited at most once.
    S3,
}

impl Rule {
    pub(crate) const ALL: [Self; 3] = [Self::S1, Self::S2, Self::S3];

    /// As the guarantee names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far an account's ledger was summed up.
///
/// An account's entries are written in the order of their ids, because whoever writes one holds
/// the account; and none is ever changed. So a sum once made stays right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Up to this entry.
    pub(crate) entry: i64,
    /// The sum up to there, as the database writes it. Text, because what was tampered with may be
    /// no number at all.
    pub(crate) sum: String,
    /// Whether it began with the first entry for this very walk, and not with what an earlier walk
    /// had found.
    pub(crate) from_first: bool,
    /// The first entry on the way that left less than nothing.
    pub(crate) fallen_at: Option<i64>,
}

impl Position {
    /// Before the first entry.
    pub(crate) fn first() -> Self {
        Self {
            entry: i64::MIN,
            sum: "0".to_owned(),
            from_first: true,
            fallen_at: None,
        }
    }
}

/// What one look at an account has shown.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    pub(crate) user_id: i64,
    /// None without an account.
    pub(crate) balance: Option<String>,
    /// The sum of the ledger as far as it was read.
    pub(crate) total: String,
    /// Whether balance and sum are not the same.
    pub(crate) differs: bool,
    pub(crate) is_below_zero: bool,
    /// How many entries were read.
    pub(crate) entries: i64,
    pub(crate) last_entry: Option<i64>,
    /// The first entry that left less than nothing.
    pub(crate) fallen_at: Option<i64>,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// There are more entries: to be gone on with from here.
    Unfinished(Position),
    /// Something is wrong with what this walk found or with what it relied on: to be walked again
    /// from the first entry.
    Doubtful,
    /// Everything is right, from where the walk began on.
    Sound(Position),
    /// This is wrong, from the first entry on.
    Broken(Vec<(Rule, String)>),
}

/// Judges a look that began at `began` and read `most` entries at most.
pub(crate) fn judge(began: &Position, looked: &Looked, most: i64) -> Judged {
    let position = Position {
        entry: looked.last_entry.unwrap_or(began.entry),
        sum: looked.total.clone(),
        from_first: began.from_first,
        fallen_at: began.fallen_at.or(looked.fallen_at),
    };
    if looked.entries >= most {
        return Judged::Unfinished(position);
    }
    let mut faults = Vec::new();
    let user = looked.user_id;
    let has_entries = position.entry != i64::MIN;
    match &looked.balance {
        None if has_entries => {
            let what = format!("user {user} has no account, but entries in the ledger");
            faults.push((Rule::S1, what));
        }
        Some(balance) if looked.differs => {
            let total = &looked.total;
            let what =
                format!("user {user}: the balance is {balance}, the sum of the ledger {total}");
            faults.push((Rule::S1, what));
        }
        _ => {}
    }
    if let (true, Some(balance)) = (looked.is_below_zero, &looked.balance) {
        faults.push((Rule::S2, format!("user {user}: the balance is {balance}")));
    } else if let Some(entry) = position.fallen_at {
        let what = format!("user {user}: entry {entry} of the ledger left less than nothing");
        faults.push((Rule::S2, what));
    }
    match (faults.is_empty(), began.from_first) {
        (true, _) => Judged::Sound(position),
        (false, true) => Judged::Broken(faults),
        (false, false) => Judged::Doubtful,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked() -> Looked {
        Looked {
            user_id: 7,
            balance: Some("70.00".to_owned()),
            total: "70.00".to_owned(),
            differs: false,
            is_below_zero: false,
            entries: 2,
            last_entry: Some(12),
            fallen_at: None,
        }
    }

    fn later() -> Position {
        Position {
            entry: 10,
            sum: "100.00".to_owned(),
            from_first: false,
            fallen_at: None,
        }
    }

    #[test]
    fn what_was_not_read_to_its_end_is_gone_on_with() {
        let different = Looked {
            differs: true,
            ..looked()
        };
        let Judged::Unfinished(position) = judge(&Position::first(), &different, 2) else {
            panic!("the rest of the ledger may make up the difference");
        };
        assert_eq!((position.entry, position.sum.as_str()), (12, "70.00"));
        assert!(position.from_first);
    }

    #[test]
    fn a_difference_counts_only_from_the_first_entry_on() {
        let different = Looked {
            balance: Some("75.00".to_owned()),
            differs: true,
            ..looked()
        };
        assert_eq!(judge(&later(), &different, 3), Judged::Doubtful);
        let text = "user 7: the balance is 75.00, the sum of the ledger 70.00";
        assert_eq!(
            judge(&Position::first(), &different, 3),
            Judged::Broken(vec![(Rule::S1, text.to_owned())])
        );
        assert!(matches!(judge(&later(), &looked(), 3), Judged::Sound(_)));
    }

    #[test]
    fn an_entry_that_left_less_than_nothing_hides_no_other_fault_wherever_it_stands() {
        let fallen = Looked {
            fallen_at: Some(11),
            ..looked()
        };
        let text = "user 7: entry 11 of the ledger left less than nothing";
        let fault = (Rule::S2, text.to_owned());
        assert_eq!(
            judge(&Position::first(), &fallen, 3),
            Judged::Broken(vec![fault.clone()])
        );
        // In the first part of a long ledger, and at its end the sum does not fit either.
        let Judged::Unfinished(position) = judge(&Position::first(), &fallen, 2) else {
            panic!("there are more entries");
        };
        let end = Looked {
            differs: true,
            ..looked()
        };
        let Judged::Broken(faults) = judge(&position, &end, 3) else {
            panic!("two rules are broken");
        };
        assert_eq!(faults[0].0, Rule::S1);
        assert_eq!(faults[1], fault);
    }

    #[test]
    fn a_user_without_anything_is_sound_and_one_without_an_account_is_not() {
        let nothing = Looked {
            balance: None,
            total: "0".to_owned(),
            entries: 0,
            last_entry: None,
            ..looked()
        };
        assert!(matches!(
            judge(&Position::first(), &nothing, 3),
            Judged::Sound(_)
        ));
        let lost = Looked {
            balance: None,
            differs: true,
            ..looked()
        };
        assert!(matches!(
            judge(&Position::first(), &lost, 3),
            Judged::Broken(_)
        ));
    }
}
