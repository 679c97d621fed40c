//! A broker that does what a test tells it: as much of AMQP 0-9-1 as a relay needs, frame by
//! frame, and an answer of the test's own to each message.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use postbox::BrokerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// A message as it was published.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    channel: u16,
    /// Its number on its channel, from 1: what a confirm names.
    pub(crate) tag: u64,
    /// Which connection since the start, from 1.
    pub(crate) connection: usize,
    pub(crate) kind: String,
    pub(crate) body: String,
    header: Vec<u8>,
}

/// What the peer does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Confirms up to this message, if `multiple`, or this one.
    Ack {
        message: Message,
        multiple: bool,
    },
    /// Gives a message back as unroutable.
    Return(Message),
    /// `connection.close`.
    Close(u16, &'static str),
    /// Hangs up without a word.
    Cut,
    Block(&'static str),
    Unblock,
}

type Script = Box<dyn FnMut(&Message) -> Vec<Act> + Send>;

/// The listening peer; it ends with the test's runtime.
pub(crate) struct Peer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
    acts: broadcast::Sender<Act>,
    holds_bindings: Arc<AtomicBool>,
}

impl Peer {
    /// `script` is asked for an answer to each message.
    pub(crate) async fn start(
        script: impl FnMut(&Message) -> Vec<Act> + Send + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let peer = Self {
            address: listener.local_addr()?,
            seen: Arc::default(),
            acts: broadcast::channel(16).0,
            holds_bindings: Arc::default(),
        };
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let (seen, acts) = (Arc::clone(&peer.seen), peer.acts.clone());
        let holds_bindings = Arc::clone(&peer.holds_bindings);
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                let mut talk = Talk {
                    stream,
                    connection,
                    tags: vec![0; 64],
                    script: Arc::clone(&script),
                    seen: Arc::clone(&seen),
                    holds_bindings: Arc::clone(&holds_bindings),
                };
                let acts = acts.subscribe();
                tokio::spawn(async move { talk.run(acts).await });
            }
        });
        Ok(peer)
    }

    pub(crate) fn broker(&self) -> BrokerConfig {
        BrokerConfig {
            host: self.address.to_string(),
            ..BrokerConfig::default()
        }
    }

    /// From now on no binding is answered, as by a cluster that waits for a silent node.
    pub(crate) fn hold_bindings(&self) {
        self.holds_bindings.store(true, Ordering::Relaxed);
    }

    /// Every message that was published, over all connections.
    pub(crate) fn seen(&self) -> Vec<Message> {
        lock(&self.seen).clone()
    }

    /// How often a body was published.
    pub(crate) fn times(&self, body: &str) -> usize {
        lock(&self.seen)
            .iter()
            .filter(|seen| seen.body == body)
            .count()
    }

    /// Does something unasked, on every connection.
    pub(crate) fn act(&self, act: Act) -> Result<()> {
        self.acts.send(act).context("nobody is connected")?;
        Ok(())
    }
}

struct Talk {
    stream: TcpStream,
    connection: usize,
    /// Messages so far, by channel.
    tags: Vec<u64>,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Message>>>,
    holds_bindings: Arc<AtomicBool>,
}

impl Talk {
    async fn run(&mut self, mut acts: broadcast::Receiver<Act>) -> Result<()> {
        let mut greeting = [0; 8];
        self.stream.read_exact(&mut greeting).await?;
        ensure!(&greeting == b"AMQP\x00\x00\x09\x01");
        // Version 0.9, no properties, mechanisms, locales.
        let mut start = vec![0, 9, 0, 0, 0, 0];
        start.extend(long_text("PLAIN"));
        start.extend(long_text("en_US"));
        self.method(0, (10, 10), &start).await?;
        let mut open: Option<Message> = None;
        let mut buffer = Vec::new();
        loop {
            let (frame, channel, payload) = tokio::select! {
                frame = next_frame(&mut self.stream, &mut buffer) => frame?,
                act = acts.recv() => {
                    self.act(act?).await?;
                    continue;
                }
            };
            let mut whole = None;
            match frame {
                1 => {
                    let (class, method) = (number(&payload[0..2]), number(&payload[2..4]));
                    if (class, method) == (60, 40) {
                        let (exchange, rest) = short_text(&payload[6..])?;
                        ensure!(!exchange.is_empty());
                        open = Some(Message {
                            channel,
                            tag: 0,
                            connection: self.connection,
                            kind: short_text(rest)?.0,
                            body: String::new(),
                            header: Vec::new(),
                        });
                    } else {
                        self.answer(channel, (class, method), &payload[4..]).await?;
                    }
                }
                2 => {
                    let message = open.as_mut().context("a header without a method")?;
                    message.header = payload.clone();
                    if payload[4..12] == [0; 8] {
                        whole = open.take();
                    }
                }
                3 => {
                    let mut message = open.take().context("a body without a header")?;
                    message.body = String::from_utf8(payload)?;
                    whole = Some(message);
                }
                _ => {}
            }
            if let Some(mut message) = whole {
                let tag = &mut self.tags[usize::from(channel)];
                *tag += 1;
                message.tag = *tag;
                lock(&self.seen).push(message.clone());
                let acts = lock(&self.script)(&message);
                for act in acts {
                    self.act(act).await?;
                }
            }
        }
    }

