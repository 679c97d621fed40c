//! A TCP proxy inside this process: clients get one address for the whole run, whatever port the server behind it has
//! after a restart, and the caller decides what the network does.
//!
//! Not here: anything that knows PostgreSQL or AMQP.

mod trap;
mod weather;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::server::lock;

use trap::{Lost, Spotted, Trap};
pub use weather::Link;
use weather::{Direction, Weather};

/// A server that has begun to answer and then says nothing for this long has finished its answer.
const ANSWERED: Duration = Duration::from_millis(200);

/// Bytes that go on at a time where nothing limits them.
const PORTION: usize = 64 * 1024;
/// Portions of a limited connection in a second.
const PORTIONS: u32 = 20;

/// A port on loopback that leads to a server. Dropping it closes the port and all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    inside: Arc<Inside>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Inside {
    targets: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
    weather: watch::Sender<Weather>,
    open: AtomicUsize,
    trap: Trap,
    /// Portions that were to go on while some were to reset their connections, and those that did.
    portions: AtomicUsize,
    resets: AtomicUsize,
}

impl Inside {
    /// Whether this portion's turn has come to be lost, and its connection with it.
    fn resets(&self, each: usize) -> bool {
        let hit = each > 0 && self.portions.fetch_add(1, Ordering::SeqCst) % each == each - 1;
        if hit {
            self.resets.fetch_add(1, Ordering::SeqCst);
        }
        hit
    }
}

impl Proxy {
    /// Listens on a free port and leads to `target`. Runs on the current tokio runtime, and only as long as that.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let inside = Arc::new(Inside {
            targets: Mutex::new(vec![target]),
            next: AtomicUsize::new(0),
            weather: watch::Sender::new(Weather::FAIR),
            open: AtomicUsize::new(0),
            trap: Trap::default(),
            portions: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&inside)));
        Ok(Self {
            address,
            inside,
            task,
        })
    }

    /// Where clients connect; the same for as long as the proxy lives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections lead from now on.
    pub fn set_target(&self, target: SocketAddr) {
        self.set_targets(vec![target]);
    }

    /// Where new connections lead from now on: to these in turn, and past those that refuse.
    pub fn set_targets(&self, targets: Vec<SocketAddr>) {
        *lock(&self.inside.targets) = targets;
    }

    /// Changes the network, for open connections too.
    pub fn set_link(&self, link: Link) {
        self.inside.weather.send_modify(|weather| {
            weather.link = link;
            if link.ends_connections() {
                weather.cuts += 1;
                weather.was_reset = link == Link::Reset;
            }
        });
    }

    /// What [`set_link`](Self::set_link) said last.
    pub fn link(&self) -> Link {
        self.inside.weather.borrow().link
    }

    /// How long each portion of at most 64 KiB is held before it goes on, in each direction: a latency, and with it a
    /// limit on the throughput of one connection. Zero at first.
    pub fn set_delay(&self, delay: Duration) {
        self.inside
            .weather
            .send_modify(|weather| weather.delay = delay);
    }

    /// Passes everything on in pieces of at most so many bytes, each as a segment of its own.
    pub fn set_slice(&self, bytes: usize) {
        self.inside
            .weather
            .send_modify(|weather| weather.slice = bytes.max(1));
    }

    /// Resets a connection in place of every so many-th portion, whoever's it is: a bad line. 0, as at first: never.
    pub fn set_reset_each(&self, portions: usize) {
        self.inside
            .weather
            .send_modify(|weather| weather.reset_each = portions);
    }

    /// How many connections were reset so, to assert that it bites.
    pub fn resets(&self) -> usize {
        self.inside.resets.load(Ordering::SeqCst)
    }

    /// Sets a trap for the next client that sends these bytes: the server gets all of the request and answers it, and
    /// the client's connection is reset in place of the answer. It closes once; for no bytes, on any request.
    pub fn lose_answer_to(&self, request: &[u8]) {
        self.inside.trap.set(&[request], Lost::Answer);
    }

    /// The same for the next client that sends first the one and then the other on one connection.
    pub fn lose_answer_behind(&self, first: &[u8], request: &[u8]) {
        self.inside.trap.set(&[first, request], Lost::Answer);
    }

    /// As before, but the server does not get the portion that the request ends in, and the client's connection is
    /// reset at once.
    pub fn lose_request_behind(&self, first: &[u8], request: &[u8]) {
        self.inside.trap.set(&[first, request], Lost::Request);
    }

    /// How many answers or requests were lost in such a trap, to assert that it bites.
    pub fn lost_in_traps(&self) -> usize {
        self.inside.trap.sprung()
    }

    /// How many bytes a second go over each connection in each direction; `None`, as at first: as many as there are.
    pub fn set_bandwidth(&self, bytes: Option<usize>) {
        self.inside.weather.send_modify(|weather| {
            (weather.delay, weather.portion) = bytes.map_or((Duration::ZERO, PORTION), |bytes| {
                let portion = (bytes / PORTIONS as usize).clamp(1, PORTION);
                (Duration::from_secs(1) / PORTIONS, portion)
            });
        });
    }

    /// As if nothing had been done to it: what was ended stays so, and no trap is set any more.
    pub fn heal(&self) {
        self.inside.trap.clear();
        self.inside.weather.send_modify(|weather| {
            *weather = Weather {
                cuts: weather.cuts,
                was_reset: weather.was_reset,
                ..Weather::FAIR
            };
        });
    }

    /// How many clients are connected now, to assert that a cut bites.
    pub fn open_connections(&self) -> usize {
        self.inside.open.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, inside: Arc<Inside>) {
    // Dropped with this task, and then every connection is closed.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors for the moment, or a client that is gone already.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let counted = Counted::new(&inside);
        connections.spawn(async move { serve(client, &counted.0).await });
        while connections.try_join_next().is_some() {}
    }
}

