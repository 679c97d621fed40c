//! The walls inside the crates, each with its reason and its doors.

use crate::wall::Wall;
use crate::{Part, Source};

fn is_service(source: &Source) -> bool {
    matches!(source.room(), "gateway" | "orders" | "payments")
}

fn owns_a_database(source: &Source) -> bool {
    matches!(source.room(), "orders" | "payments")
}

const SQL: &[&str] = &[
    "sqlx::query",
    "sqlx::query_as",
    "sqlx::query_scalar",
    "query!",
    "query_as!",
    "query_scalar!",
    "raw_sql",
    "QueryBuilder",
];

/// `http.rs` holds no SQL, whoever owns it.
pub const NO_SQL_IN_HTTP: Wall = Wall {
    of: |source| source.file_name() == "http.rs",
    part: Part::Live,
    words: SQL,
    why: "http.rs speaks HTTP; SQL belongs to store.rs",
    doors: &[],
};

/// In the services all SQL is in `store.rs`.
pub const SQL_IN_STORE: Wall = Wall {
    of: |source| owns_a_database(source) && source.file_name() != "store.rs",
    part: Part::Live,
    words: SQL,
    why: "all SQL of a service is in its store.rs, where it can be read in one sitting",
    doors: &[],
};

/// `store.rs` opens no transaction: the verb that calls it does.
pub const NO_TRANSACTION_IN_STORE: Wall = Wall {
    of: |source| owns_a_database(source) && source.file_name() == "store.rs",
    part: Part::Live,
    words: &[".begin()", ".commit()", ".rollback()"],
    why: "a verb shows its begin and its commit; store.rs only runs statements",
    doors: &[],
};

/// Settings come through `chassis::env`.
pub const NO_STRAY_SETTINGS: Wall = Wall {
    of: is_service,
    part: Part::Live,
    words: &[
        "env::var",
        "env::vars",
        "env::var_os",
        "env::vars_os",
        "env!",
        "option_env!",
    ],
    why: "settings are read once, typed, in config.rs; a stray variable is one no document lists",
    doors: &[],
};

/// What runs beside the requests is a task that somebody tracks.
pub const NO_STRAY_TASKS: Wall = Wall {
    of: is_service,
    part: Part::Live,
    words: &["spawn", "spawn_blocking", "spawn_local"],
    why: "chassis::tasks runs what is beside a request: supervised, seen by health, awaited at the end",
    doors: &[],
};

/// Services wait for events.
pub const NO_SLEEP_IN_SERVICES: Wall = Wall {
    of: is_service,
    part: Part::Live,
    words: &["sleep", "sleep_until"],
    why: "a service waits for an event or uses chassis::tasks::every, which ends with the shutdown",
    doors: &[],
};

/// One place publishes.
pub const PUBLISH_IN_ONE_PLACE: Wall = Wall {
    of: |source| source.path != "crates/postbox/src/publisher.rs",
    part: Part::Live,
    words: &["basic_publish"],
    why: "postbox/src/publisher.rs publishes: mandatory, persistent, confirmed, from a committed row",
    doors: &[
        (
            "crates/prover/src/duplicator.rs",
            "a tool that sends every message twice on purpose",
        ),
        (
            "crates/prover/src/amqp.rs",
            "a tool that plays a stranger at the broker",
        ),
    ],
};

/// One place acknowledges.
pub const ACKNOWLEDGE_IN_ONE_PLACE: Wall = Wall {
    of: |source| source.path != "crates/postbox/src/consumer.rs" && source.room() != "prover",
    part: Part::Live,
    words: &["basic_ack", "basic_nack", "basic_reject"],
    why: "postbox/src/consumer.rs acknowledges, and only what is committed; nothing is put back, \
          because RabbitMQ 4 drops a message after 20 returns",
    doors: &[],
};

/// The files with the rules of the business.
pub const NOUNS: &[&str] = &[
    "crates/orders/src/order.rs",
    "crates/payments/src/account.rs",
    "crates/payments/src/reconcile/account.rs",
    "crates/contracts/src/money.rs",
    "crates/postbox/src/backoff.rs",
];

