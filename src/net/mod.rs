//! TCP connections that can be ended from outside, and that count the bytes that they have sent.
//!
//! A slow reader must lose its *transport*: after a Socket.IO disconnect packet clients stay away,
//! after a broken connection they reconnect. Socketioxide gives no access to the transport, so the
//! server listens with connections of its own.

mod gate;
mod serve;

use std::{
    io,
    net::{IpAddr, Shutdown},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{Notify, futures::Notified},
    time::{Sleep, sleep},
};

use crate::limits::Permit;
use gate::Gate;

pub use serve::serve;

/// The time for which a peer may read nothing. Engine.IO gives up a peer that does not answer its
/// heartbeat after the same time, but its writer would go on waiting.
const WRITE_PATIENCE: Duration = Duration::from_secs(45);

/// Engine.IO's `close` packet in a client's WebSocket frame, masked with zeros.
const GOODBYE: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'1'];

/// A TCP connection, for the code that neither reads nor writes it.
#[derive(Debug)]
pub struct Connection {
    tcp: TcpStream,
    written: AtomicU64,
    /// The bytes that were written before the WebSocket began.
    written_before: AtomicU64,
    /// Wakes the tasks that wait until more is written.
    progress: Notify,
    /// Whether a task waits. A write without one costs no lock.
    is_awaited: AtomicBool,
    gate: Gate,
    /// Whether the server has stopped reading from the client.
    is_deaf: AtomicBool,
    /// The client's address, or that of a proxy.
    peer: IpAddr,
    /// Counts this connection for its address.
    _permit: Option<Permit>,
}

impl Connection {
    fn new(tcp: TcpStream, peer: IpAddr, permit: Option<Permit>) -> Self {
        Self {
            tcp,
            written: AtomicU64::new(0),
            written_before: AtomicU64::new(0),
            progress: Notify::new(),
            is_awaited: AtomicBool::new(false),
            gate: Gate::default(),
            is_deaf: AtomicBool::new(false),
            peer,
            _permit: permit,
        }
    }

    /// The address at the other end: a client's, or a proxy's.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The number of bytes of the WebSocket that the operating system has taken for sending so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst) - self.written_before.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        if self.is_awaited.load(Ordering::SeqCst) && self.is_awaited.swap(false, Ordering::SeqCst) {
            self.progress.notify_waiters();
        }
    }

    /// Resolves when more is written after this call. The caller checks its condition in between.
    pub fn progress(&self) -> Notified<'_> {
        // In this order: a write in between is not announced, but the caller looks afterwards.
        let progress = self.progress.notified();
        self.is_awaited.store(true, Ordering::SeqCst);
        progress
    }

    /// Notes the request that begins a WebSocket. A proxy may have used the connection for other
    /// requests before.
    pub fn becomes_websocket(&self) {
        self.written_before.store(self.written.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Stops reading from the client of a WebSocket, and acts as if the client said goodbye.
    /// Engine.IO then sends the waiting packets, and closes. At the end of a stream it would send
    /// nothing more.
    pub fn end_behind_what_is_sent(&self) {
        self.is_deaf.store(true, Ordering::Release);
        // Wakes the reader. An error means that the connection has ended already, which is the
        // goal.
        let _ = socket2::SockRef::from(&self.tcp).shutdown(Shutdown::Read);
    }

    /// Ends the connection at once, and discards the unsent data.
    pub fn end(&self) {
        let socket = socket2::SockRef::from(&self.tcp);
        // An error means that the connection has ended already, which is the goal.
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// Stops reading after the client's CONNECT, which comes next, until [`Self::connected`].
    pub fn awaits_connect(&self) {
        self.gate.arm();
    }

    /// Reads on, because the Socket.IO socket on this connection takes events now.
    pub fn connected(&self) {
        self.gate.release();
    }
}

/// The half of a [`Connection`] that reads and writes.
#[derive(Debug)]
pub struct Stream {
    connection: Arc<Connection>,
    /// Ends the wait for a peer that reads nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    has_said_goodbye: bool,
}

impl Stream {
    fn new(connection: Arc<Connection>) -> Self {
        Self { connection, stalled: None, has_said_goodbye: false }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(poll) = self.connection.gate.poll(cx.waker(), buffer) {
            return poll.map(Ok);
        }
        loop {
            ready!(self.connection.tcp.poll_read_ready(cx))?;
            if self.connection.is_deaf.load(Ordering::Acquire) {
                if !std::mem::replace(&mut self.has_said_goodbye, true) {
                    buffer.put_slice(&GOODBYE);
                }
                return Poll::Ready(Ok(()));
            }
            match self.connection.tcp.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    let start = buffer.filled().len();
                    buffer.advance(read);
                    self.connection.gate.hold_back(buffer, start);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Stream {
    fn poll_with(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.connection.tcp.poll_write_ready(cx)?.is_pending() {
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_PATIENCE)));
                ready!(stalled.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            match write(&self.connection.tcp) {
                Ok(written) => {
                    self.stalled = None;
                    self.connection.written.fetch_add(written as u64, Ordering::SeqCst);
                    self.connection.wake();
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |tcp| tcp.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&self.connection.tcp).shutdown(Shutdown::Write))
    }
}

/// The connection of a request, in the request's extensions. It does not keep the connection open.
#[derive(Clone, Debug)]
pub struct Via(pub Weak<Connection>);
