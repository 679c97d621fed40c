//! Which requests reach which service, in which form, and what comes back.

use serde_json::{Value, json};

use super::*;
use crate::routes::{ROUTES, Upstream};

#[tokio::test]
async fn every_route_reaches_its_service_in_both_spellings() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for route in ROUTES {
        let path = route
            .path
            .replace("{user_id}", "7")
            .replace("{order_id}", "7");
        for method in route.methods {
            for spelling in [path.clone(), format!("{path}/")] {
                let url = format!("{spelling}?user_id=101");
                let response = bench.ask(method.clone(), &url).await?;
                assert_eq!(response.status(), 200, "{method} {spelling}");
                assert_eq!(response.text().await?, route.upstream.name());
                let service = match route.upstream {
                    Upstream::Orders => &bench.orders,
                    Upstream::Payments => &bench.payments,
                };
                let last = service.received_requests().await.unwrap_or_default();
                let last = last.last().expect("it was asked");
                assert_eq!(last.method, *method);
                assert_eq!(last.url.path(), path);
                assert_eq!(last.url.query(), Some("user_id=101"));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_method_is_405_with_allow_and_reaches_nobody() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for route in ROUTES {
        let path = route
            .path
            .replace("{user_id}", "7")
            .replace("{order_id}", "7");
        for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let response = bench.ask(method, &path).await?;
            assert_eq!(response.status(), 405, "{path}");
            let allow = response.headers()["allow"].to_str()?.to_owned();
            for served in route.methods {
                assert!(allow.contains(served.as_str()), "{path}: {allow}");
            }
            let body: Value = response.json().await?;
            assert_eq!(body["detail"], "Method Not Allowed");
        }
    }
    // p12: the word is a route of its own, not a user.
    let deposit = bench.ask(Method::GET, "/v1/accounts/deposit").await?;
    assert_eq!(deposit.status(), 405);
    assert!(bench.received().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_unknown_path_is_404_and_reaches_nobody() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for path in [
        "/",
        "/v1",
        "/v2/orders",
        "/v1/orders/7/events/x",
        "/metrics",
        "/health/accepting",
        "/parked",
        "//v1/orders",
        "/v1//orders",
        "/v1/orders/..%2f..%2fadmin",
        "/v1/orders/%2e%2e",
        "/v1/orders/%00",
        "/v1/orders/%ff",
        "/v1/orders/a%5cb",
    ] {
        // By hand, because a client would tidy the path up first.
        let answer = bench
            .say(&format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ))
            .await?;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(answer.contains(r#"{"detail":"Not Found","code":"not_found","#));
    }
    assert!(bench.received().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn m9_absolute_form_never_changes_the_service() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let answer = bench
        .say("GET http://evil.example/v1/orders/7?user_id=1 HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        .await?;
    assert!(answer.ends_with("orders"), "{answer}");
    let received = bench.received().await;
    assert_eq!(received.len(), 1);
    let host = received[0].headers["host"].to_str()?;
    assert_eq!(host, bench.orders.address().to_string());
    Ok(())
}

#[tokio::test]
async fn headers_pass_by_list_in_both_directions() -> anyhow::Result<()> {
    let bench = Bench::with(Limits::default()).await?;
    let response = ResponseTemplate::new(201)
        .insert_header("idempotent-replayed", "true")
        .insert_header("location", "/v1/orders/1")
        .insert_header("server", "secret")
        .insert_header("set-cookie", "a=b")
        .insert_header("x-internal", "1")
        .set_body_raw(r#"{"id":1}"#, "application/json");
    answer(&bench.orders, response).await;
    let body = r#"{"user_id":1}"#;
    let seen = bench
        .say(&format!(
            concat!(
                "POST /v1/orders/ HTTP/1.1\r\nHost: x\r\nConnection: close, X-Secret, Accept\r\n",
                "Content-Type: application/json\r\nContent-Length: {}\r\nAccept: a/b\r\n",
                "X-Auth-User: 7\r\nX-Secret: 1\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: a=b\r\n",
                "Idempotency-Key: key\r\nX-Request-Id: request-1\r\n",
                "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n{}"
            ),
            body.len(),
            body
        ))
        .await?;
    assert!(seen.starts_with("HTTP/1.1 201"), "{seen}");
    assert!(seen.ends_with(r#"{"id":1}"#), "{seen}");
    for kept in [
        "idempotent-replayed: true",
        "location: /v1/orders/1",
        "x-request-id: request-1",
        "content-length: 8",
    ] {
        assert!(seen.contains(kept), "{kept}: {seen}");
    }
    for dropped in ["secret", "set-cookie", "x-internal"] {
        assert!(!seen.contains(dropped), "{dropped}: {seen}");
    }
    let received = bench.received().await;
    let sent = &received[0];
    assert_eq!(sent.body, body.as_bytes());
    assert_eq!(sent.headers["idempotency-key"], "key");
    assert_eq!(sent.headers["x-request-id"], "request-1");
    assert_eq!(sent.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(
        sent.headers["traceparent"],
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    );
    for dropped in ["x-auth-user", "x-secret", "cookie"] {
        assert!(!sent.headers.contains_key(dropped), "{dropped}");
    }
    let accept = sent.headers.get("accept").map(|value| value.as_bytes());
    assert_ne!(accept, Some(&b"a/b"[..]));
    Ok(())
}

#[tokio::test]
async fn an_error_of_a_service_comes_through_byte_for_byte() -> anyhow::Result<()> {
    let bench = Bench::with(Limits::default()).await?;
    let body = r#"{"detail":"Order not found","code":"order_not_found","request_id":"r"}"#;
    let response = ResponseTemplate::new(404).set_body_raw(body, "application/json");
    answer(&bench.orders, response).await;
    let response = bench.ask(Method::GET, "/v1/orders/7?user_id=1").await?;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.text().await?, body);
    Ok(())
}

#[tokio::test]
async fn the_query_goes_on_as_it_came() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let response = bench
        .ask(Method::GET, "/v1/orders?user_id=1&user_id=2&x=%2e%20")
        .await?;
    assert_eq!(response.status(), 200);
    let received = bench.received().await;
    assert_eq!(
        received[0].url.query(),
        Some("user_id=1&user_id=2&x=%2e%20")
    );
    Ok(())
}

#[tokio::test]
async fn head_asks_like_get_and_answers_without_body() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let response = bench.ask(Method::HEAD, "/v1/orders/7?user_id=1").await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await?, "");
    Ok(())
}

#[tokio::test]
async fn the_public_is_told_one_word_and_operators_the_reason() -> anyhow::Result<()> {
    let bench = Bench::with(Limits::default()).await?;
    answer(&bench.orders, ResponseTemplate::new(200)).await;
    answer(&bench.payments, ResponseTemplate::new(503)).await;
    let live = bench.ask(Method::GET, "/health/live").await?;
    assert_eq!(live.json::<Value>().await?, json!({"status": "ok"}));
    let ready = bench.ask(Method::GET, "/health/ready").await?;
    assert_eq!(ready.status(), 200, "one service is enough");
    assert_eq!(
        ready.json::<Value>().await?,
        json!({"status": "ok", "orders": "ok", "payments": "unavailable"})
    );
    let asked = bench.received().await;
    assert!(
        asked
            .iter()
            .all(|request| request.url.path() == "/health/accepting")
    );
    let ops = ask(bench.ops, Method::GET, "/health/ready").await?;
    assert_eq!(ops.status(), 503, "for operators every service counts");
    let ops: Value = ops.json().await?;
    assert_eq!(ops["checks"]["payments"]["detail"], "answers 503");
    assert_eq!(ops["checks"]["orders"]["ok"], true);
    Ok(())
}

#[tokio::test]
async fn without_any_service_the_gateway_is_not_ready() -> anyhow::Result<()> {
    let nobody = faults::nobody()?;
    let (address, _, _running) = start(&nobody, &nobody, Limits::default()).await?;
    let ready = ask(address, Method::GET, "/health/ready").await?;
    assert_eq!(ready.status(), 503);
    assert_eq!(
        ready.json::<Value>().await?,
        json!({"status": "unavailable", "orders": "unavailable", "payments": "unavailable"})
    );
    Ok(())
}

#[tokio::test]
async fn a_head_tells_the_length_of_the_get() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let whole = bench.ask(Method::GET, "/v1/accounts/7").await?;
    let length = whole.text().await?.len();
    let answer = bench
        .say("HEAD /v1/accounts/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await?;
    let expected = format!("content-length: {length}\r\n");
    assert!(
        length > 0 && answer.to_lowercase().contains(&expected),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n"), "a HEAD has no body: {answer}");
    Ok(())
}
