//! Databases that somebody has harmed behind the service's back, on a real PostgreSQL.

use anyhow::{Result, ensure};
use chassis::database::{DatabaseConfig, Role, SslMode};
use contracts::{Money, UserId};

use super::*;
use crate::{deposit::deposit, open_account::open_account};

/// Enough for every pass over what these tests write.
const ROUNDS: usize = 8;

async fn pool() -> Result<PgPool> {
    let database = sandbox::shared().await.database().await?;
    let config = DatabaseConfig {
        host: database.host().into(),
        port: database.port(),
        user: database.user().into(),
        password: database.password().into(),
        name: database.name.clone(),
        sslmode: SslMode::Prefer,
        pool: 3,
    };
    let pool = chassis::database::pool(&config, "payments", Role::Reconciliation, 3);
    crate::MIGRATOR.run(&pool).await?;
    Ok(pool)
}

/// A database in which users 1 to 5 have paid in 100.00 and spent 30.00, and how it is looked at.
struct Bank {
    pool: PgPool,
    walk: Walk,
    findings: Findings,
}

/// What the service writes for an order of 30.00.
const SPENT: &str = "
    insert into payments (order_uid, order_id, user_id, amount, outcome, result_message_id)
    select gen_random_uuid(), 100 + n, n, 30, 'paid', gen_random_uuid() from generate_series(1, 5) n;
    insert into ledger_entries (user_id, kind, amount, order_uid)
    select user_id, 'charge', -amount, order_uid from payments order by order_id;
    update accounts set balance = balance - 30;";

/// What a harmed database no longer does.
const UNGUARDED: &str = "
    drop index ledger_entries_one_charge;
    drop trigger ledger_entries_written_once on ledger_entries;
    alter table accounts drop constraint accounts_never_below_zero;";

impl Bank {
    async fn open() -> Result<Self> {
        let pool = pool().await?;
        for user in 1..=5 {
            ensure!(open_account(&pool, UserId(user)).await.is_ok(), "{user}");
            pay_in(&pool, user, "100.00").await?;
        }
        let mut bank = Self {
            pool,
            walk: Walk::default(),
            findings: Findings::default(),
        };
        bank.sql(SPENT).await?;
        bank.sql(UNGUARDED).await?;
        bank.look().await?;
        ensure!(bank.findings.check().is_ok(), "{:?}", bank.findings.check());
        ensure!(bank.walk.passes > 1, "{:?}", bank.walk);
        Ok(bank)
    }

    async fn sql(&self, sql: &'static str) -> Result<()> {
        sqlx::raw_sql(sql).execute(&self.pool).await?;
        Ok(())
    }

    /// As many rounds as it takes to come by everything.
    async fn look(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            self.walk.round(&self.pool, &self.findings).await?;
        }
        Ok(())
    }

    fn counts(&self) -> [usize; 3] {
        Rule::ALL.map(|rule| self.findings.count(rule))
    }

    /// Does `harm`, which must be named so; then `mend`, after which nothing is wrong any more.
    async fn names(&mut self, harm: &'static str, named: &str, mend: &'static str) -> Result<()> {
        self.sql(harm).await?;
        self.look().await?;
        ensure!(
            self.findings.check() == Err(named.to_owned()),
            "{:?}",
            self.findings.check()
        );
        self.sql(mend).await?;
        self.look().await?;
        ensure!(self.findings.check().is_ok(), "{:?}", self.findings.check());
        ensure!(self.counts() == [0, 0, 0]);
        Ok(())
    }
}

async fn pay_in(pool: &PgPool, user: i64, amount: &str) -> Result<()> {
    let amount: Money = amount.parse()?;
    ensure!(deposit(pool, UserId(user), amount).await.is_ok(), "{user}");
    Ok(())
}

#[tokio::test]
async fn s1_a_balance_that_is_not_its_ledger_is_named() -> Result<()> {
    let mut bank = Bank::open().await?;
    bank.names(
        "update accounts set balance = 75 where user_id = 3",
        "S1: user 3: the balance is 75.00, the sum of the ledger 70.00",
        "update accounts set balance = 70 where user_id = 3",
    )
    .await?;
    bank.names(
        "insert into ledger_entries (user_id, kind, amount) values (4, 'deposit', 1)",
        "S1: user 4: the balance is 70.00, the sum of the ledger 71.00",
        "update accounts set balance = 71 where user_id = 4",
    )
    .await?;
    bank.names(
        "delete from accounts where user_id = 5",
        "S1: user 5 has no account, but entries in the ledger",
        "insert into accounts (user_id, balance) values (5, 70)",
    )
    .await
}

#[tokio::test]
async fn s2_a_balance_below_zero_is_named_today_and_in_the_past() -> Result<()> {
    let mut bank = Bank::open().await?;
    bank.names(
        "insert into ledger_entries (user_id, kind, amount, order_uid)
         values (2, 'charge', -80, gen_random_uuid());
         update accounts set balance = -10 where user_id = 2",
        "S2: user 2: the balance is -10.00",
        "delete from ledger_entries where amount = -80;
         update accounts set balance = 70 where user_id = 2",
    )
    .await?;
    // Paid in only after it was spent: the balance of today is right.
    bank.names(
        "insert into ledger_entries (entry_id, user_id, kind, amount, order_uid)
         overriding system value values (1001, 2, 'charge', -80, gen_random_uuid());
         insert into ledger_entries (entry_id, user_id, kind, amount)
         overriding system value values (1002, 2, 'deposit', 80)",
        "S2: user 2: entry 1001 of the ledger left less than nothing",
        "delete from ledger_entries where entry_id > 1000",
    )
    .await
}

