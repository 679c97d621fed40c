//! What is other than usual about the system of a scenario, said before it starts.

use cucumber::given;

use crate::failed::Step;
use crate::process::Service;
use crate::world::World;

#[given(expr = "Orders asks again for at most {int} orders at a time")]
async fn at_most_asked_again(world: &mut World, count: u64) -> Step {
    tell(world, Service::Orders, "REDRIVE__WINDOW", count)
}

/// Through the management API, which the broker's own port does not need.
#[given("Orders may ask the broker what it has made of its queues")]
async fn may_ask_the_broker(world: &mut World) -> Step {
    world.settings_mut()?.management = true;
    Ok(())
}

#[given(expr = "each Payments process takes {int} messages at a time")]
async fn messages_at_a_time(world: &mut World, count: u64) -> Step {
    tell(world, Service::Payments, "CONSUMER__PREFETCH", count)
}

fn tell(world: &mut World, service: Service, name: &'static str, value: u64) -> Step {
    let told = &mut world.settings_mut()?.told;
    told.push((service, name, value.to_string()));
    Ok(())
}
