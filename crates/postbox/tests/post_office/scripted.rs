//! The relay against a broker that plays tricks by the script.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use postbox::{BrokerConfig, NewMessage};

use crate::eventually::{eventually, stays};
use crate::office::{Office, PARKED, SENT, UNSENT, letter};
use crate::peer::{Act, Message, Peer};

/// Confirms are given up after this time.
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(500);
const COUNTED: &str = "select count(*) from outbox_messages where attempts > 0";

fn ack(message: &Message) -> Vec<Act> {
    let message = message.clone();
    vec![Act::Ack {
        message,
        multiple: false,
    }]
}

/// An office whose broker is the peer.
async fn open(peer: &Peer) -> Result<Office> {
    let mut office = Office::open().await?;
    office.broker = peer.broker();
    office.config.confirm_timeout = CONFIRM_TIMEOUT;
    office.start_relay();
    Ok(office)
}

/// Letters that can be told from each other, stored and handed over.
async fn send(office: &Office, kind: &'static str, bodies: &[&str]) -> Result<()> {
    let letters = bodies.iter().map(|body| NewMessage {
        body: (*body).to_owned(),
        ..letter(kind)
    });
    let rows = office.append(letters.collect()).await?;
    office.outbox.hand_over(rows);
    Ok(())
}

fn numbers(count: usize) -> Vec<String> {
    (1..=count).map(|n| n.to_string()).collect()
}