/// Rules are pure.
pub const NOUNS_ARE_PURE: Wall = Wall {
    of: |source| NOUNS.contains(&source.path.as_str()),
    part: Part::Live,
    words: &["async", "await", "sqlx", "axum", "lapin", "tokio"],
    why: "a noun holds rules: no waiting, no database, no HTTP, so a property can be tried a thousand times",
    doors: &[],
};

const TIME_IS_THE_SUBJECT: &str = "plays slow clients and slow handlers: time is the subject";
const IDLE: &str =
    "a connection must be idle for longer than it is trusted, and a lock be waited for";
const OWN_WAIT: &str = "the room knows no other one, so it has a bounded wait of its own";

/// Tests wait for a state, not for a time.
pub const TESTS_WAIT_IN_EVENTUALLY: Wall = Wall {
    of: |source| source.file_name() != "eventually.rs",
    part: Part::Tests,
    words: &["sleep", "sleep_until"],
    why: "a test that waits a fixed time is slow when it passes and flaky when it fails: use `eventually`",
    doors: &[
        ("crates/chassis/src/serve/tests.rs", TIME_IS_THE_SUBJECT),
        ("crates/chassis/src/extract/body.rs", TIME_IS_THE_SUBJECT),
        ("crates/chassis/src/database/server_tests.rs", IDLE),
        ("crates/gateway/src/tests/faults.rs", TIME_IS_THE_SUBJECT),
        ("crates/sandbox/tests/engine/mod.rs", OWN_WAIT),
        ("crates/sandbox/tests/nothing_is_left.rs", OWN_WAIT),
        ("crates/sandbox/tests/shared.rs", OWN_WAIT),
        (
            "crates/sandbox/tests/cluster.rs",
            "a wait of its own, and a queue is on disk a moment after it is declared",
        ),
        (
            "crates/sandbox/tests/promises/mod.rs",
            "a quorum queue is on disk a moment after it is declared, and nothing tells when",
        ),
    ],
};

/// What is begun is finished.
pub const NOTHING_UNFINISHED: [Wall; 2] = [unfinished(Part::Live), unfinished(Part::Tests)];

