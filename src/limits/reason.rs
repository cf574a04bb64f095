//! Why the server ends a connection or takes none: the text in the log and the metric label.

/// Why the server ends the connection of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    NotJson,
    /// The rate limit refused events for longer than anybody needs to understand.
    Flood,
    /// More events at once than may wait.
    TooManyEvents,
    TokenExpired,
    NotAuthenticated,
    TooManySockets,
    /// The client does not take what it is sent.
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

/// Why the server takes no connection.
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
