//! Two databases with nothing but what the audit views show, and without any constraint, so that
//! every violation can be planted. Holds a small correct history to start from.

use anyhow::{Context, Result};
use prover::{At, Databases, Finding, Seen, Verdict, judge};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Roles belong to the whole server: another test may make it at the same moment.
const ROLE: &str = "
    do $$ begin
        create role audit_ro nologin;
    exception when duplicate_object or unique_violation then null;
    end $$;
    create schema audit;
    create table audit.outbox (message_id uuid, order_uid uuid, sent bool, resolved bool, attempts int);
    create table audit.inbox (message_id uuid, order_uid uuid, outcome text);
    create table audit.parked (message_id text, queue text, reason text, parked_at timestamptz, seen bigint);";

const ORDERS: &str = "
    create table audit.orders (order_id bigint, order_uid uuid, user_id bigint, amount numeric,
        status text, idem_key text, created_at timestamptz, updated_at timestamptz);";

const PAYMENTS: &str = "
    create table audit.accounts (user_id bigint, balance numeric);
    create table audit.payments (order_uid uuid, order_id bigint, user_id bigint, amount numeric,
        outcome text, reason text, settled_at timestamptz);
    create table audit.ledger (entry_id bigint, user_id bigint, kind text, amount numeric,
        order_uid uuid, idem_key text, at timestamptz);";

const GRANTS: &str = "
    grant usage on schema audit to audit_ro;
    grant select on all tables in schema audit to audit_ro;";

/// User 7 has 100.00 and pays order 1 of 30.00; user 8 has an empty account and user 9 none.
const CORRECT_ORDERS: &str = "
    insert into audit.orders (order_id, order_uid, user_id, amount, status) values
        (1, uid(1), 7, 30.00, 'FINISHED'), (2, uid(2), 8, 50.00, 'CANCELLED'), (3, uid(3), 9, 5.00, 'CANCELLED');
    insert into audit.outbox (message_id, order_uid, sent, resolved, attempts)
        select uid(100 + n), uid(n), true, true, 1 from generate_series(1, 3) n;
    insert into audit.inbox select uid(200 + n), uid(n), 'applied' from generate_series(1, 3) n;";

const CORRECT_PAYMENTS: &str = "
    insert into audit.accounts values (7, 70.00), (8, 0.00);
    insert into audit.payments (order_uid, order_id, user_id, amount, outcome, reason) values
        (uid(1), 1, 7, 30.00, 'paid', null), (uid(2), 2, 8, 50.00, 'declined', 'insufficient_funds'),
        (uid(3), 3, 9, 5.00, 'declined', 'no_account');
    insert into audit.ledger (entry_id, user_id, kind, amount, order_uid) values
        (1, 7, 'deposit', 100.00, null), (2, 7, 'charge', -30.00, uid(1));
    insert into audit.inbox select uid(100 + n), uid(n), 'applied' from generate_series(1, 3) n;
    insert into audit.outbox (message_id, order_uid, sent, resolved, attempts)
        select uid(200 + n), uid(n), true, true, 1 from generate_series(1, 3) n;";

/// Before the first time there is nothing to drop.
const EMPTY: &str = "
    set client_min_messages = warning;
    drop schema if exists audit cascade;
    drop function if exists uid;";

/// Short names for uuids.
const UID: &str = "
    create function uid(n int) returns uuid language sql immutable
        as $$ select ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid $$;";

/// A pair of databases as the prover sees them.
pub(crate) struct System {
    pub(crate) orders_url: String,
    pub(crate) payments_url: String,
    pub(crate) databases: Databases,
}

impl System {
    /// A system whose history is correct.
    pub(crate) async fn correct() -> Result<Self> {
        let servers = sandbox::shared().await;
        let orders_url = servers.database().await?.url();
        let payments_url = servers.database().await?.url();
        let system = Self {
            databases: Databases::parse(&orders_url, &payments_url)?,
            orders_url,
            payments_url,
        };
        system.correct_again().await?;
        Ok(system)
    }

    /// The correct history once more, whatever was planted before.
    async fn correct_again(&self) -> Result<()> {
        let in_orders = [EMPTY, UID, ROLE, ORDERS, GRANTS, CORRECT_ORDERS].concat();
        let in_payments = [EMPTY, UID, ROLE, PAYMENTS, GRANTS, CORRECT_PAYMENTS].concat();
        tokio::try_join!(self.in_orders(&in_orders), self.in_payments(&in_payments))?;
        Ok(())
    }

    /// Changes the orders database.
    pub(crate) async fn in_orders(&self, sql: &str) -> Result<()> {
        execute(&self.orders_url, sql).await
    }

    /// Changes the payments database.
    pub(crate) async fn in_payments(&self, sql: &str) -> Result<()> {
        execute(&self.payments_url, sql).await
    }

    /// What is found of one rule.
    pub(crate) async fn finding(&self, id: &str, at: At, seen: Option<&Seen>) -> Result<Finding> {
        let report = judge(&self.databases, at, seen).await?;
        report
            .finding(id)
            .cloned()
            .with_context(|| format!("{id} is not in the report"))
    }
}

async fn execute(url: &str, sql: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(AssertSqlSafe(sql))
        .await
        .with_context(|| sql.to_owned())?;
    connection.close().await?;
    Ok(())
}

/// One violation and the example that must name it.
pub(crate) struct Planted<'a> {
    pub(crate) in_orders: &'a str,
    pub(crate) in_payments: &'a str,
    pub(crate) example: &'a str,
}

/// Plants each violation in a correct history, one at a time, and asserts that the rule held before
/// and is broken after, with the example.
pub(crate) async fn assert_broken_by(
    id: &str,
    seen: Option<&Seen>,
    violations: &[Planted<'_>],
) -> Result<()> {
    let system = System::correct().await?;
    for Planted {
        in_orders,
        in_payments,
        example,
    } in violations
    {
        system.correct_again().await?;
        assert_holds(&system.finding(id, At::Rest, seen).await?);
        system.in_orders(in_orders).await?;
        system.in_payments(in_payments).await?;
        assert_example(&system.finding(id, At::Rest, seen).await?, example);
    }
    Ok(())
}

pub(crate) fn assert_holds(finding: &Finding) {
    assert!(
        matches!(finding.verdict, Verdict::Holds { checked } if checked > 0),
        "{finding:?}"
    );
}

pub(crate) fn assert_example(finding: &Finding, example: &str) {
    let Verdict::Broken { examples, .. } = &finding.verdict else {
        panic!("{} is not broken: {finding:?}", finding.id);
    };
    assert!(
        examples.iter().any(|text| text == example),
        "{example:?} is not in {examples:?}"
    );
}
