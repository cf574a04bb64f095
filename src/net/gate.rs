//! Holds back the bytes that a client sends at once with its CONNECT, until its socket is
//! connected.
//!
//! Socketioxide connects a socket in a task of its own, and closes the connection of an event that
//! arrives before that task has run. A client that sends both at once would be disconnected or not,
//! by chance. So the stream waits after the CONNECT until the socket exists.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use tokio::io::ReadBuf;

/// The gate of one connection. It is open unless it is armed.
#[derive(Debug, Default)]
pub struct Gate {
    is_armed: AtomicBool,
    state: Mutex<GateState>,
}

#[derive(Debug, Default)]
enum GateState {
    /// The next bytes are expected to begin with the client's first frame.
    #[default]
    BeforeConnect,
    /// The number of bytes of the CONNECT that are still to come.
    InConnect(usize),
    Held {
        rest: Vec<u8>,
        reader: Option<Waker>,
    },
    Released {
        rest: Vec<u8>,
    },
}

impl Gate {
    /// Arms the gate: from now on the client sends WebSocket frames, of which the first one
    /// connects.
    pub fn arm(&self) {
        self.is_armed.store(true, Ordering::Release);
    }

    /// Lets the rest through, because the socket is connected.
    pub fn release(&self) {
        let mut state = self.lock();
        match &mut *state {
            GateState::Held { rest, reader } => {
                let reader = reader.take();
                *state = GateState::Released { rest: std::mem::take(rest) };
                drop(state);
                if let Some(reader) = reader {
                    reader.wake();
                }
            }
            // An old client is connected without a request.
            GateState::BeforeConnect | GateState::InConnect(_) => {
                self.is_armed.store(false, Ordering::Release)
            }
            GateState::Released { .. } => {}
        }
    }

    /// Before reading: `None` if the reader need not wait, else its result.
    pub fn poll(&self, waker: &Waker, buffer: &mut ReadBuf) -> Option<Poll<()>> {
        if !self.is_armed.load(Ordering::Acquire) {
            return None;
        }
        match &mut *self.lock() {
            GateState::BeforeConnect | GateState::InConnect(_) => None,
            GateState::Held { reader, .. } => {
                *reader = Some(waker.clone());
                Some(Poll::Pending)
            }
            GateState::Released { rest } => {
                let length = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..length]);
                rest.drain(..length);
                if rest.is_empty() {
                    self.is_armed.store(false, Ordering::Release);
                }
                (length > 0).then_some(Poll::Ready(()))
            }
        }
    }

    /// After reading: takes back the bytes in `buffer` from `start` on that follow the CONNECT.
    pub fn hold_back(&self, buffer: &mut ReadBuf, start: usize) {
        if !self.is_armed.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.lock();
        let bytes = &buffer.filled()[start..];
        let connect = match &*state {
            GateState::InConnect(length) => Some(*length),
            _ => connect_frame_length(bytes),
        };
        match connect {
            Some(length) if length <= bytes.len() => {
                *state = GateState::Held { rest: bytes[length..].into(), reader: None };
                buffer.set_filled(start + length);
            }
            Some(length) => *state = GateState::InConnect(length - bytes.len()),
            None => self.is_armed.store(false, Ordering::Release),
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The length of the frame that `bytes` begin with, if it is a client's text frame that connects to
/// the main namespace (RFC 6455, section 5.2; Socket.IO protocol 5). The frame may be incomplete.
fn connect_frame_length(bytes: &[u8]) -> Option<usize> {
    const FINAL_TEXT: u8 = 0x81;
    const MASKED: u8 = 0x80;

    let (&[first, second], _) = bytes.split_first_chunk()?;
    if first != FINAL_TEXT || second & MASKED == 0 {
        return None;
    }
    let (header, payload) = match second & !MASKED {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        // No CONNECT is longer than 65,535 bytes.
        127 => return None,
        short => (2, usize::from(short)),
    };
    let mask = bytes.get(header..header + 4)?;
    let beginning = bytes[header + 4..].iter().zip(mask).map(|(byte, mask)| byte ^ mask);
    let mut text = beginning.take(payload);
    let connects =
        text.next() == Some(b'4') && text.next() == Some(b'0') && text.next() != Some(b'/');
    connects.then_some(header + 4 + payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Vec<u8> {
        let mask = [7, 77, 177, 77];
        let mut frame = vec![0x81, 0x80 | text.len() as u8];
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn filled(storage: &mut [u8], bytes: &[u8]) -> usize {
        storage[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    }

    #[test]
    fn bytes_after_the_connect_arrive_after_the_release() {
        let gate = Gate::default();
        gate.arm();
        let mut storage = [0; 256];
        let length = filled(&mut storage, &[frame("40"), frame("42[\"a\"]")].concat());
        let mut buffer = ReadBuf::new(&mut storage);
        buffer.set_filled(length);
        gate.hold_back(&mut buffer, 0);
        assert_eq!(buffer.filled(), frame("40"));

        buffer.clear();
        assert_eq!(gate.poll(Waker::noop(), &mut buffer), Some(Poll::Pending));
        gate.release();
        assert_eq!(gate.poll(Waker::noop(), &mut buffer), Some(Poll::Ready(())));
        assert_eq!(buffer.filled(), frame("42[\"a\"]"));
        assert_eq!(gate.poll(Waker::noop(), &mut buffer), None);
    }

    #[test]
    fn a_connect_that_comes_alone_holds_the_next_read() {
        let gate = Gate::default();
        gate.arm();
        let mut storage = [0; 256];
        let length = filled(&mut storage, &frame("40{\"token\":\"t\"}"));
        let mut buffer = ReadBuf::new(&mut storage);
        buffer.set_filled(length);
        gate.hold_back(&mut buffer, 0);
        assert_eq!(buffer.filled().len(), length);
        assert_eq!(gate.poll(Waker::noop(), &mut buffer), Some(Poll::Pending));
        gate.release();
        assert_eq!(gate.poll(Waker::noop(), &mut buffer), None);
    }

    #[test]
    fn a_connect_that_comes_in_pieces_is_one() {
        let gate = Gate::default();
        gate.arm();
        let connect = frame(&format!("40{{\"token\":\"{}\"}}", "t".repeat(100)));
        let bytes = [connect.clone(), frame("42[\"a\"]")].concat();
        let mut storage = [0; 256];
        let mut buffer = ReadBuf::new(&mut storage);
        buffer.put_slice(&bytes[..20]);
        gate.hold_back(&mut buffer, 0);
        assert_eq!(buffer.filled(), &bytes[..20]);
        buffer.put_slice(&bytes[20..]);
        gate.hold_back(&mut buffer, 20);
        assert_eq!(buffer.filled(), connect);
    }

    #[test]
    fn the_gate_waits_only_for_a_connect_to_the_main_namespace() {
        let unmasked = [&[0x81, 2], &b"40"[..]].concat();
        for other in [frame("2probe"), frame("40/admin,"), frame("4"), unmasked, vec![], vec![0x81]]
        {
            assert_eq!(connect_frame_length(&other), None, "{other:?}");
        }
        assert_eq!(connect_frame_length(&frame("40")), Some(8));
    }
}