    async fn answer(&mut self, channel: u16, method: (u64, u64), arguments: &[u8]) -> Result<()> {
        let (reply, arguments): ((u16, u16), Vec<u8>) = match method {
            // Channels, bytes of a frame, no heartbeat.
            (10, 11) => (
                (10, 30),
                [&[0, 63][..], &131_072_u32.to_be_bytes(), &[0, 0]].concat(),
            ),
            (10, 40) => ((10, 41), vec![0]),
            (10, 50) => ((10, 51), vec![]),
            (20, 10) => ((20, 11), vec![0; 4]),
            (20, 40) => ((20, 41), vec![]),
            (40, 10) => ((40, 11), vec![]),
            (50, 10) => {
                let name = short_text(&arguments[2..])?.0;
                let length = u8::try_from(name.len())?;
                ((50, 11), [&[length], name.as_bytes(), &[0; 8]].concat())
            }
            (50, 20) if self.holds_bindings.load(Ordering::Relaxed) => return Ok(()),
            (50, 20) => ((50, 21), vec![]),
            (85, 10) => ((85, 11), vec![]),
            _ => return Ok(()),
        };
        self.method(channel, reply, &arguments).await
    }

    async fn act(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Ack { message, multiple } => {
                let arguments = [&message.tag.to_be_bytes()[..], &[u8::from(multiple)]].concat();
                self.method(message.channel, (60, 80), &arguments).await
            }
            Act::Return(message) => {
                let mut arguments = 312_u16.to_be_bytes().to_vec();
                for text in ["NO_ROUTE", "office", &message.kind] {
                    arguments.push(u8::try_from(text.len())?);
                    arguments.extend(text.as_bytes());
                }
                self.method(message.channel, (60, 50), &arguments).await?;
                self.frame(2, message.channel, &message.header).await?;
                self.frame(3, message.channel, message.body.as_bytes())
                    .await
            }
            Act::Close(code, text) => {
                let mut arguments = code.to_be_bytes().to_vec();
                arguments.push(u8::try_from(text.len())?);
                arguments.extend(text.as_bytes());
                arguments.extend([0; 4]);
                self.method(0, (10, 50), &arguments).await
            }
            Act::Cut => anyhow::bail!("cut"),
            Act::Block(reason) => {
                let arguments = [&[u8::try_from(reason.len())?], reason.as_bytes()].concat();
                self.method(0, (10, 60), &arguments).await
            }
            Act::Unblock => self.method(0, (10, 61), &[]).await,
        }
    }

    async fn method(&mut self, channel: u16, id: (u16, u16), arguments: &[u8]) -> Result<()> {
        let payload = [&id.0.to_be_bytes()[..], &id.1.to_be_bytes(), arguments].concat();
        self.frame(1, channel, &payload).await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?;
        let frame = [
            &[kind][..],
            &channel.to_be_bytes(),
            &length.to_be_bytes(),
            payload,
            &[0xCE],
        ]
        .concat();
        Ok(self.stream.write_all(&frame).await?)
    }
}

/// The next whole frame; what is read of a later one stays in `buffer`, so it may be dropped.
async fn next_frame(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(u8, u16, Vec<u8>)> {
    loop {
        if buffer.len() >= 8 {
            let end = 8 + usize::try_from(number(&buffer[3..7]))?;
            if buffer.len() >= end {
                let frame: Vec<u8> = buffer.drain(..end).collect();
                ensure!(frame[end - 1] == 0xCE, "not the end of a frame");
                let channel = u16::from_be_bytes([frame[1], frame[2]]);
                return Ok((frame[0], channel, frame[7..end - 1].to_vec()));
            }
        }
        ensure!(stream.read_buf(buffer).await? > 0, "the client hung up");
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn short_text(bytes: &[u8]) -> Result<(String, &[u8])> {
    let (length, rest) = bytes.split_first().context("no text")?;
    let (text, rest) = rest.split_at(usize::from(*length));
    Ok((String::from_utf8(text.to_vec())?, rest))
}

fn long_text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
