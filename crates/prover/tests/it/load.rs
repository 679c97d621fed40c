//! A whole run of load against a service that settles each order a little later.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use prover::client::{Account, Client, Order, Status};
use prover::load::{Length, LoadResult, Pace, Plan, Progress, Thresholds, run};
use serde::Deserialize;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;

use crate::planted::System;

const SETTLES_AFTER: Duration = Duration::from_millis(100);

/// Orders with the moment they came; an account with money pays.
#[derive(Default)]
struct Service {
    orders: Vec<(Order, Instant)>,
    deposits: BTreeMap<i64, String>,
    refuse_one_in: Option<usize>,
    never_settle: bool,
    requests: usize,
}

type Shared = Arc<Mutex<Service>>;

#[derive(Deserialize)]
struct User {
    user_id: i64,
    amount: Option<String>,
}

impl Service {
    fn as_of_now(&self, (order, came): &(Order, Instant)) -> Order {
        let mut order = order.clone();
        if !self.never_settle && came.elapsed() >= SETTLES_AFTER {
            let paid = self.deposits.contains_key(&order.user_id);
            order.status = if paid {
                Status::Finished
            } else {
                Status::Cancelled
            };
        }
        order
    }
}

fn lock(service: &Shared) -> std::sync::MutexGuard<'_, Service> {
    service.lock().expect("no handler panics")
}

fn account(user_id: i64) -> Json<Account> {
    Json(Account {
        id: user_id,
        user_id,
        balance: String::from("0.00"),
    })
}

async fn place(
    State(service): State<Shared>,
    Json(user): Json<User>,
) -> Result<Json<Order>, StatusCode> {
    let mut service = lock(&service);
    service.requests += 1;
    if service
        .refuse_one_in
        .is_some_and(|one_in| service.requests.is_multiple_of(one_in))
    {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let order = Order {
        id: service.orders.len() as i64 + 1,
        user_id: user.user_id,
        amount: user.amount.unwrap_or_default(),
        description: String::new(),
        status: Status::New,
    };
    service.orders.push((order.clone(), Instant::now()));
    Ok(Json(order))
}

async fn served(service: Service) -> Result<Client> {
    let service: Shared = Arc::new(Mutex::new(service));
    let router = Router::new()
        .route(
            "/v1/accounts",
            post(async |Json(user): Json<User>| account(user.user_id)),
        )
        .route(
            "/v1/accounts/deposit",
            post(
                async |State(service): State<Shared>, Json(user): Json<User>| {
                    lock(&service)
                        .deposits
                        .insert(user.user_id, user.amount.unwrap_or_default());
                    account(user.user_id)
                },
            ),
        )
        .route(
            "/v1/orders/",
            post(place).get(
                async |State(service): State<Shared>, Query(user): Query<User>| {
                    let service = lock(&service);
                    let own = service
                        .orders
                        .iter()
                        .filter(|order| order.0.user_id == user.user_id);
                    Json(
                        own.rev()
                            .map(|order| service.as_of_now(order))
                            .collect::<Vec<_>>(),
                    )
                },
            ),
        )
        .route(
            "/v1/orders/{order_id}",
            get(
                async |State(service): State<Shared>, Path(order_id): Path<usize>| {
                    let service = lock(&service);
                    Json(service.as_of_now(&service.orders[order_id - 1]))
                },
            ),
        )
        .with_state(service);
    serving(router).await
}

async fn serving(router: Router) -> Result<Client> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(Client::new(&format!("http://{address}"))?)
}

fn plan() -> Plan {
    Plan {
        pace: Pace::Closed { clients: 8 },
        length: Length::Orders(400),
        users: 15,
        users_without_money: 5,
        settle_within: Duration::from_secs(10),
        ..Plan::default()
    }
}

async fn loaded(service: Service, plan: Plan) -> Result<LoadResult> {
    let client = served(service).await?;
    let progress = Progress::default();
    let result = run(&client, &plan, None, &progress).await?;
    assert_eq!(progress.accepted(), result.accepted);
    assert_eq!(progress.failed(), result.failed());
    assert_eq!(progress.settled(), result.finished + result.cancelled);
    Ok(result)
}

