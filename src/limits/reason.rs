//! The reasons to end or to refuse a connection: the text in the log and the metric label.

/// The reason why the server ends the connection of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    NotJson,
    /// The socket stayed over the rate limit for longer than a client needs to react.
    Flood,
    /// More events wait than may wait at once.
    TooManyEvents,
    TokenExpired,
    NotAuthenticated,
    TooManySockets,
    /// The client does not read its packets.
    UnsentBytes,
    UnsentPackets,
}

impl Disconnect {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "a packet that is not JSON",
            Self::Flood => "too many events for too long",
            Self::TooManyEvents => "too many events at once",
            Self::TokenExpired => "the token has run out",
            Self::NotAuthenticated => "not authenticated in time",
            Self::TooManySockets => "the user has too many sockets",
            Self::UnsentBytes => "slow reader: too many bytes unsent",
            Self::UnsentPackets => "slow reader: too many packets unsent",
        }
    }
}

/// The reason why the server refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    ForeignOrigin,
    ConnectionRate,
    OpenConnections,
}

impl Reject {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ForeignOrigin => "foreign origin",
            Self::ConnectionRate => "too many connections at once from this address",
            Self::OpenConnections => "too many open connections from this address",
        }
    }
}
