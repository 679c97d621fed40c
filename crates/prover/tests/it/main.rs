//! What the prover promises, tested against servers: a real PostgreSQL, a real RabbitMQ, and small
//! HTTP services that answer as told. One binary, because each further one links everything again.

mod broker;
mod client;
mod history;
mod live_traffic;
mod load;
mod planted;
mod rules;
mod watch;

/// Callers run these in tasks of their own; a future that cannot move between threads would stop
/// them from compiling.
#[test]
fn the_long_calls_can_be_spawned() {
    fn spawnable<F: Future + Send + 'static>(_: F) {}
    let client = prover::client::Client::new("http://localhost").expect("a client");
    let databases = || prover::Databases::parse("postgres://a/b", "postgres://a/b").expect("urls");
    let moved = databases();
    spawnable(async move { prover::judge(&moved, prover::At::Rest, None).await });
    let moved = databases();
    spawnable(
        async move { prover::quiescence::until_at_rest(&moved, std::time::Duration::ZERO).await },
    );
    spawnable(async move {
        let (plan, progress) = (
            prover::load::Plan::default(),
            prover::load::Progress::default(),
        );
        prover::load::run(&client, &plan, None, &progress).await
    });
    let moved = databases();
    spawnable(async move { prover::watch::Watch::new(moved).look().await });
    spawnable(async {
        prover::duplicator::Duplicator::start("amqp://a", prover::duplicator::CopyId::Same).await
    });
}
