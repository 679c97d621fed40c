//! A line that the caller harms, and what its clients see of it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Answers each client with what it says.
async fn echo() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = client.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    Ok(address)
}

async fn says_and_hears(client: &mut TcpStream) -> std::io::Result<[u8; 4]> {
    client.write_all(b"ping").await?;
    let mut heard = [0; 4];
    client.read_exact(&mut heard).await?;
    Ok(heard)
}

/// On this runtime nothing looks at the network between two changes of it.
#[tokio::test]
async fn a_line_that_is_cut_and_mended_at_once_is_a_new_line() -> std::io::Result<()> {
    for (cut, held) in [
        (Link::Down, Link::Up),
        (Link::Down, Link::AnswersHeld),
        (Link::Reset, Link::RequestsHeld),
    ] {
        let proxy = Proxy::start(echo().await?).await?;
        let mut client = TcpStream::connect(proxy.address()).await?;
        assert_eq!(says_and_hears(&mut client).await?, *b"ping");
        proxy.set_link(held);
        client.write_all(b"lost").await?;
        proxy.set_link(cut);
        proxy.set_link(Link::Up);
        let mut heard = Vec::new();
        // In order or by a reset: it ends.
        client.read_to_end(&mut heard).await.ok();
        assert!(heard.is_empty(), "{heard:?}");
        let mut client = TcpStream::connect(proxy.address()).await?;
        assert_eq!(says_and_hears(&mut client).await?, *b"ping");
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_line_resets_one_portion_out_of_so_many() -> std::io::Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    // There and back are two portions.
    proxy.set_reset_each(6);
    let mut client = TcpStream::connect(proxy.address()).await?;
    for _ in 0..2 {
        assert_eq!(says_and_hears(&mut client).await?, *b"ping");
    }
    assert_eq!(proxy.resets(), 0);
    let lost = says_and_hears(&mut client).await;
    let lost = lost.expect_err("the sixth portion was to be lost");
    assert_eq!(lost.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.resets(), 1);
    proxy.set_reset_each(0);
    let mut client = TcpStream::connect(proxy.address()).await?;
    assert_eq!(says_and_hears(&mut client).await?, *b"ping");
    Ok(())
}

#[tokio::test]
async fn a_mended_line_loses_nothing() -> std::io::Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    proxy.set_slice(1);
    proxy.set_reset_each(1);
    proxy.lose_answer_to(b"ping");
    proxy.set_link(Link::Down);
    proxy.heal();
    for _ in 0..2 {
        let mut client = TcpStream::connect(proxy.address()).await?;
        assert_eq!(says_and_hears(&mut client).await?, *b"ping");
    }
    assert_eq!((proxy.resets(), proxy.lost_in_traps()), (0, 0));
    Ok(())
}
