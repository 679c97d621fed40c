//! Services that are down, slow or rude, and clients that are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::net::TcpListener;

use super::*;

const SHORT: Limits = Limits {
    connect: Duration::from_millis(300),
    answer: Duration::from_millis(300),
};

/// A URL where nobody listens.
pub(super) fn nobody() -> anyhow::Result<String> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    Ok(format!("http://127.0.0.1:{port}"))
}

/// A service that reads a request and then does what `script` says, for each connection in turn.
async fn rude(script: &'static [&'static str]) -> anyhow::Result<(String, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        for answer in script {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            let mut request = vec![0; 64 * 1024];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            // A client that is gone meanwhile is what some tests are about.
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    Ok((url, requests))
}

async fn code(response: Response) -> anyhow::Result<(u16, String)> {
    let status = response.status().as_u16();
    let body: Value = response.json().await?;
    Ok((status, body["code"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test]
async fn a_service_that_is_down_is_502() -> anyhow::Result<()> {
    let nobody = nobody()?;
    let (address, _, _running) = start(&nobody, &nobody, Limits::default()).await?;
    for (method, path) in [
        (Method::GET, "/v1/orders/7?user_id=1"),
        (Method::POST, "/v1/accounts"),
    ] {
        let answered = code(ask(address, method, path).await?).await?;
        assert_eq!(answered, (502, "upstream_unreachable".to_owned()));
    }
    let (address, _, _running) =
        start("http://no-such-host.invalid", &nobody, Limits::default()).await?;
    let answered = code(ask(address, Method::GET, "/v1/orders?user_id=1").await?).await?;
    assert_eq!(answered, (502, "upstream_unreachable".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_service_that_is_slow_is_504_and_is_not_asked_again() -> anyhow::Result<()> {
    let bench = Bench::with(SHORT).await?;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(5));
    answer(&bench.orders, slow).await;
    for method in [Method::GET, Method::POST] {
        let answered = code(bench.ask(method, "/v1/orders?user_id=1").await?).await?;
        assert_eq!(answered, (504, "upstream_timeout".to_owned()));
    }
    assert_eq!(bench.received().await.len(), 2);
    Ok(())
}

#[tokio::test]
async fn e9_a_write_that_breaks_off_is_never_sent_twice_and_a_read_once_more() -> anyhow::Result<()>
{
    let (url, requests) = rude(&["", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await?;
    let (address, _, _running) = start(&url, &url, Limits::default()).await?;
    let response = ask(address, Method::GET, "/v1/orders/7?user_id=1").await?;
    assert_eq!(response.text().await?, "ok");
    assert_eq!(requests.load(Ordering::SeqCst), 2);

    let (url, requests) = rude(&["", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await?;
    let (address, _, _running) = start(&url, &url, Limits::default()).await?;
    let answered = code(ask(address, Method::POST, "/v1/orders").await?).await?;
    assert_eq!(answered, (502, "upstream_unreachable".to_owned()));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    Ok(())
}

#[tokio::test]
async fn e11_an_answer_that_breaks_off_is_never_taken_for_whole() -> anyhow::Result<()> {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,2",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[1,2\r\n",
    ] {
        let script: &'static [&'static str] = Box::leak(Box::new([cut]));
        let (url, _) = rude(script).await?;
        let (address, _, _running) = start(&url, &url, Limits::default()).await?;
        let response = ask(address, Method::GET, "/v1/orders?user_id=1").await?;
        assert_eq!(response.status(), 200);
        response.text().await.expect_err("the body must break off");
    }
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> anyhow::Result<()> {
    let bench = Bench::with(Limits::default()).await?;
    let away = bench.payments.uri();
    answer(
        &bench.orders,
        ResponseTemplate::new(307).insert_header("location", away),
    )
    .await;
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let url = format!("http://{}/v1/orders/7?user_id=1", bench.address);
    assert_eq!(client.get(url).send().await?.status(), 307);
    assert_eq!(bench.received().await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_long_answer_is_passed_on_while_it_comes() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (address, _, _running) = start(&url, &url, SHORT).await?;
    let service = async {
        let (mut stream, _) = listener.accept().await?;
        let mut request = vec![0; 4096];
        anyhow::ensure!(stream.read(&mut request).await? > 0);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n")
            .await?;
        // Longer than the limit for the head: only the head must come in time.
        tokio::time::sleep(Duration::from_millis(600)).await;
        stream.write_all(b"1\r\n]\r\n0\r\n\r\n").await?;
        anyhow::Ok(())
    };
    let client = async {
        let mut response = ask(address, Method::GET, "/v1/orders?user_id=1").await?;
        let first = response.chunk().await?;
        anyhow::ensure!(first.as_deref() == Some(b"[".as_slice()), "first {first:?}");
        Ok(response.text().await?)
    };
    let (served, rest) = tokio::join!(service, client);
    served?;
    assert_eq!(rest?, "]");
    Ok(())
}

#[tokio::test]
async fn a_body_over_64_kib_is_413_and_reaches_nobody() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let client = Client::builder().no_proxy().build()?;
    let url = format!("http://{}/v1/orders", bench.address);
    let post = |size: usize| client.post(&url).body(vec![b' '; size]).send();
    assert_eq!(post(64 * 1024).await?.status(), 200);
    for size in [64 * 1024 + 1, 1024 * 1024, 3 * 1024 * 1024] {
        let answered = code(post(size).await?).await?;
        assert_eq!(answered, (413, "payload_too_large".to_owned()));
    }
    let zipped = client
        .post(&url)
        .header("content-encoding", "gzip")
        .body("x");
    let answered = code(zipped.send().await?).await?;
    assert_eq!(answered, (415, "unsupported_media_type".to_owned()));
    assert_eq!(bench.received().await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn e10_an_idle_connection_that_the_service_closed_is_not_noticed() -> anyhow::Result<()> {
    // One answer per connection, without saying that it will be closed.
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (url, _) = rude(&[OK, OK, OK, OK]).await?;
    let (address, _, _running) = start(&url, &url, Limits::default()).await?;
    for method in [Method::POST, Method::GET, Method::POST, Method::GET] {
        let response = ask(address, method, "/v1/orders?user_id=1").await?;
        assert_eq!(response.text().await?, "ok");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