#[tokio::test]
async fn every_order_of_a_closed_loop_is_followed_to_its_end() -> Result<()> {
    let result = loaded(Service::default(), plan()).await?;
    assert_eq!(
        (result.accepted, result.finished, result.cancelled),
        (400, 300, 100)
    );
    assert_eq!(
        (result.unsettled, result.misjudged, result.failed()),
        (0, 0, 0)
    );
    assert_eq!(result.seen.acknowledged_count(), 400);
    assert_eq!(result.post.count, 400);
    assert!(result.settle.count >= 10, "{:?}", result.settle);
    let settle = SETTLES_AFTER.as_micros() as u64;
    // Seen no earlier than it was; how much later is the machine's business, not this test's.
    assert!(result.settle.p50_us >= settle, "{:?}", result.settle);
    assert!(result.finished_per_second < result.accepted_per_second);
    assert!(Thresholds::default().met_by(&result));
    Ok(())
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate() -> Result<()> {
    let plan = Plan {
        pace: Pace::Open {
            per_second: 200,
            in_flight_max: 64,
        },
        length: Length::For(Duration::from_secs(1)),
        ..plan()
    };
    let result = loaded(Service::default(), plan).await?;
    assert!(
        (199..=201).contains(&result.accepted),
        "{}",
        result.accepted
    );
    assert_eq!(result.unsettled, 0);
    Ok(())
}

#[tokio::test]
async fn refused_requests_are_counted_apart() -> Result<()> {
    let service = Service {
        refuse_one_in: Some(4),
        ..Service::default()
    };
    let result = loaded(service, plan()).await?;
    assert_eq!((result.accepted, result.failed()), (300, 100));
    assert_eq!(result.failures.get("refused with 422"), Some(&100));
    assert!(!Thresholds::default().met_by(&result));
    assert!(
        Thresholds {
            failed_max: Some(100),
            ..Thresholds::default()
        }
        .met_by(&result)
    );
    Ok(())
}

#[tokio::test]
async fn orders_that_never_settle_end_the_run_and_fail_it() -> Result<()> {
    let service = Service {
        never_settle: true,
        ..Service::default()
    };
    let plan = Plan {
        settle_within: Duration::from_millis(200),
        length: Length::Orders(50),
        ..plan()
    };
    let result = loaded(service, plan).await?;
    assert_eq!((result.unsettled, result.finished), (50, 0));
    assert!(!Thresholds::default().met_by(&result));
    Ok(())
}

#[tokio::test]
async fn given_the_orders_database_every_order_is_timed_there() -> Result<()> {
    let system = System::correct().await?;
    let pool = PgPool::connect(&system.orders_url).await?;
    let numbers = Arc::new(AtomicI64::new(100));
    let placing = (pool.clone(), numbers);
    let router = Router::new()
        .route(
            "/v1/accounts",
            post(async |Json(user): Json<User>| account(user.user_id)),
        )
        .route(
            "/v1/accounts/deposit",
            post(async |Json(user): Json<User>| account(user.user_id)),
        )
        .route(
            "/v1/orders/",
            post(
                async |State((pool, numbers)): State<(PgPool, Arc<AtomicI64>)>,
                       Json(user): Json<User>| {
                    let id = numbers.fetch_add(1, Ordering::Relaxed);
                    let placed = sqlx::query(
                        "insert into audit.orders (order_id, user_id, amount, status, created_at)
                     values ($1, $2, 1.50, 'NEW', clock_timestamp())",
                    )
                    .bind(id)
                    .bind(user.user_id)
                    .execute(&pool)
                    .await;
                    let (amount, description, status) =
                        (String::from("1.50"), String::new(), Status::New);
                    let order = Order {
                        id,
                        user_id: user.user_id,
                        amount,
                        description,
                        status,
                    };
                    placed
                        .map(|_| Json(order))
                        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
                },
            ),
        )
        .with_state(placing);
    let client = serving(router).await?;
    let settling = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            sqlx::query(
                "update audit.orders set status = 'FINISHED'
                  where status = 'NEW' and created_at < clock_timestamp() - interval '100 ms'",
            )
            .execute(&pool)
            .await?;
        }
        #[expect(unreachable_code, reason = "names the type of the error")]
        anyhow::Ok(())
    });
    let plan = Plan {
        length: Length::Orders(100),
        users_without_money: 0,
        ..plan()
    };
    let login = PgConnectOptions::from_str(&system.orders_url)?;
    let result = run(&client, &plan, Some(&login), &Progress::default()).await?;
    settling.abort();
    assert_eq!(
        (result.accepted, result.finished, result.unsettled),
        (100, 100, 0)
    );
    assert_eq!(result.settle.count, 100);
    let settle = SETTLES_AFTER.as_micros() as u64;
    // Seen no earlier than it was; how much later is the machine's business, not this test's.
    assert!(result.settle.p50_us >= settle, "{:?}", result.settle);
    Ok(())
}