const fn unfinished(part: Part) -> Wall {
    Wall {
        of: |_| true,
        part,
        words: &["todo!", "unimplemented!", "#[ignore]", "#[ignore = "],
        why: "what is not there yet is absent; a test that is switched off protects nothing",
        doors: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    /// Lines found when `text` stands at `path`.
    fn lines(wall: &Wall, path: &str, text: &str) -> Vec<usize> {
        let wall = Wall {
            doors: &[],
            ..*wall
        };
        let findings = wall.check(&[Source::new(path, text)]);
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn sql_outside_the_store_is_found() {
        let text = "//! Doc.\nlet rows = sqlx::query!(\"select 1\");\n";
        assert_eq!(
            lines(&NO_SQL_IN_HTTP, "crates/orders/src/http.rs", text),
            [2]
        );
        assert_eq!(
            lines(&SQL_IN_STORE, "crates/orders/src/place_order.rs", text),
            [2]
        );
        assert_eq!(
            lines(
                &SQL_IN_STORE,
                "crates/payments/src/a/b.rs",
                "\nquery_scalar!(\"\")"
            ),
            [2]
        );
        assert_eq!(
            lines(&SQL_IN_STORE, "crates/orders/src/store.rs", text),
            NONE
        );
        assert_eq!(
            lines(&SQL_IN_STORE, "crates/orders/tests/it/sql.rs", text),
            NONE
        );
        let migrations = "sqlx::migrate!(\"../../migrations/orders\")";
        assert_eq!(
            lines(&SQL_IN_STORE, "crates/orders/src/lib.rs", migrations),
            NONE
        );
    }

    #[test]
    fn a_transaction_begun_in_the_store_is_found() {
        let text = "let t = pool.begin().await?;";
        assert_eq!(
            lines(&NO_TRANSACTION_IN_STORE, "crates/orders/src/store.rs", text),
            [1]
        );
        assert_eq!(
            lines(
                &NO_TRANSACTION_IN_STORE,
                "crates/orders/src/redrive.rs",
                text
            ),
            NONE
        );
    }

    #[test]
    fn a_stray_setting_task_or_sleep_in_a_service_is_found() {
        let path = "crates/gateway/src/proxy.rs";
        assert_eq!(lines(&NO_STRAY_SETTINGS, path, "std::env::var(\"X\")"), [1]);
        assert_eq!(lines(&NO_STRAY_TASKS, path, "\n\ntokio::spawn(f)"), [3]);
        assert_eq!(lines(&NO_STRAY_TASKS, path, "set.spawn(f)"), [1]);
        assert_eq!(
            lines(
                &NO_SLEEP_IN_SERVICES,
                path,
                "use tokio::time::{sleep, timeout};"
            ),
            [1]
        );
        assert_eq!(
            lines(&NO_SLEEP_IN_SERVICES, "crates/chassis/src/a.rs", "sleep(x)"),
            NONE
        );
        let test = "#[cfg(test)]\nmod tests {\n  tokio::spawn(f);\n}";
        assert_eq!(lines(&NO_STRAY_TASKS, path, test), NONE);
    }

    #[test]
    fn a_publish_or_an_acknowledgement_elsewhere_is_found() {
        let publish = "channel\n.basic_publish(a)";
        assert_eq!(
            lines(&PUBLISH_IN_ONE_PLACE, "crates/orders/src/app.rs", publish),
            [2]
        );
        assert_eq!(
            lines(
                &PUBLISH_IN_ONE_PLACE,
                "crates/postbox/src/relay.rs",
                publish
            ),
            [2]
        );
        assert_eq!(
            lines(
                &PUBLISH_IN_ONE_PLACE,
                "crates/postbox/src/publisher.rs",
                publish
            ),
            NONE
        );
        let nack = "channel.basic_nack(tag)";
        assert_eq!(
            lines(
                &ACKNOWLEDGE_IN_ONE_PLACE,
                "crates/payments/src/charge.rs",
                nack
            ),
            [1]
        );
    }

    #[test]
    fn a_noun_that_waits_or_knows_a_database_is_found() {
        let path = "crates/orders/src/order.rs";
        assert_eq!(lines(&NOUNS_ARE_PURE, path, "pub async fn f() {}"), [1]);
        assert_eq!(
            lines(&NOUNS_ARE_PURE, path, "fn f(pool: &sqlx::PgPool) {}"),
            [1]
        );
        assert_eq!(lines(&NOUNS_ARE_PURE, path, "use axum::Json;"), [1]);
        assert_eq!(
            lines(&NOUNS_ARE_PURE, path, "// sqlx and axum stay out"),
            NONE
        );
        assert_eq!(
            lines(
                &NOUNS_ARE_PURE,
                "crates/orders/src/app.rs",
                "async fn f() {}"
            ),
            NONE
        );
    }

    #[test]
    fn a_test_that_sleeps_is_found() {
        let wall = &TESTS_WAIT_IN_EVENTUALLY;
        assert_eq!(
            lines(wall, "crates/orders/tests/it/a.rs", "sleep(SECOND).await"),
            [1]
        );
        assert_eq!(
            lines(
                wall,
                "crates/acceptance/src/steps/a.rs",
                "tokio::time::sleep(x)"
            ),
            [1]
        );
        let unit = "fn f() { sleep(x) }\n#[cfg(test)]\nmod tests {\n sleep(x);\n}";
        assert_eq!(lines(wall, "crates/chassis/src/a.rs", unit), [4]);
        assert_eq!(
            lines(wall, "crates/acceptance/src/eventually.rs", "sleep(x)"),
            NONE
        );
    }

    #[test]
    fn what_is_unfinished_is_found() {
        let text = "todo!()\n#[ignore]\n#[ignore = \"slow\"]\n\"todo!\"\n";
        assert_eq!(
            lines(&NOTHING_UNFINISHED[0], "crates/a/src/b.rs", text),
            [1, 2, 3]
        );
        assert_eq!(
            lines(&NOTHING_UNFINISHED[1], "crates/a/tests/b.rs", text),
            [1, 2, 3]
        );
    }
}
