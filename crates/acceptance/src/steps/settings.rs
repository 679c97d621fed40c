//! What is other than usual about the system of a scenario, said before it starts.

use cucumber::given;

use crate::failed::{Step, require};
use crate::process::Service;
use crate::world::World;

#[given(expr = "Orders asks again for at most {int} orders at a time")]
async fn at_most_asked_again(world: &mut World, count: u64) -> Step {
    tell(world, Service::Orders, "REDRIVE__WINDOW", count)
}

#[given(expr = "each Payments process takes {int} messages at a time")]
async fn messages_at_a_time(world: &mut World, count: u64) -> Step {
    tell(world, Service::Payments, "CONSUMER__PREFETCH", count)
}

fn tell(world: &mut World, service: Service, name: &'static str, value: u64) -> Step {
    require!(
        world.stack().is_err(),
        "the system has other settings already"
    );
    world.settings.told.push((service, name, value.to_string()));
    Ok(())
}
