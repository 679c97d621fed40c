//! A TCP proxy inside this process: clients get one address for the whole run, whatever port the server behind it has
//! after a restart, and the caller decides what the network does.
//!
//! Not here: anything that knows PostgreSQL or AMQP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What the network between the clients and the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bytes flow.
    Up,
    /// Bytes are held back in both directions and connections stay open (a partition). New connections are accepted
    /// and get no answer.
    Stalled,
    /// Open connections are closed, and new ones are accepted and closed at once.
    Down,
}

#[derive(Clone, Copy, Debug)]
struct Weather {
    link: Link,
    delay: Duration,
    /// Bytes that go on at a time.
    portion: usize,
}

/// Bytes that go on at a time where nothing limits them.
const PORTION: usize = 64 * 1024;
/// Portions of a limited connection in a second.
const PORTIONS: u32 = 20;

/// A port on loopback that leads to a server. Dropping it closes the port and all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: Arc<watch::Sender<SocketAddr>>,
    weather: Arc<watch::Sender<Weather>>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port and leads to `target`. Runs on the current tokio runtime, and only as long as that.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let target = Arc::new(watch::Sender::new(target));
        let weather = Arc::new(watch::Sender::new(Weather {
            link: Link::Up,
            delay: Duration::ZERO,
            portion: PORTION,
        }));
        let open = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(accept(
            listener,
            Arc::clone(&target),
            Arc::clone(&weather),
            Arc::clone(&open),
        ));
        Ok(Self {
            address,
            target,
            weather,
            open,
            task,
        })
    }

    /// Where clients connect; the same for as long as the proxy lives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections lead from now on.
    pub fn set_target(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Changes the network, for open connections too.
    pub fn set_link(&self, link: Link) {
        self.weather.send_modify(|weather| weather.link = link);
    }

    /// What [`set_link`](Self::set_link) said last.
    pub fn link(&self) -> Link {
        self.weather.borrow().link
    }

    /// How long each portion of at most 64 KiB is held before it goes on, in each direction: a latency, and with it a
    /// limit on the throughput of one connection. Zero at first.
    pub fn set_delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// How many bytes a second go over each connection in each direction; `None`, as at first: as many as there are.
    pub fn set_bandwidth(&self, bytes: Option<usize>) {
        self.weather.send_modify(|weather| {
            (weather.delay, weather.portion) = bytes.map_or((Duration::ZERO, PORTION), |bytes| {
                let portion = (bytes / PORTIONS as usize).clamp(1, PORTION);
                (Duration::from_secs(1) / PORTIONS, portion)
            });
        });
    }

    /// How many clients are connected now, to assert that a cut bites.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<watch::Sender<SocketAddr>>,
    weather: Arc<watch::Sender<Weather>>,
    open: Arc<AtomicUsize>,
) {
    // Dropped with this task, and then every connection is closed.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors for the moment, or a client that is gone already.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (server, weather) = (*target.borrow(), weather.subscribe());
        let counted = Counted::new(&open);
        connections.spawn(async move {
            serve(client, server, weather).await;
            drop(counted);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Counts also when its task is aborted.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(client: TcpStream, server: SocketAddr, weather: watch::Receiver<Weather>) {
    let mut until_down = weather.clone();
    tokio::select! {
        () = connect_and_pump(client, server, weather) => {}
        _ = until_down.wait_for(|weather| weather.link == Link::Down) => {}
    }
}

async fn connect_and_pump(
    client: TcpStream,
    server: SocketAddr,
    mut weather: watch::Receiver<Weather>,
) {
    // A partitioned server does not see new clients.
    if reachable(&mut weather).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    // Else a small message waits for the acknowledgement of the one before it, on a hop that has no network.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = pump(client_read, server_write, weather.clone()) => {}
        () = pump(server_read, client_write, weather) => {}
    }
}

async fn reachable(
    weather: &mut watch::Receiver<Weather>,
) -> Result<Duration, watch::error::RecvError> {
    let weather = weather
        .wait_for(|weather| weather.link != Link::Stalled)
        .await?;
    Ok(weather.delay)
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
) {
    let mut buffer = vec![0; PORTION];
    loop {
        let portion = weather.borrow().portion;
        let Ok(count @ 1..) = from.read(&mut buffer[..portion]).await else {
            // A partition also hides that the other side has gone.
            reachable(&mut weather).await.ok();
            return;
        };
        let Ok(delay) = reachable(&mut weather).await else {
            return;
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