fn texts(numbers: &[String]) -> Vec<&str> {
    numbers.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn a_return_before_one_ack_for_all_is_matched_by_its_message() -> Result<()> {
    let mut round: Vec<Message> = Vec::new();
    let peer = Peer::start(move |message| {
        round.push(message.clone());
        match round.len() {
            ..20 => Vec::new(),
            20 => {
                let (message, multiple) = (message.clone(), true);
                vec![
                    Act::Return(round[6].clone()),
                    Act::Ack { message, multiple },
                ]
            }
            // Tried again later, and then it arrives.
            _ => ack(message),
        }
    })
    .await?;
    let office = open(&peer).await?;
    send(&office, "letter", &texts(&numbers(20))).await?;
    office.eventually_count(COUNTED, 1).await?;
    let marked: Vec<String> = sqlx::query_scalar(
        "select body from outbox_messages where not is_published or attempts > 0",
    )
    .fetch_all(&office.pool)
    .await?;
    ensure!(marked == ["7"], "not marked, and counted: {marked:?}");
    office.eventually_count(SENT, 20).await?;
    ensure!(peer.times("7") == 2 && peer.seen().len() == 21);
    Ok(())
}

#[tokio::test]
async fn what_was_confirmed_before_the_silence_is_marked_and_the_rest_sent_again() -> Result<()> {
    let peer = Peer::start(|message| match (message.connection, message.tag) {
        (1, 4) => vec![Act::Ack {
            message: message.clone(),
            multiple: true,
        }],
        (1, _) => Vec::new(),
        _ => ack(message),
    })
    .await?;
    let office = open(&peer).await?;
    send(&office, "letter", &texts(&numbers(10))).await?;
    office.eventually_count(SENT, 10).await?;
    for n in 1..=10 {
        let times = peer.times(&n.to_string());
        ensure!(
            times == if n <= 4 { 1 } else { 2 },
            "{n} was sent {times} times"
        );
    }
    ensure!(
        office.count(COUNTED).await? == 0,
        "silence counts as nobody's attempt"
    );
    Ok(())
}

#[tokio::test]
async fn the_message_that_makes_the_broker_hang_up_is_parked_and_the_others_leave() -> Result<()> {
    let peer = Peer::start(|message| match message.body.as_str() {
        "13" => vec![Act::Close(501, "FRAME_ERROR - it is too large")],
        // It closes before it confirms what came with it.
        _ if message.tag < 20 && message.connection == 1 => Vec::new(),
        _ => ack(message),
    })
    .await?;
    let office = open(&peer).await?;
    send(&office, "letter", &texts(&numbers(100))).await?;
    office.eventually_count(SENT, 99).await?;
    office.eventually_count(PARKED, 1).await?;
    ensure!(
        office.count(UNSENT).await? == 0,
        "the parked one has left the outbox"
    );
    let (queue, reason, detail, body): (String, String, String, Vec<u8>) =
        sqlx::query_as("select queue, reason, detail, body from parked_messages")
            .fetch_one(&office.pool)
            .await?;
    ensure!((queue.as_str(), reason.as_str()) == ("letters", "attempts"));
    ensure!(body == b"13");
    ensure!(detail.contains("FRAME_ERROR - it is too large"), "{detail}");
    ensure!(
        office.count(COUNTED).await? == 0,
        "an innocent one was blamed"
    );
    // By halves, then three times alone.
    ensure!(peer.times("13") <= 11, "sent {} times", peer.times("13"));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_written_as_a_message_is_parked_without_losing_the_connection() -> Result<()>
{
    let peer = Peer::start(ack).await?;
    let office = open(&peer).await?;
    let free = "alter table outbox_messages drop constraint outbox_messages_request_id_check";
    sqlx::query(free).execute(&office.pool).await?;
    let bodies = numbers(20);
    let letters = bodies.iter().enumerate().map(|(n, body)| NewMessage {
        body: body.clone(),
        request_id: (n == 7).then(|| "x".repeat(140_000)),
        ..letter("letter")
    });
    let mut rows = office.append(letters.collect()).await?;
    rows[3].kind = "k".repeat(300);
    office.outbox.hand_over(rows);
    office.eventually_count(SENT, 18).await?;
    office.eventually_count(PARKED, 2).await?;
    ensure!(office.count(UNSENT).await? == 0);
    ensure!(
        peer.seen().iter().all(|seen| seen.connection == 1),
        "it was connected anew"
    );
    Ok(())
}

#[tokio::test]
async fn nobody_is_blamed_for_a_connection_that_is_cut_or_closed_by_an_operator() -> Result<()> {
    let peer = Peer::start(|message| match message.connection {
        1..=4 => vec![Act::Cut],
        5..=8 => vec![Act::Close(320, "CONNECTION_FORCED - by an operator")],
        _ => ack(message),
    })
    .await?;
    let office = open(&peer).await?;
    send(&office, "letter", &["1"]).await?;
    office.eventually_count(SENT, 1).await?;
    ensure!(office.count(PARKED).await? == 0, "parked");
    ensure!(office.count(COUNTED).await? == 0, "counted");
    ensure!(peer.times("1") == 9);
    Ok(())
}

#[tokio::test]
async fn a_blocked_connection_is_waited_for_and_nothing_is_sent_or_counted() -> Result<()> {
    let peer = Peer::start(|message| match message.body.as_str() {
        "1" => vec![Act::Block("low on memory")],
        _ => ack(message),
    })
    .await?;
    let office = open(&peer).await?;
    send(&office, "letter", &["1"]).await?;
    let red = async || {
        let status = office.relay.check();
        let names = status
            .as_ref()
            .is_err_and(|text| text.contains("low on memory"));
        ensure!(names, "it says {status:?}");
        Ok(())
    };
    eventually("the alarm is shown", red).await?;
    send(&office, "letter", &["2", "3"]).await?;
    stays("it waits", CONFIRM_TIMEOUT * 4, async || {
        red().await?;
        ensure!(peer.seen().len() == 1, "{:?}", peer.seen());
        Ok(())
    })
    .await?;
    peer.act(Act::Unblock)?;
    office
        .eventually_count(
            "select count(*) from outbox_messages where is_published and body <> '1'",
            2,
        )
        .await?;
    // The first is still not confirmed: now silence counts again.
    eventually("it is sent again", async || {
        ensure!(peer.times("1") > 1);
        Ok(())
    })
    .await?;
    ensure!(office.count(COUNTED).await? == 0);
    Ok(())
}

#[tokio::test]
async fn what_nobody_takes_waits_longer_each_time_and_lets_new_ones_pass() -> Result<()> {
    let peer = Peer::start(|message| match message.kind.as_str() {
        "nowhere" => [vec![Act::Return(message.clone())], ack(message)].concat(),
        _ => ack(message),
    })
    .await?;
    let office = open(&peer).await?;
    send(&office, "nowhere", &texts(&numbers(600))).await?;
    office.eventually_count(COUNTED, 600).await?;
    send(&office, "letter", &["new"]).await?;
    office.eventually_count(SENT, 1).await?;
    let thrice = "select count(*) from outbox_messages where attempts >= 3";
    office.eventually_count(thrice, 600).await?;
    let (seen, bodies) = (
        peer.seen(),
        BTreeSet::from_iter(peer.seen().into_iter().map(|m| m.body)),
    );
    ensure!(bodies.len() == 601);
    ensure!(
        seen.len() <= 601 + 3 * 600,
        "{} sends are a hot loop",
        seen.len()
    );
    ensure!(seen.iter().all(|seen| seen.connection == 1));
    Ok(())
}

#[tokio::test]
async fn after_a_lost_session_comes_the_next_address_and_a_silent_one_has_a_deadline() -> Result<()>
{
    // Takes connections, as a paused broker does, and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let sick = Peer::start(|_| vec![Act::Cut]).await?;
    let well = Peer::start(ack).await?;
    let mut office = Office::open().await?;
    office.broker = BrokerConfig {
        host: format!(
            "{},{},{}",
            sick.broker().host,
            silent.local_addr()?,
            well.broker().host
        ),
        ..sick.broker()
    };
    office.start_relay();
    send(&office, "letter", &["1"]).await?;
    office.eventually_count(SENT, 1).await?;
    ensure!(sick.times("1") == 1 && well.times("1") == 1);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_holds_bindings_back_is_sent_to_all_the_same() -> Result<()> {
    let peer = Peer::start(ack).await?;
    peer.hold_bindings();
    let office = open(&peer).await?;
    send(&office, "letter", &texts(&numbers(10))).await?;
    office.eventually_count(SENT, 10).await
}
