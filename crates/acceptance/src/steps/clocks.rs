//! The clock of one service, set while it runs: by libfaketime, which stands between the process and its clock.
//!
//! Not here: the database's clock, which leases go by (`tampering`).

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use contracts::topology::{EXCHANGE, ORDER_RESULTS, PAYMENT_REQUESTS};
use cucumber::{given, when};
use prover::amqp;
use sqlx::Connection as _;
use tokio::process::Command;

use crate::audit;
use crate::eventually::eventually;
use crate::failed::Step;
use crate::parameters::Which;
use crate::process::Service;
use crate::world::World;

/// By how much a clock is wrong.
const HOUR: i64 = 3600;
/// A clock that still tells the same second after so many stands still.
const STANDS: i64 = 5;
/// What a message may be under way for.
const TOLERATED: i64 = 60;

#[given(expr = "the clock of {service} can be set")]
async fn can_be_set(world: &mut World, service: Which) -> Step {
    let library = library().await?;
    let file = tempfile::NamedTempFile::new().context("cannot make a file")?;
    std::fs::write(file.path(), "+0").context("cannot write a file")?;
    let told = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file.path().display().to_string()),
        // Seconds after which the file is read again.
        ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        // The time at which it is to stand still is told in this one.
        ("TZ", "UTC".to_owned()),
        // Waiting goes by another clock, which nobody can set.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let settings = world.settings_mut()?;
    let told = told.map(|(name, value)| (service.0.service, name, value));
    settings.told.extend(told);
    world.clock = Some(file);
    Ok(())
}

/// As the program of that name gives it to what it starts.
async fn library() -> anyhow::Result<String> {
    let found = Command::new("faketime")
        .args(["-f", "+0", "printenv", "LD_PRELOAD"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("this scenario needs the program faketime on PATH (package faketime, in Nix libfaketime)")?;
    ensure!(
        found.status.success(),
        "faketime ended with {}",
        found.status
    );
    let library = String::from_utf8(found.stdout).context("not a path")?;
    Ok(library.trim().to_owned())
}

#[when(expr = "the clock of {service} jumps an hour ahead")]
async fn jumps_ahead(world: &mut World, service: Which) -> Step {
    Ok(put_off(world, service.0.service, HOUR).await?)
}

#[when(expr = "the clock of {service} falls an hour behind")]
async fn falls_behind(world: &mut World, service: Which) -> Step {
    Ok(put_off(world, service.0.service, -HOUR).await?)
}

#[when(expr = "the clock of {service} stands still")]
async fn stands_still(world: &mut World, service: Which) -> Step {
    let mut connection = audit::connect(world.stack()?, service.0.service).await?;
    let (text, at): (String, i64) = sqlx::query_as(
        "select to_char(now() at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS'), \
                floor(extract(epoch from now()))::bigint",
    )
    .fetch_one(&mut connection)
    .await
    .context("cannot ask for the time")?;
    connection.close().await?;
    let still = |told: i64, now: i64| told == at && now - told >= STANDS;
    Ok(set(world, service.0.service, &text, still).await?)
}

#[when(expr = "the clock of {service} is right again")]
async fn is_right_again(world: &mut World, service: Which) -> Step {
    Ok(put_off(world, service.0.service, 0).await?)
}

/// Puts it off by so many seconds.
async fn put_off(world: &World, service: Service, off: i64) -> anyhow::Result<()> {
    let near = |told: i64, now: i64| (told - now - off).abs() < TOLERATED;
    set(world, service, &format!("{off:+}"), near).await
}

/// Sets it as libfaketime reads it, and waits until the time that is told fits the time that it is, in seconds.
async fn set(
    world: &World,
    service: Service,
    to: &str,
    fits: impl Fn(i64, i64) -> bool,
) -> anyhow::Result<()> {
    let file = world.clock.as_ref().context("that clock cannot be set")?;
    ensure!(world.rush.is_some(), "without orders nobody tells the time");
    std::fs::write(file.path(), to).context("cannot write a file")?;
    // Each message carries the time at which its service sent it.
    let sent = match service {
        Service::Orders => PAYMENT_REQUESTS.kind,
        _ => ORDER_RESULTS.kind,
    };
    let connection = amqp::connect(&world.stack()?.amqp_url(), "acceptance-clock").await?;
    let (heard, fits) = (&connection, &fits);
    eventually("the clock is set", || async move {
        let message = amqp::overhear(heard, EXCHANGE, sent).await?;
        let told = message.properties.timestamp().context("no time is told")?;
        let (told, now) = (i64::try_from(told)?, now()?);
        ensure!(fits(told, now), "it is wrong by {} s", told - now);
        Ok(())
    })
    .await?;
    Ok(connection.close(200, "done".into()).await?)
}

fn now() -> anyhow::Result<i64> {
    let since: Duration = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_secs())?)
}
