//! The command line: what can be asked, and who does it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::parked::ParkedId;
use crate::{demo, healthcheck, load, parked, services, up, verify, watch};

/// Orders that are paid exactly once, whatever crashes.
#[derive(Debug, Parser)]
#[command(name = "paidonce", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// A subcommand with its options.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The one door for clients (settings from the environment).
    Gateway,
    /// The Orders service; migrates its database first.
    Orders,
    /// The Payments service; migrates its database first.
    Payments,
    /// Migrates the databases of both services and ends.
    Migrate,
    /// The whole system on this machine, on a private PostgreSQL and RabbitMQ. Not for production.
    Up(UpArgs),
    /// The story in a minute: duplicates, a killed broker, and the proof.
    Demo(DemoArgs),
    /// Checks the invariants over both databases, once or all the time.
    Verify(VerifyArgs),
    /// Places orders and follows each to its end.
    Load(LoadArgs),
    /// Messages that could not be processed: list, show, send again, let go.
    Parked {
        #[command(subcommand)]
        command: ParkedCommand,
    },
    /// Asks a service's own ops port whether it accepts requests.
    Healthcheck {
        /// Which service.
        service: Service,
    },
}

/// What to do with parked messages.
#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// What is open in both services.
    List(ListArgs),
    /// One message with its headers and body.
    Show {
        /// As `list` shows it: orders/12, payments/7.
        id: ParkedId,
    },
    /// Sends a message again to the queue it came from, as it was, and closes its row.
    Replay {
        /// As `list` shows it.
        id: ParkedId,
    },
    /// Lets a message go for good: copies that still come are counted, not parked again.
    Drop {
        /// As `list` shows it.
        id: ParkedId,
    },
}

/// Options of `parked list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Also what is replayed, closed or dropped.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Most rows of each service.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) limit: i64,
}

/// One of the three.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Service {
    Gateway,
    Orders,
    Payments,
}

/// Options of `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Use the servers that the environment names (DB_ORDERS__HOST, RABBITMQ__HOST, …) in place
    /// of private ones.
    #[arg(long)]
    pub(crate) given: bool,
    /// Take free ports in place of 8000-8002 and 9000-9002.
    #[arg(long)]
    pub(crate) free_ports: bool,
    /// Where the private servers keep their data.
    #[arg(long, default_value = ".paidonce")]
    pub(crate) data: PathBuf,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave the system running afterwards, until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to wait for the system to come to rest; under way, fewer rules can be decided.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) within: Duration,
    /// Keep looking until Ctrl-C: a line when a breach begins and when it ends. Exit code 1 if there
    /// was any.
    #[arg(long, conflicts_with = "within")]
    pub(crate) watch: bool,
    /// How often to look, with --watch.
    #[arg(long, default_value = "10s", value_parser = duration, requires = "watch")]
    pub(crate) interval: Duration,
    /// Where /metrics is served, with --watch.
    #[arg(long, default_value = "127.0.0.1:9010", requires = "watch")]
    pub(crate) listen: SocketAddr,
}

/// Options of `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The gateway.
    #[arg(long, default_value = "http://localhost:8000")]
    pub(crate) url: String,
    /// How many orders.
    #[arg(long, default_value_t = 5000, conflicts_with = "duration")]
    pub(crate) orders: u64,
    /// How long, in place of a number of orders.
    #[arg(long = "for", id = "duration", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Closed loop: so many clients, each placing the next order when the last was accepted.
    #[arg(long, default_value_t = 32, conflicts_with = "rate")]
    pub(crate) clients: u32,
    /// Open loop: so many orders per second, whatever comes back.
    #[arg(long)]
    pub(crate) rate: Option<u32>,
    /// Users with money; 1 makes a hot account.
    #[arg(long, default_value_t = 200)]
    pub(crate) users: u32,
    /// Users without money: their orders must end CANCELLED.
    #[arg(long, default_value_t = 0)]
    pub(crate) poor_users: u32,
    /// How long after the last POST an order may stay open.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) settle_within: Duration,
    /// Fail below so many orders accepted per second.
    #[arg(long)]
    pub(crate) accepted_min: Option<f64>,
    /// Fail below so many orders FINISHED per second.
    #[arg(long)]
    pub(crate) finished_min: Option<f64>,
    /// Fail if 1 of 100 orders takes longer from POST to its end.
    #[arg(long, value_parser = duration)]
    pub(crate) settle_p99_max: Option<Duration>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

/// Reads a command line; the error prints itself, `--help` included.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    Cli::try_parse_from(args).map(|cli| cli.command)
}

/// Does what was asked; false when the answer is no (a rule broken, a threshold missed).
pub(crate) async fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Gateway => services::gateway().await,
        Command::Orders => services::orders().await,
        Command::Payments => services::payments().await,
        Command::Migrate => services::migrate().await,
        Command::Up(args) => up::up(args).await,
        Command::Demo(args) => demo::demo(args).await,
        Command::Verify(args) if args.watch => watch::watch(args).await,
        Command::Verify(args) => verify::verify(args).await,
        Command::Load(args) => load::load(args).await,
        Command::Parked { command } => parked::parked(command).await,
        Command::Healthcheck { service } => healthcheck::healthcheck(service).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
