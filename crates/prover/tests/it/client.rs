//! What an answer means: what may have had an effect is never counted as a failure.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::{any, get};
use prover::client::{Client, Order, Outcome, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ORDER: &str =
    r#"{"id":123,"user_id":101,"amount":"150.00","description":"хз","status":"NEW"}"#;

/// A service that answers every POST of an order with this.
async fn answering(status: u16, body: &'static str) -> Result<Client> {
    let answer = move || async move {
        let status = StatusCode::from_u16(status).expect("a status");
        (status, [(header::CONTENT_TYPE, "application/json")], body)
    };
    serving(Router::new().route("/v1/orders/", any(answer))).await
}

async fn serving(router: Router) -> Result<Client> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    client_of(address)
}

fn client_of(address: SocketAddr) -> Result<Client> {
    Ok(Client::with_timeout(
        &format!("http://{address}/"),
        Duration::from_secs(1),
    )?)
}

async fn placed(client: &Client) -> Outcome<Order> {
    client.place_order(101, "150.00", "хз").await
}

#[tokio::test]
async fn a_success_is_read_with_its_amount_as_text() -> Result<()> {
    let client = answering(201, ORDER).await?;
    let order = placed(&client).await.ok()?;
    assert_eq!((order.id, order.amount.as_str()), (123, "150.00"));
    assert_eq!(
        (order.description.as_str(), order.status),
        ("хз", Status::New)
    );
    Ok(())
}

#[tokio::test]
async fn refusals_had_no_effect() -> Result<()> {
    for status in [400, 401, 403, 404, 405, 409, 413, 415, 422, 429] {
        let body = r#"{"detail":"no","code":"account_exists","request_id":"r"}"#;
        let outcome = placed(&answering(status, body).await?).await;
        assert!(outcome.had_no_effect(), "{status}: {outcome:?}");
        assert_eq!(
            outcome,
            Outcome::Refused {
                status,
                body: body.to_owned()
            }
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_may_have_had_an_effect_is_unknown() -> Result<()> {
    let in_flight = r#"{"detail":"wait","code":"idempotency_key_in_flight","request_id":"r"}"#;
    for (status, body) in [
        (409, in_flight),
        (500, "{}"),
        (502, "{}"),
        (503, "{}"),
        (504, "{}"),
        (302, "{}"),
        (201, "not an order"),
        (201, r#"{"id":123,"user_id":1"#),
    ] {
        let outcome = placed(&answering(status, body).await?).await;
        assert!(
            matches!(outcome, Outcome::Unknown { .. }),
            "{status} {body}: {outcome:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_found_nobody_was_not_sent() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(listener);
    let outcome = placed(&client_of(address)?).await;
    assert!(matches!(outcome, Outcome::Unsent { .. }), "{outcome:?}");
    assert!(outcome.had_no_effect());
    Ok(())
}

#[tokio::test]
async fn a_silence_and_a_broken_answer_are_unknown() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let outcome = placed(&client_of(silent.local_addr()?)?).await;
    assert_eq!(
        outcome,
        Outcome::Unknown {
            why: String::from("no answer in time")
        }
    );

    let breaking = TcpListener::bind("127.0.0.1:0").await?;
    let address = breaking.local_addr()?;
    tokio::spawn(async move {
        let (mut stream, _) = breaking.accept().await?;
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await?;
        stream
            .write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 900\r\n\r\n{\"id\":1")
            .await?;
        stream.shutdown().await
    });
    let outcome = placed(&client_of(address)?).await;
    assert_eq!(
        outcome,
        Outcome::Unknown {
            why: String::from("the connection broke")
        }
    );
    Ok(())
}

#[tokio::test]
async fn the_paths_are_those_of_the_contract() -> Result<()> {
    let account = r#"{"id":1,"user_id":7,"balance":"0.00"}"#;
    let router = Router::new()
        .route(
            "/v1/accounts",
            axum::routing::post(move || async move { account }),
        )
        .route(
            "/v1/accounts/deposit",
            axum::routing::post(move || async move { account }),
        )
        .route("/v1/accounts/7", get(move || async move { account }))
        .route(
            "/v1/orders/",
            get(|| async { format!("[{ORDER}]") }).post(|| async { ORDER }),
        )
        .route("/v1/orders/123", get(|| async { ORDER }));
    let client = serving(router).await?;
    client.open_account(7).await.ok()?;
    client.deposit(7, "1.00").await.ok()?;
    assert_eq!(client.account(7).await.ok()?.balance, "0.00");
    let order = placed(&client).await.ok()?;
    assert_eq!(client.order(7, 123).await.ok()?, order);
    assert_eq!(client.orders(7).await.ok()?, [order]);
    Ok(())
}
