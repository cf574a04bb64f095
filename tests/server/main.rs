//! The server from outside: real sockets, a real file, real processes.

mod browser;
mod conversations;
mod crash;
mod demo;
mod deploy;
mod files;
mod fuzz;
mod hostile;
mod http;
mod javascript;
mod limits;
mod logs;
mod mongo;
mod order;
mod outbox;
mod poller;
mod process;
mod record;
mod replay;
mod script;
mod shared_database;
mod slow_reader;
mod storage;
mod support;
mod tokens;
mod transports;
