//! The encoding of answers: server events, and the answers to callbacks.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::Refusal;

/// The payload of an event that clients receive. Name and payload stand together, so they cannot
/// drift apart.
pub trait ServerEvent: Serialize {
    const NAME: &'static str;

    fn encode(&self) -> EncodedEvent {
        EncodedEvent { event: Self::NAME, payload: encode(self) }
    }
}

/// A server event, encoded once for any number of receivers.
#[derive(Clone, Debug)]
pub struct EncodedEvent {
    pub event: &'static str,
    pub payload: Box<RawValue>,
}

/// The answer to an accepted event that carried a callback: `{ ok: true, … }`.
#[derive(Serialize)]
pub struct Accepted<T> {
    ok: bool,
    #[serde(flatten)]
    fields: T,
}

impl<T: Serialize> Accepted<T> {
    pub fn encode(fields: T) -> Box<RawValue> {
        encode(&Self { ok: true, fields })
    }
}

impl Accepted<()> {
    /// `{ ok: true }`.
    pub fn plain() -> Box<RawValue> {
        RawValue::from_string(r#"{"ok":true}"#.into()).expect("this is JSON")
    }
}

/// A refusal as clients see it: the payload of `error`, and the answer to a callback.
pub struct Refused<'a> {
    refusal: &'a Refusal,
    message: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorEvent<'a> {
    code: &'static str,
    message: &'a str,
    /// The event that was refused; `null` if the server is about to end the connection.
    event: Option<&'a str>,
    /// Present only with `rate_limited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl ServerEvent for ErrorEvent<'_> {
    const NAME: &'static str = "error";
}

#[derive(Serialize)]
struct RefusedAck<'a> {
    ok: bool,
    error: AckError<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AckError<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl<'a> Refused<'a> {
    pub fn new(refusal: &'a Refusal) -> Self {
        Self { refusal, message: refusal.message() }
    }

    /// The `error` event about `event`, or about the socket itself.
    pub fn event(&self, event: Option<&str>) -> EncodedEvent {
        ErrorEvent {
            code: self.refusal.code(),
            message: &self.message,
            event,
            retry_after_ms: self.refusal.retry_after_ms(),
        }
        .encode()
    }

    pub fn ack(&self) -> Box<RawValue> {
        let error = AckError {
            code: self.refusal.code(),
            message: &self.message,
            retry_after_ms: self.refusal.retry_after_ms(),
        };
        encode(&RefusedAck { ok: false, error })
    }
}

/// The JSON of a value of the contract.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("wire types have string keys and times within the calendar")
}