#[tokio::test]
async fn s3_an_order_that_is_debited_twice_is_named() -> Result<()> {
    let mut bank = Bank::open().await?;
    bank.sql(
        "insert into ledger_entries (user_id, kind, amount, order_uid)
         select 2, 'charge', -amount, order_uid from payments where order_id = 101;
         update accounts set balance = balance - 30 where user_id = 2",
    )
    .await?;
    bank.look().await?;
    ensure!(bank.counts() == [0, 0, 1], "{:?}", bank.counts());
    let told = bank.findings.check().err().unwrap_or_default();
    ensure!(
        told.starts_with("S3: order 101 (") && told.ends_with("): debited 2 times"),
        "{told}"
    );
    bank.sql(
        "delete from ledger_entries
          where user_id = 2 and order_uid = (select order_uid from payments where order_id = 101);
         update accounts set balance = balance + 30 where user_id = 2",
    )
    .await?;
    bank.look().await?;
    ensure!(bank.findings.check().is_ok(), "{:?}", bank.findings.check());
    Ok(())
}

/// More entries than several looks take.
const MANY: &str = "
    insert into ledger_entries (user_id, kind, amount)
    select 1, 'deposit', 0.01 from generate_series(1, 45000);
    update accounts set balance = balance + 450 where user_id = 1;
    analyze";

#[tokio::test]
async fn an_account_with_a_long_history_is_summed_up_in_parts_and_then_only_gone_on_with()
-> Result<()> {
    let mut bank = Bank::open().await?;
    bank.sql(MANY).await?;
    bank.look().await?;
    ensure!(bank.findings.check().is_ok(), "{:?}", bank.findings.check());
    ensure!(
        bank.walk.remembered.contains_key(&1),
        "{:?}",
        bank.walk.remembered
    );
    bank.names(
        "update accounts set balance = balance + 1 where user_id = 1",
        "S1: user 1: the balance is 521.00, the sum of the ledger 520.00",
        "update accounts set balance = balance - 1 where user_id = 1",
    )
    .await?;
    // A commit that is lost as a whole leaves the books right, and what is remembered wrong.
    bank.sql(
        "delete from ledger_entries where user_id = 1 and amount = -30;
         update accounts set balance = balance + 30 where user_id = 1",
    )
    .await?;
    pay_in(&bank.pool, 1, "1.00").await?;
    bank.look().await?;
    ensure!(bank.findings.check().is_ok(), "{:?}", bank.findings.check());
    Ok(())
}

/// The statistics know five users, and there are twenty thousand.
const MANY_MORE: &str = "
    insert into ledger_entries (user_id, kind, amount)
    select 1 + n % 5, 'deposit', 0.01 from generate_series(1, 20000) n;
    update accounts set balance = balance + 40;
    analyze;
    insert into accounts (user_id, balance) select 1000 + n, 10 from generate_series(1, 20000) n;
    insert into ledger_entries (user_id, kind, amount)
    select 1001 + n % 20000, 'deposit', 1 from generate_series(1, 200000) n";

#[tokio::test]
async fn statistics_out_of_date_do_not_make_a_round_read_whole_tables() -> Result<()> {
    let mut bank = Bank::open().await?;
    bank.sql(MANY_MORE).await?;
    // A statement that takes five seconds is ended by the server, and its round fails.
    bank.look().await?;
    ensure!(bank.findings.check().is_ok(), "{:?}", bank.findings.check());
    Ok(())
}

#[tokio::test]
async fn accounts_that_change_meanwhile_give_no_alarm() -> Result<()> {
    let mut bank = Bank::open().await?;
    let pool = bank.pool.clone();
    let traffic = async {
        for round in 0..60 {
            for user in 1..=5 {
                pay_in(&pool, user, "0.01").await?;
            }
            if round % 20 == 0 {
                sqlx::raw_sql(SPENT_AGAIN).execute(&pool).await?;
            }
        }
        anyhow::Ok(())
    };
    let mut traffic = std::pin::pin!(traffic);
    let mut rounds = 0;
    loop {
        tokio::select! {
            biased;
            done = &mut traffic => {
                done?;
                break;
            }
            round = bank.walk.round(&bank.pool, &bank.findings) => round?,
        }
        rounds += 1;
        ensure!(bank.counts() == [0, 0, 0], "{:?}", bank.findings.check());
    }
    ensure!(rounds > 3, "only {rounds} rounds were made meanwhile");
    Ok(())
}

/// Another order of a cent for each, in one transaction as the service writes it.
const SPENT_AGAIN: &str = "
    begin;
    update accounts set balance = balance - 0.01;
    insert into ledger_entries (user_id, kind, amount, order_uid)
    select user_id, 'charge', -0.01, gen_random_uuid() from accounts;
    commit;";

#[test]
fn readiness_is_red_when_nothing_could_be_looked_at_for_long() {
    let findings = Findings::default();
    assert!(findings.check().is_ok());
    findings.failed("the database is away".to_owned());
    findings.looked_long_ago();
    let told = findings.check().err().unwrap_or_default();
    assert!(told.ends_with("s: the database is away"), "{told}");
    findings.looked(0);
    assert!(findings.check().is_ok());
}
