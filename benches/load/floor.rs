//! The limits of this machine: socketioxide that only relays events, and the disk alone.

use std::{
    io::{Seek, SeekFrom, Write},
    time::{Duration, Instant},
};

use anyhow::Result;
use axum::Router;
use serde_json::{Value, json};
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
    handler::ConnectHandler,
};

use crate::server::directory;

/// Serves on `PORT`: events have the same receivers as on the other servers, and nothing is stored.
pub fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (layer, io) = SocketIo::builder().max_buffer_size(8_192).build_layer();
        // The listeners must exist before the client knows of its connection: else its first event
        // may be lost.
        let nothing = async |_: SocketRef| {};
        io.ns(
            "/",
            nothing.with(async |socket: SocketRef| {
                listen(&socket);
                Ok::<_, std::convert::Infallible>(())
            }),
        );
        let port: u16 = std::env::var("PORT")?.parse()?;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let listener = axum::serve::ListenerExt::tap_io(listener, |tcp| {
            let _ = tcp.set_nodelay(true);
        });
        axum::serve(listener, Router::new().layer(layer)).await?;
        Ok(())
    })
}

fn listen(socket: &SocketRef) {
    socket.on("authenticate", async |socket: SocketRef, Data::<Value>(user), ack: AckSender| {
        if let Some(id) = user["id"].as_str() {
            socket.join(format!("user:{id}"));
        }
        let _ = ack.send(&json!({ "ok": true }));
    });
    socket.on(
        "join-conversation",
        async |socket: SocketRef, Data::<Value>(join), ack: AckSender| {
            socket.join(text(&join, "conversationId"));
            let _ = ack.send(&json!({ "ok": true, "messages": [] }));
        },
    );
    socket.on(
        "send-message",
        async |socket: SocketRef, Data::<Value>(mut message), ack: AckSender| {
            message["id"] = "000000000000000000000000".into();
            message["content"] = message["message"].take();
            let _ = socket.emit("message-sent", &message);
            let room = text(&message, "conversationId");
            let user = format!("user:{}", text(&message, "recipientId"));
            let _ = socket.within(room).within(user).emit("receive-message", &message).await;
            let _ = ack.send(&json!({ "ok": true }));
        },
    );
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// The number of pages that the disk syncs per second.
pub fn syncs_per_second() -> Result<f64> {
    const MEASURED: Duration = Duration::from_secs(2);

    let directory = directory()?;
    let mut file = std::fs::File::create(directory.path().join("sync"))?;
    file.write_all(&[0; 4_096])?;
    file.sync_all()?;
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < MEASURED {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[1; 4_096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}
