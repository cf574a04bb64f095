//! The server from outside: real sockets, a real file, real processes.

mod conversations;
mod crash;
mod http;
mod javascript;
mod mongodb;
mod order;
mod poller;
mod process;
mod slow_reader;
mod support;
mod transports;
