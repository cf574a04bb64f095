//! A minimal Socket.IO client: it builds frames once, and searches packets without parsing them.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::Server;

/// A client's WebSocket frame.
pub struct Frame(Vec<u8>);

impl Frame {
    /// Masked with zeros, as a client's frame must be masked.
    fn text(text: &str) -> Self {
        let mut frame = vec![0x81];
        match text.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).expect("a short text").to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        Self(frame)
    }

    pub fn event(name: &str, payload: &Value) -> Self {
        Self::text(&format!("42{}", json!([name, payload])))
    }
}

pub struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
    to_send: Vec<u8>,
}

impl Socket {
    pub async fn connect(server: &Server) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, received: Vec::new(), to_send: Vec::new() };
        let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
            Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.stream.write_all(request.as_bytes()).await?;
        let end = loop {
            socket.read().await?;
            if let Some(at) = socket.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
        };
        socket.received.drain(..end);
        socket.queue(&Frame::text("40"));
        socket.flush().await?;
        socket.wait_for("40").await?;
        Ok(socket)
    }

    /// A socket that is authenticated as the user of this number.
    pub async fn user(server: &Server, number: usize) -> Result<Self> {
        let mut socket = Self::connect(server).await?;
        socket.authenticate(number).await?;
        Ok(socket)
    }

    pub async fn authenticate(&mut self, number: usize) -> Result<()> {
        let id = format!("user-{number}");
        self.ask("authenticate", &json!({ "id": id, "name": id })).await.map(drop)
    }

    /// Emits an event with a callback, and returns the packet of the answer.
    pub async fn ask_packet(&mut self, event: &str, payload: &Value) -> Result<Vec<u8>> {
        self.queue(&Frame::text(&format!("420{}", json!([event, payload]))));
        self.flush().await?;
        self.wait_for("430").await
    }

    /// Emits an event with a callback, and returns the answer.
    pub async fn ask(&mut self, event: &str, payload: &Value) -> Result<Value> {
        let answer = self.ask_packet(event, payload).await?;
        let arguments: Vec<Value> = serde_json::from_slice(&answer[3..])?;
        arguments.into_iter().next().context("an empty answer")
    }

    pub fn queue(&mut self, frame: &Frame) {
        self.to_send.extend(&frame.0);
    }

    pub async fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.to_send).await?;
        self.to_send.clear();
        Ok(())
    }

    /// Waits for data, and passes each complete packet to `show`.
    pub async fn receive(&mut self, show: impl FnMut(&[u8])) -> Result<()> {
        self.read().await?;
        self.take_frames(show);
        self.flush().await
    }

    async fn wait_for(&mut self, start: &str) -> Result<Vec<u8>> {
        loop {
            let mut found = None;
            self.take_frames(|text| {
                if text.starts_with(start.as_bytes()) {
                    found.get_or_insert_with(|| text.to_vec());
                }
            });
            self.flush().await?;
            match found {
                Some(found) => return Ok(found),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.received).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }

    /// Passes each complete packet to `show`, and answers heartbeats.
    fn take_frames(&mut self, mut show: impl FnMut(&[u8])) {
        let mut taken = 0;
        while let Some((text, end)) = frame(&self.received[taken..]) {
            match text {
                b"2" => self.to_send.extend(Frame::text("3").0),
                text => show(text),
            }
            taken += end;
        }
        self.received.drain(..taken);
    }
}

/// The payload of the server's frame at the start of `bytes`, and the index of its end.
fn frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (header, length) = match bytes.get(1)? {
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
        short => (2, (*short).into()),
    };
    Some((bytes.get(header..header + length)?, header + length))
}
