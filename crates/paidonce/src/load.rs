//! `paidonce load`: places orders, follows each to its end, and tells how fast that was.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use prover::client::Client;
use prover::load::{self, Length, LoadResult, Pace, Percentiles, Plan, Progress, Thresholds};
use sqlx::postgres::PgConnectOptions;

use crate::cli::LoadArgs;
use crate::system::environment;
use crate::tell;

/// Requests under way at a time in an open loop.
const OPEN_LOOP_MAX: u32 = 1000;

pub(crate) async fn load(args: LoadArgs) -> anyhow::Result<bool> {
    let plan = plan(&args);
    let client = Client::new(&args.url).context("no HTTP client")?;
    let database = environment()
        .get("VERIFY__ORDERS_URL")
        .map(|url| PgConnectOptions::from_str(url).context("VERIFY__ORDERS_URL is not a URL"))
        .transpose()?;
    let progress = Progress::default();
    let bar = tell::bar(if let Length::Orders(orders) = plan.length {
        orders
    } else {
        0
    });
    let run = load::run(&client, &plan, database.as_ref(), &progress);
    let result = tell::watched(&bar, || progress.settled(), run).await?;

    let missed = thresholds(&args).missed_by(&result);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        print(&result);
    }
    for threshold in &missed {
        eprintln!("✗ {threshold}");
    }
    Ok(missed.is_empty())
}

fn plan(args: &LoadArgs) -> Plan {
    Plan {
        pace: match args.rate {
            Some(per_second) => Pace::Open {
                per_second,
                in_flight_max: OPEN_LOOP_MAX,
            },
            None => Pace::Closed {
                clients: args.clients,
            },
        },
        length: args
            .duration
            .map_or(Length::Orders(args.orders), Length::For),
        users: args.users,
        users_without_money: args.poor_users,
        settle_within: args.settle_within,
        ..Plan::default()
    }
}

fn thresholds(args: &LoadArgs) -> Thresholds {
    Thresholds {
        accepted_per_second_min: args.accepted_min,
        finished_per_second_min: args.finished_min,
        settle_p99_max: args.settle_p99_max,
        ..Thresholds::default()
    }
}

fn print(result: &LoadResult) {
    println!(
        "accepted   {} orders, {:.0}/s",
        result.accepted, result.accepted_per_second
    );
    println!(
        "settled    {} FINISHED, {} CANCELLED, {} left open; {:.0} FINISHED/s from the first POST to the last end",
        result.finished, result.cancelled, result.unsettled, result.finished_per_second
    );
    print_percentiles("POST", &result.post);
    print_percentiles("settle", &result.settle);
    for (why, count) in &result.failures {
        println!("failed     {count} × {why}");
    }
}

fn print_percentiles(name: &str, percentiles: &Percentiles) {
    let ms = |us: u64| Duration::from_micros(us);
    println!(
        "{name:<10} p50 {:?}  p99 {:?}  max {:?}",
        ms(percentiles.p50_us),
        ms(percentiles.p99_us),
        ms(percentiles.max_us)
    );
}
