//! `paidonce gateway | orders | payments | migrate`: one service from the environment.

use chassis::env::EnvError;
use gateway::Gateway;
use gateway::config::GatewayConfig;
use orders::Orders;
use orders::config::OrdersConfig;
use payments::Payments;
use payments::config::PaymentsConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(crate) async fn gateway() -> anyhow::Result<bool> {
    chassis::telemetry::init();
    let service = Gateway::bind(GatewayConfig::read()?, crate::document()).await?;
    service.run(on_signal()?).await?;
    Ok(true)
}

pub(crate) async fn orders() -> anyhow::Result<bool> {
    chassis::telemetry::init();
    let service = Orders::bind(OrdersConfig::read()?).await?;
    service.run(on_signal()?).await?;
    Ok(true)
}

pub(crate) async fn payments() -> anyhow::Result<bool> {
    chassis::telemetry::init();
    let service = Payments::bind(PaymentsConfig::read()?).await?;
    service.run(on_signal()?).await?;
    Ok(true)
}

/// For deployments that migrate before they start the new binaries.
pub(crate) async fn migrate() -> anyhow::Result<bool> {
    chassis::telemetry::init();
    let stop = on_signal()?;
    let (orders, payments) = configs()?;
    let orders = chassis::database::migrate(&orders.db_orders, "orders", &orders::MIGRATOR, &stop);
    let payments = chassis::database::migrate(
        &payments.db_payments,
        "payments",
        &payments::MIGRATOR,
        &stop,
    );
    let (orders, payments) = tokio::try_join!(orders, payments)?;
    Ok(orders && payments)
}

fn configs() -> Result<(OrdersConfig, PaymentsConfig), EnvError> {
    Ok((OrdersConfig::read()?, PaymentsConfig::read()?))
}

/// A token that fires on SIGTERM or Ctrl-C.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let fired = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        fired.cancel();
    });
    Ok(token)
}
