//! `paidonce up`: the whole system on this machine, until Ctrl-C.

use chassis::ports::BindError;
use sandbox::{Data, Sandbox};

use crate::cli::UpArgs;
use crate::services::on_signal;
use crate::system::{self, System};

pub(crate) async fn up(args: UpArgs) -> anyhow::Result<bool> {
    chassis::telemetry::init();
    let stop = on_signal()?;
    let sandbox = if args.given {
        None
    } else {
        let servers = stop.run_until_cancelled(start_servers(&args)).await;
        let Some(servers) = servers else {
            return Ok(true);
        };
        Some(servers?)
    };
    let mut vars = sandbox
        .as_ref()
        .map_or_else(system::environment, system::vars_of);
    if args.free_ports {
        system::take_free_ports(&mut vars);
    }
    let mut system = match System::start(vars).await {
        Ok(system) => system,
        Err(error) => {
            stop_servers(sandbox).await?;
            return Err(if error.is::<BindError>() {
                error.context("free the port, or take others with --free-ports")
            } else {
                error
            });
        }
    };
    print_addresses(&system, sandbox.as_ref());
    let outcome = tokio::select! {
        () = stop.cancelled() => system.stop().await,
        ended = system.ended() => ended,
    };
    stop_servers(sandbox).await?;
    outcome.map(|()| true)
}

async fn start_servers(args: &UpArgs) -> anyhow::Result<Sandbox> {
    println!("starting a private PostgreSQL and RabbitMQ …");
    let data = system::absolute(&args.data)?;
    let (sandbox, moved_to) = system::private_servers(Data::Kept(data.clone())).await?;
    let kept = moved_to.as_deref().unwrap_or(&data);
    println!("  {}, data in {}", sandbox.describe(), kept.display());
    if moved_to.is_some() {
        println!(
            "  ({} cannot be reached by the user that the servers run as)",
            data.display()
        );
    }
    Ok(sandbox)
}

async fn stop_servers(sandbox: Option<Sandbox>) -> anyhow::Result<()> {
    match sandbox {
        Some(sandbox) => sandbox.stop().await,
        None => Ok(()),
    }
}

/// Prints where to look.
pub(crate) fn print_addresses(system: &System, sandbox: Option<&Sandbox>) {
    println!("\n  NOT for production: everything in one process\n");
    println!(
        "  API and documentation   {0}   {0}/docs   {0}/openapi.json",
        system.url()
    );
    for (name, api, ops) in &system.addresses {
        println!(
            "  {name:<23} {}   health {}/health/ready",
            system::url(*api),
            system::url(*ops)
        );
    }
    if let Some(sandbox) = sandbox {
        let rabbitmq = &sandbox.rabbitmq;
        let (orders, payments) = system::audit_urls(sandbox);
        println!(
            "  RabbitMQ                {}   {} / {}",
            rabbitmq.management_url(),
            rabbitmq.user(),
            rabbitmq.password()
        );
        println!("  check the invariants    VERIFY__ORDERS_URL={orders} \\");
        println!("                          VERIFY__PAYMENTS_URL={payments} paidonce verify");
    }
    println!("\n  Ctrl-C stops all of it\n");
}
