//! Promises of the server, over real sockets.

use super::*;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

const SHORT: Limits = Limits {
    head: Duration::from_millis(150),
    idle: Duration::from_millis(400),
    write: Duration::from_millis(300),
};

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

async fn start(limits: Limits, limit: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let router = Router::new()
        .route(
            "/",
            get(|| async { "hello" }).post(|body: String| async { body }),
        )
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                "at last"
            }),
        )
        .route("/never", post(std::future::pending::<()>))
        .route("/large", get(|| async { vec![b'x'; 64 * 1024 * 1024] }));
    let router = crate::http::shell(router);
    let served = tokio::spawn(serve_within(
        listener,
        router,
        shutdown.clone(),
        limit,
        limits,
    ));
    Server {
        address,
        shutdown,
        served,
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("listens")
    }

    /// Sends the text and reads until the server closes.
    async fn say(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.expect("writes");
        read_all(&mut stream).await
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end like any other.
    drop(
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer))
            .await
            .expect("the server closes in time"),
    );
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn a_request_is_answered_and_the_connection_kept_until_it_idles_too_long() {
    let server = start(SHORT, Duration::from_secs(1)).await;
    let mut stream = server.connect().await;
    for pause in [0, 250, 250] {
        // Longer than a head may take, shorter than idleness may last.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.expect("is kept");
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.expect("answers");
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
            "{answer}"
        );
        if pause == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn m6_http_1_1_without_host_is_400() {
    let server = start(SHORT, Duration::from_secs(1)).await;
    let answer = server.say("GET / HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains(r#"{"detail":"Invalid host header","code":"bad_request","request_id":"#)
    );
    let two = server
        .say("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        .await;
    assert!(two.starts_with("HTTP/1.1 400"), "{two}");
}

#[tokio::test]
async fn m5_http_1_0_is_answered_and_closed() {
    let server = start(LIMITS, Duration::from_secs(1)).await;
    let answer = server.say("GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}

#[tokio::test]
async fn m7_two_lengths_for_one_body_are_400_and_the_end() {
    let server = start(LIMITS, Duration::from_secs(1)).await;
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\ncontent-length: 5",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n0\r\n\r\n");
        let answer = server.say(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    }
    // Also where the head came along with the request before, and was not kept.
    let pipelined = concat!(
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    let answer = server.say(pipelined).await;
    assert!(
        answer.contains("HTTP/1.1 400") && answer.contains("connection: close"),
        "{answer}"
    );
    // Also behind a head that is nearly too long.
    let long = "x".repeat(70_000);
    let answer = server
        .say(&format!(
            "POST / HTTP/1.1\r\nHost: x\r\nA: {long}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    // A chunk that looks like a header is none.
    let chunk = "Content-Length: 5\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n13\r\n{chunk}\r\n0\r\n\r\n"
    );
    let answer = server.say(&request).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with(chunk),
        "{answer}"
    );
}

#[tokio::test]
async fn m8_differing_lengths_and_unknown_encodings_are_400() {
    let server = start(LIMITS, Duration::from_secs(1)).await;
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: xfoo\r\nTransfer-Encoding: chunked",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\nhello");
        let answer = server.say(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test]
async fn m10_two_pipelined_requests_are_answered_in_order() {
    let server = start(LIMITS, Duration::from_secs(1)).await;
    let answer = server
        .say(concat!(
            "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
        .await;
    let slow = answer.find("at last").expect("the first answer");
    let quick = answer.find("hello").expect("the second answer");
    assert!(slow < quick);
}

#[tokio::test]
async fn m4_too_long_a_url_is_414_and_too_many_headers_are_431() {
    let server = start(LIMITS, Duration::from_secs(1)).await;
    let url = "x".repeat(70_000);
    let answer = server
        .say(&format!("GET /{url} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 414"), "{answer}");
    let headers = "A: b\r\n".repeat(200);
    let answer = server
        .say(&format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = "x".repeat(300_000);
    let answer = server
        .say(&format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn e12_a_slow_head_is_cut_while_others_are_served() {
    let server = start(SHORT, Duration::from_secs(1)).await;
    let mut slow = server.connect().await;
    let began = std::time::Instant::now();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n")
        .await
        .expect("writes");
    let drip = async {
        loop {
            tokio::time::sleep(Duration::from_millis(30)).await;
            if slow.write_all(b"A: b\r\n").await.is_err() {
                break;
            }
        }
    };
    let other = server.say("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (other, ()) = tokio::join!(other, async {
        tokio::time::timeout(Duration::from_secs(5), drip)
            .await
            .expect("is cut");
    });
    assert!(other.ends_with("hello"));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let server = start(SHORT, Duration::from_secs(5)).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("writes");
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.shutdown.cancel();
    // Only the cut lets the server end well before its own limit.
    tokio::time::timeout(Duration::from_secs(3), server.served)
        .await
        .expect("does not wait for the client")
        .expect("no panic");
}

#[tokio::test]
async fn shutdown_finishes_what_is_under_way_and_takes_nothing_new() {
    let server = start(LIMITS, Duration::from_secs(5)).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    let request = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";
    busy.write_all(request).await.expect("writes");
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.shutdown.cancel();
    let answer = read_all(&mut busy).await;
    assert!(answer.ends_with("at last"), "{answer}");
    assert_eq!(read_all(&mut idle).await, "");
    tokio::time::timeout(Duration::from_secs(2), server.served)
        .await
        .expect("ends as soon as the work is done")
        .expect("no panic");
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end_within_the_limit() {
    let server = start(LIMITS, Duration::from_millis(200)).await;
    let mut stuck = server.connect().await;
    let request = b"POST /never HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    stuck.write_all(request).await.expect("writes");
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(3), server.served)
        .await
        .expect("does not wait for ever")
        .expect("no panic");
    assert_eq!(read_all(&mut stuck).await, "");
}
