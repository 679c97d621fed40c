//! `paidonce verify`: the invariants over both databases, as a table.

use anyhow::Context;
use orders::config::OrdersConfig;
use payments::config::PaymentsConfig;
use prover::quiescence::{in_flight, until_at_rest};
use prover::{At, Databases, judge};

use crate::cli::VerifyArgs;
use crate::system::environment;

pub(crate) async fn verify(args: VerifyArgs) -> anyhow::Result<bool> {
    let databases = databases()?;
    // A login that does not work is told at once, not after the wait for rest.
    in_flight(&databases).await?;
    let at = match until_at_rest(&databases, args.within).await {
        Ok(_) => At::Rest,
        Err(_) => {
            let rest = in_flight(&databases).await?;
            eprintln!(
                "not at rest within {:?}: {rest}; rules of a resting system are not decided",
                args.within
            );
            At::Live
        }
    };
    let report = judge(&databases, at, None).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.to_table());
    }
    Ok(report.holds())
}

/// `VERIFY__ORDERS_URL` and `VERIFY__PAYMENTS_URL`, or the services' own logins.
pub(crate) fn databases() -> anyhow::Result<Databases> {
    let vars = environment();
    let url = |name: &str| vars.get(name).filter(|url| !url.is_empty());
    match (url("VERIFY__ORDERS_URL"), url("VERIFY__PAYMENTS_URL")) {
        (Some(orders), Some(payments)) => Databases::parse(orders, payments)
            .context("VERIFY__ORDERS_URL or VERIFY__PAYMENTS_URL is not a postgres:// URL"),
        (None, None) => {
            let orders = OrdersConfig::read()?.db_orders;
            let payments = PaymentsConfig::read()?.db_payments;
            Ok(Databases::new(
                orders.login("verify"),
                payments.login("verify"),
            ))
        }
        _ => anyhow::bail!("set both VERIFY__ORDERS_URL and VERIFY__PAYMENTS_URL, or neither"),
    }
}