/// Counts also when its task is aborted.
struct Counted(Arc<Inside>);

impl Counted {
    fn new(inside: &Arc<Inside>) -> Self {
        inside.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(inside))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(mut client: TcpStream, inside: &Inside) {
    let mut weather = inside.weather.subscribe();
    let mut until_over = weather.clone();
    let born = weather.borrow().cuts;
    let reset = tokio::select! {
        biased;
        over = until_over.wait_for(|weather| weather.ends(born)) => {
            over.is_ok_and(|weather| weather.was_reset)
        }
        reset = connect_and_pump(&mut client, inside, &mut weather) => reset,
    };
    if reset {
        // Without it a closed connection still delivers what was written before.
        client.set_zero_linger().ok();
    }
}

/// The next server in turn that does not refuse.
async fn connect(inside: &Inside) -> Option<TcpStream> {
    let targets = lock(&inside.targets).clone();
    for _ in 0..targets.len() {
        let turn = inside.next.fetch_add(1, Ordering::Relaxed) % targets.len();
        if let Ok(server) = TcpStream::connect(targets[turn]).await {
            return Some(server);
        }
    }
    None
}

/// Returns when one side is gone; true if the client's connection is to be reset.
async fn connect_and_pump(
    client: &mut TcpStream,
    inside: &Inside,
    weather: &mut watch::Receiver<Weather>,
) -> bool {
    // A partitioned server does not see new clients.
    let unseen = weather.wait_for(|weather| weather.link != Link::Stalled);
    if unseen.await.is_err() {
        return false;
    }
    let Some(mut server) = connect(inside).await else {
        return false;
    };
    // Else a small message waits for the acknowledgement of the one before it, on a hop that has no network.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return false;
    }
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let (caught, hit) = (AtomicBool::new(false), AtomicBool::new(false));
    let born = weather.borrow().cuts;
    let pump = |direction| Pump {
        direction,
        born,
        weather: weather.clone(),
        inside,
        caught: &caught,
        hit: &hit,
    };
    tokio::select! {
        () = pump(Direction::ToServer).run(client_read, server_write) => {}
        () = pump(Direction::ToClient).run(server_read, client_write) => {}
    }
    caught.load(Ordering::SeqCst) || hit.load(Ordering::SeqCst)
}

/// One direction of one connection.
struct Pump<'a> {
    direction: Direction,
    /// After how many cuts the connection began.
    born: u64,
    weather: watch::Receiver<Weather>,
    inside: &'a Inside,
    /// Whether this connection's request is in the trap.
    caught: &'a AtomicBool,
    /// Whether a bad line has reset this connection.
    hit: &'a AtomicBool,
}

impl Pump<'_> {
    async fn run(mut self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buffer = vec![0; PORTION];
        let mut spotted = Spotted::default();
        loop {
            let most = self.weather.borrow().portion;
            let Ok(count @ 1..) = from.read(&mut buffer[..most]).await else {
                // A partition also hides that the other side has gone.
                self.open().await;
                return;
            };
            if self.direction == Direction::ToServer {
                match self.inside.trap.springs(&mut spotted, &buffer[..count]) {
                    None => {}
                    Some(Lost::Answer) => self.caught.store(true, Ordering::SeqCst),
                    Some(Lost::Request) => {
                        self.caught.store(true, Ordering::SeqCst);
                        self.inside.trap.has_sprung();
                        return;
                    }
                }
            } else if self.caught.load(Ordering::SeqCst) {
                while let Ok(Ok(1..)) = tokio::time::timeout(ANSWERED, from.read(&mut buffer)).await
                {
                }
                self.inside.trap.has_sprung();
                return;
            }
            let Some(weather) = self.open().await else {
                return;
            };
            let Weather { delay, slice, .. } = weather;
            if self.inside.resets(weather.reset_each) {
                self.hit.store(true, Ordering::SeqCst);
                return;
            }
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            for piece in buffer[..count].chunks(slice) {
                if to.write_all(piece).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Waits until bytes flow this way; `None` if that will never be.
    async fn open(&mut self) -> Option<Weather> {
        let direction = self.direction;
        let flows = self.weather.wait_for(|weather| !weather.holds(direction));
        let weather = *flows.await.ok()?;
        // What was held when the line was cut is lost with it.
        (!weather.ends(self.born)).then_some(weather)
    }
}

#[cfg(test)]
mod tests;
