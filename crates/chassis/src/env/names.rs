//! The one table of all variable names the system knows, and the search for the nearest of them.
//! Values and their types are read in the parent module; a feature that does not exist yet has no
//! name here, so that setting it stops the start instead of being ignored.

/// What a variable's text must look like before a type reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text; its type decides.
    Text,
    /// A whole number from 1 on.
    Number,
    /// `on`, `off`, `true`, `false`, `yes`, `no`, `1` or `0`.
    Switch,
    /// A duration above zero, such as `500ms` or `30s`.
    Duration,
    /// Never shown; also read from the file that `<name>_FILE` names. The default is what stands
    /// in where nothing is set, and is refused in production.
    Secret { default: Option<&'static str> },
}

/// Beginnings that belong to this system alone: an unknown name behind one of them is a mistake.
pub(super) const PREFIXES: &[&str] = &[
    "DB_ORDERS__",
    "DB_PAYMENTS__",
    "RABBITMQ__",
    "GATEWAY__",
    "ORDERS__",
    "PAYMENTS__",
    "RELAY__",
    "CONSUMER__",
    "REDRIVE__",
    "AUTH__",
    "VERIFY__",
];

/// Groups whose members all have defaults, so that an absent group is an empty one and a missing
/// member is reported by its own name.
pub(super) const GROUPS: &[&str] = &[
    "db_orders",
    "db_payments",
    "rabbitmq",
    "gateway",
    "orders",
    "payments",
    "relay",
    "consumer",
    "redrive",
];

const DATABASE_SECRET: Kind = Kind::Secret {
    default: Some("password"),
};
const BROKER_SECRET: Kind = Kind::Secret {
    default: Some("guest"),
};
const URL_WITH_SECRET: Kind = Kind::Secret { default: None };

/// Every variable, with the form of its text.
pub(super) const NAMES: &[(&str, Kind)] = &[
    ("DB_ORDERS__HOST", Kind::Text),
    ("DB_ORDERS__PORT", Kind::Number),
    ("DB_ORDERS__USER", Kind::Text),
    ("DB_ORDERS__PASSWORD", DATABASE_SECRET),
    ("DB_ORDERS__NAME", Kind::Text),
    ("DB_ORDERS__SSLMODE", Kind::Text),
    ("DB_ORDERS__POOL", Kind::Number),
    ("DB_PAYMENTS__HOST", Kind::Text),
    ("DB_PAYMENTS__PORT", Kind::Number),
    ("DB_PAYMENTS__USER", Kind::Text),
    ("DB_PAYMENTS__PASSWORD", DATABASE_SECRET),
    ("DB_PAYMENTS__NAME", Kind::Text),
    ("DB_PAYMENTS__SSLMODE", Kind::Text),
    ("DB_PAYMENTS__POOL", Kind::Number),
    ("RABBITMQ__HOST", Kind::Text),
    ("RABBITMQ__PORT", Kind::Number),
    ("RABBITMQ__USER", Kind::Text),
    ("RABBITMQ__PASSWORD", BROKER_SECRET),
    ("RABBITMQ__VHOST", Kind::Text),
    ("RABBITMQ__TLS", Kind::Switch),
    ("RABBITMQ__HEARTBEAT", Kind::Duration),
    ("RABBITMQ__MANAGEMENT_URL", URL_WITH_SECRET),
    ("RABBITMQ__HEAL_WEDGED", Kind::Switch),
    ("ORDERS_SERVICE_URL", Kind::Text),
    ("PAYMENTS_SERVICE_URL", Kind::Text),
    ("GATEWAY__LISTEN", Kind::Text),
    ("GATEWAY__OPS_LISTEN", Kind::Text),
    ("ORDERS__LISTEN", Kind::Text),
    ("ORDERS__OPS_LISTEN", Kind::Text),
    ("PAYMENTS__LISTEN", Kind::Text),
    ("PAYMENTS__OPS_LISTEN", Kind::Text),
    ("RELAY__POLL_INTERVAL", Kind::Duration),
    ("RELAY__BATCH", Kind::Number),
    ("CONFIRM_TIMEOUT", Kind::Duration),
    ("REDRIVE_AFTER", Kind::Duration),
    ("REDRIVE__WINDOW", Kind::Number),
    ("CONSUMER__BATCH", Kind::Number),
    ("CONSUMER__PREFETCH", Kind::Number),
    ("CONSUMER__MAX_ATTEMPTS", Kind::Number),
    ("RETENTION", Kind::Duration),
    ("SHUTDOWN_TIMEOUT", Kind::Duration),
    ("ENV", Kind::Text),
    ("VERIFY__ORDERS_URL", URL_WITH_SECRET),
    ("VERIFY__PAYMENTS_URL", URL_WITH_SECRET),
];

/// The form of a known variable, or `None` for a name that is not ours.
pub(super) fn kind(name: &str) -> Option<Kind> {
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kind)| *kind)
}

/// The secret that `name` gives the file of: `RABBITMQ__PASSWORD` for `RABBITMQ__PASSWORD_FILE`.
pub(super) fn secret_of_file(name: &str) -> Option<&'static str> {
    let secret = name.strip_suffix("_FILE")?;
    secrets()
        .map(|(known, _)| known)
        .find(|known| *known == secret)
}

/// Every secret with its default.
pub(super) fn secrets() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    NAMES.iter().filter_map(|(name, kind)| match kind {
        Kind::Secret { default } => Some((*name, *default)),
        _ => None,
    })
}

/// Whether a name that is not in the table must stop the start. Case does not matter: a variable
/// in the wrong case would otherwise be ignored without a word.
pub(super) fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The known name that takes the fewest edits to reach, unless none is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    NAMES
        .iter()
        .map(|(known, _)| (edits(&name, known), *known))
        .min()
        .filter(|(distance, known)| distance * 2 <= known.len())
        .map(|(_, known)| known)
}

/// Levenshtein distance, one row at a time.
fn edits(left: &str, right: &str) -> usize {
    let right = right.as_bytes();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, byte) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(byte != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_leads_to_the_name_that_was_meant() {
        assert_eq!(nearest("DB_ORDERS__USERR"), Some("DB_ORDERS__USER"));
        assert_eq!(nearest("RABBITMQ__PASWORD"), Some("RABBITMQ__PASSWORD"));
        assert_eq!(nearest("AUTH__X"), None);
    }

    #[test]
    fn every_grouped_name_begins_with_a_prefix_of_ours() {
        for (name, _) in NAMES.iter().filter(|(name, _)| name.contains("__")) {
            assert!(is_ours(name), "{name}");
        }
    }

    #[test]
    fn edit_distance_counts_insertions_deletions_and_replacements() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", "abc"), 0);
    }
}
