//! TCP connections that can be ended from outside, and that count what they have sent.
//!
//! A reader that does not keep up must lose its *transport*: after a Socket.IO disconnect packet
//! clients stay away, after a broken connection they come back. Socketioxide gives no access to
//! it, so the server listens with connections of its own.

mod gate;

use std::{
    io,
    net::{Shutdown, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener as AxumListener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};

use gate::Gate;

/// How long a peer may take nothing of what it is sent. Engine.IO gives up a peer that does not
/// answer its heartbeat after as long, but its writer would go on waiting.
const WRITE_PATIENCE: Duration = Duration::from_secs(45);

/// A TCP connection, as those see it who do not read or write it.
#[derive(Debug)]
pub struct Connection {
    tcp: TcpStream,
    written: AtomicU64,
    /// What was written before the WebSocket began.
    written_before: AtomicU64,
    gate: Gate,
}

impl Connection {
    /// How many bytes of the WebSocket the operating system has taken for sending so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed) - self.written_before.load(Ordering::Relaxed)
    }

    /// The request that begins a WebSocket has come. A proxy may have used the connection for
    /// others before.
    pub fn becomes_websocket(&self) {
        self.written_before.store(self.written.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Ends the connection at once; what was not sent is thrown away.
    pub fn end(&self) {
        let socket = socket2::SockRef::from(&self.tcp);
        // A connection that has ended already is as ended as it should be.
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// From the client's CONNECT, which comes next, until [`Self::connected`], nothing more is
    /// read.
    pub fn awaits_connect(&self) {
        self.gate.arm();
    }

    /// The Socket.IO socket on this connection takes events.
    pub fn connected(&self) {
        self.gate.release();
    }
}

/// The half of a [`Connection`] that reads and writes.
#[derive(Debug)]
pub struct Stream {
    connection: Arc<Connection>,
    /// Ends the wait for a peer that takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(poll) = self.connection.gate.poll(cx.waker(), buffer) {
            return poll.map(Ok);
        }
        loop {
            ready!(self.connection.tcp.poll_read_ready(cx))?;
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
                    self.connection.written.fetch_add(written as u64, Ordering::Relaxed);
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

/// Accepts TCP connections as [`Stream`]s until it is told to stop. Those that stand go on.
pub struct Listener<S> {
    /// `None` once it has stopped.
    listener: Option<TcpListener>,
    address: SocketAddr,
    stop: Pin<Box<S>>,
}

impl<S: Future<Output = ()> + Send + 'static> Listener<S> {
    pub fn new(listener: TcpListener, stop: S) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener: Some(listener), address, stop: Box::pin(stop) })
    }
}

impl<S: Future<Output = ()> + Send + 'static> AxumListener for Listener<S> {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            let accepted = tokio::select! {
                accepted = AxumListener::accept(listener) => Some(accepted),
                () = &mut self.stop => None,
            };
            if let Some((tcp, peer)) = accepted {
                // Chat messages are small and each is wanted at once. A peer that is gone already
                // will show when it is read.
                let _ = tcp.set_nodelay(true);
                let connection = Connection {
                    tcp,
                    written: AtomicU64::new(0),
                    written_before: AtomicU64::new(0),
                    gate: Gate::default(),
                };
                return (Stream { connection: Arc::new(connection), stalled: None }, peer);
            }
            self.listener = None;
        }
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The connection on which a request came, in the request's extensions. It does not keep the
/// connection open.
#[derive(Clone, Debug)]
pub struct Via(pub Weak<Connection>);

impl<S: Future<Output = ()> + Send + 'static> Connected<IncomingStream<'_, Listener<S>>> for Via {
    fn connect_info(stream: IncomingStream<'_, Listener<S>>) -> Self {
        Self(Arc::downgrade(&stream.io().connection))
    }
}
