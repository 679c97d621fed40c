//! What was delivered before: tried alone, and counted only if the process dies of it.

use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use postbox::BrokerConfig;
use sqlx::Connection;
use tokio::process::{Child, Command};

use crate::eventually::eventually;
use crate::office::{EFFECTS, Office, PARKED, SENT, letter, saying};

/// Tells a child where its office is; set for no other process.
const OFFICE: &str = "POST_OFFICE_OF_A_CHILD";
const ATTEMPTS: &str = "select coalesce(sum(attempts), 0) from delivery_attempts";

/// A consumer in a process of its own, that a message can kill. This very test program is
/// started for it, with the test below as the only one.
struct Mortal {
    child: Child,
}

impl Mortal {
    fn start(office: &Office) -> Result<Self> {
        use secrecy::ExposeSecret;
        let broker = &office.broker;
        let place = [
            office.database.as_str(),
            &broker.host,
            &broker.port.to_string(),
            &broker.user,
            broker.password.expose_secret(),
            &broker.vhost,
        ]
        .join("\n");
        let child = Command::new(std::env::current_exe()?)
            .args(["--exact", "alone::a_consumer_in_a_process_of_its_own"])
            .env(OFFICE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child })
    }

    /// Whether it has died since it was asked last; then another one takes its place.
    fn has_died(&mut self, office: &Office) -> Result<bool> {
        let died = self.child.try_wait()?.is_some();
        if died {
            *self = Self::start(office)?;
        }
        Ok(died)
    }

    async fn end(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Not a test of its own: what [`Mortal`] starts. It ends with whoever started it.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how its parent tells it where to go"
)]
fn a_consumer_in_a_process_of_its_own() -> Result<()> {
    let Ok(place) = std::env::var(OFFICE) else {
        return Ok(());
    };
    let place: Vec<&str> = place.lines().collect();
    let [database, host, port, user, password, vhost] = place[..] else {
        anyhow::bail!("no such place: {place:?}");
    };
    let broker = BrokerConfig {
        host: host.into(),
        port: port.parse()?,
        user: user.into(),
        password: password.into(),
        vhost: vhost.into(),
        ..BrokerConfig::default()
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let office = runtime.block_on(Office::at(database, broker, String::new()))?;
    let _inside = runtime.enter();
    office.start_consumer();
    // Nothing is ever written here: it ends with the parent.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Waits for a state while the dead are replaced; returns how many died.
async fn deaths_until(
    what: &str,
    office: &Office,
    mortals: &mut [Mortal],
    is_so: impl AsyncFn() -> Result<()>,
) -> Result<usize> {
    let mortals = std::sync::Mutex::new((0, mortals));
    eventually(what, async || {
        {
            let (deaths, mortals) = &mut *mortals.lock().expect("one at a time");
            for mortal in mortals.iter_mut() {
                *deaths += usize::from(mortal.has_died(office)?);
            }
        }
        is_so().await
    })
    .await?;
    Ok(mortals.into_inner().expect("one at a time").0)
}

#[tokio::test]
async fn a_message_that_kills_its_process_is_parked_and_its_neighbours_finish() -> Result<()> {
    let office = Office::open().await?;
    office.start_relay();
    let mut letters: Vec<_> = (0..199).map(|_| letter("letter")).collect();
    letters.insert(100, saying("deadly"));
    let culprit = letters[100].clone();
    office.send(letters).await?;
    office.eventually_count(SENT, 200).await?;

    let mut mortals = [Mortal::start(&office)?, Mortal::start(&office)?];
    let deaths = deaths_until("199 are done", &office, &mut mortals, async || {
        let done = office.count(EFFECTS).await?;
        let parked = office.count(PARKED).await?;
        ensure!((done, parked) == (199, 1), "{done} done, {parked} parked");
        Ok(())
    })
    .await?;
    // Once in company, which counts for nothing, and three times alone.
    ensure!(
        deaths >= 4,
        "only {deaths} deaths: it was not tried alone three times"
    );
    ensure!(office.parked().await? == ("attempts".into(), "open".into(), 1));
    let blamed: Vec<String> = sqlx::query_scalar("select identity from delivery_attempts")
        .fetch_all(&office.pool)
        .await?;
    ensure!(
        blamed == [culprit.message_id.to_string()],
        "blamed are {blamed:?}"
    );

    // A fresh copy, as from an order that is asked for again, kills nobody any more.
    let [first, second] = mortals;
    second.end().await?;
    first.end().await?;
    let mut mortals = [Mortal::start(&office)?];
    office.send(vec![culprit, letter("letter")]).await?;
    let deaths = deaths_until("the copy is counted", &office, &mut mortals, async || {
        ensure!(office.parked().await?.2 == 2, "not yet");
        Ok(())
    })
    .await?;
    ensure!(deaths == 0, "the copy killed {deaths}");
    office.eventually_count(EFFECTS, 200).await?;

    // Replayed, it has its three tries again.
    let id = office.parked_id().await?;
    postbox::replay_parked(&office.pool, id, &[crate::office::TOPOLOGY.reads]).await?;
    let deaths = deaths_until("it is parked again", &office, &mut mortals, async || {
        let found = office.parked().await?;
        ensure!(found == ("attempts".into(), "open".into(), 3), "{found:?}");
        Ok(())
    })
    .await?;
    ensure!(deaths >= 3, "{deaths} deaths after a replay");
    let [only] = mortals;
    only.end().await
}

/// Takes all messages out of the live queue and goes away without a word.
async fn touch_all(office: &Office, messages: u16) -> Result<()> {
    let connection = office.amqp().await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(messages, BasicQosOptions::default())
        .await?;
    let options = BasicConsumeOptions::default();
    let deliveries = channel
        .basic_consume("letters".into(), "".into(), options, FieldTable::default())
        .await?;
    let touched: Vec<_> = deliveries.take(usize::from(messages)).try_collect().await?;
    ensure!(
        touched.len() == usize::from(messages),
        "{} came",
        touched.len()
    );
    Ok(connection.close(200, "gone".into()).await?)
}

#[tokio::test]
async fn what_was_delivered_before_goes_alone_and_the_rest_together() -> Result<()> {
    let office = Office::open().await?;
    office.start_relay();
    let letters = |n| (0..n).map(|_| letter("letter")).collect();
    office.send(letters(300)).await?;
    office.eventually_count(SENT, 300).await?;
    touch_all(&office, 300).await?;
    office.send(letters(300)).await?;
    office.eventually_count(SENT, 600).await?;
    let begin = Instant::now();
    office.start_consumer();
    office.eventually_count(EFFECTS, 600).await?;
    let took = begin.elapsed();
    let calls = office.handler.calls.load(Ordering::Relaxed);
    println!("300 redelivered and 300 others: {calls} transactions in {took:?}");
    ensure!((301..=400).contains(&calls), "{calls} transactions");
    ensure!(
        office
            .count("select count(*) from delivery_attempts")
            .await?
            == 0
    );
    // A broker that restarts delivers a prefetch again: that much must not be felt for long.
    ensure!(took < Duration::from_secs(20), "it took {took:?}");
    Ok(())
}

#[tokio::test]
async fn neither_an_outage_nor_a_stop_counts_as_an_attempt() -> Result<()> {
    let mut office = Office::open().await?;
    office.start_relay();
    office.send(vec![letter("letter")]).await?;
    office.eventually_count(SENT, 1).await?;
    touch_all(&office, 1).await?;
    let mut stranger = sqlx::PgConnection::connect(&office.database).await?;
    sqlx::raw_sql("begin; lock table effects")
        .execute(&mut stranger)
        .await?;
    office.start_consumer();
    for _ in 0..4 {
        office.eventually_count(ATTEMPTS, 1).await?;
        // The server ends the session that waits for the lock: a failure that passes.
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                    where datname = current_database() and wait_event_type = 'Lock'";
        eventually("a session was ended", async || {
            ensure!(office.count(sql).await? > 0, "none waits");
            Ok(())
        })
        .await?;
    }
    // In the middle of a try again, else the stop would find nothing to take back.
    let sql = "select count(*) from pg_stat_activity \
                where datname = current_database() and wait_event_type = 'Lock' \
                  and query like '%effects%'";
    eventually("it waits for the lock, counted", async || {
        let (waits, attempts) = (office.count(sql).await?, office.count(ATTEMPTS).await?);
        ensure!(
            (waits, attempts) == (1, 1),
            "{waits} wait, {attempts} attempts"
        );
        Ok(())
    })
    .await?;
    office.stop_consumer().await?;
    ensure!(office.count(ATTEMPTS).await? == 0, "the stop counts");
    stranger.close().await.context("the lock goes with it")?;
    office.start_consumer();
    office.eventually_count(EFFECTS, 1).await?;
    ensure!(office.count(PARKED).await? == 0, "an innocent is parked");
    Ok(())
}
