//! The stages of a message, each measured alone: `cargo bench --bench micro`.

use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use radio_istic::{
    contract::{
        Incoming, ServerEvent, conversations::HISTORY_PAGE, encode, messages::ReceiveMessage,
    },
    events::ClientEvent,
    model::{Conversation, Id, Kind, Message, MessageId, MessageType, Time, Window},
    storage::{Place, Sqlite, Storage, Write},
};

const EVENT: &str = r#"["send-message",{"conversationId":"pair-7","recipientId":"user-15","message":"A message of a usual length, as people write them when they chat.","clientMessageId":"0f8fad5b-d9cb-469f-a165-70867728950e"}]"#;

fn main() {
    divan::main();
}

fn message(number: u32) -> Message {
    let mut id = [0; 12];
    id[8..].copy_from_slice(&number.to_be_bytes());
    Message {
        id: MessageId::from(id),
        conversation_id: format!("pair-{}", number % 50).parse().expect("an id"),
        content: "A message of a usual length, as people write them when they chat.".into(),
        sender_id: "user-14".parse().expect("an id"),
        sender_name: "user-14".into(),
        sender_avatar: None,
        timestamp: Time(1_700_000_000_000 + i64::from(number)),
        r#type: MessageType::Text,
        read_by: Vec::new(),
        client_message_id: None,
    }
}

/// A file beside the build, with conversations.
fn file() -> (Sqlite, tempfile::TempDir) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let sqlite = Sqlite::open(&directory.path().join("chat.db")).expect("a file");
    let begin = (0..50).map(|number| Write::Conversation {
        id: message(number).conversation_id,
        kind: Kind::Direct,
        participants: ["user-14", "user-15"].map(|user| user.parse().expect("an id")).into(),
    });
    sqlite.write(&begin.collect::<Vec<_>>()).expect("written");
    (sqlite, directory)
}

fn writes(numbers: std::ops::Range<u32>) -> Vec<Write> {
    let participants = ["user-14", "user-15"].map(|user| user.parse::<Id>().expect("an id"));
    let audience = Conversation::new(Kind::Direct, participants);
    numbers
        .map(|number| Write::Message {
            message: Arc::new(message(number)),
            audience: audience.clone(),
        })
        .collect()
}

#[divan::bench]
fn decode() -> ClientEvent {
    let incoming: Incoming = serde_json::from_str(divan::black_box(EVENT)).expect("a packet");
    ClientEvent::decode(&incoming).expect("an event")
}

#[divan::bench]
fn encode_for_a_room(bencher: Bencher) {
    let message = message(1);
    bencher.bench(|| ReceiveMessage(&encode(divan::black_box(&message))).encode());
}

#[divan::bench(args = [1, 10, 50, 100, 500], sample_count = 50)]
fn write_batch(bencher: Bencher, size: u32) {
    let (sqlite, _directory) = file();
    let mut next = 1;
    bencher
        .counter(ItemsCount::new(size))
        .with_inputs(|| {
            next += size;
            writes(next - size..next)
        })
        .bench_local_refs(|writes| sqlite.write(writes).expect("written"));
}

#[divan::bench]
fn read_and_encode_a_page(bencher: Bencher) {
    let (sqlite, directory) = file();
    sqlite.write(&writes(1..10_000)).expect("written");
    drop(sqlite);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let place = Place::Sqlite(directory.path().join("chat.db"));
    let storage = Arc::new(Storage::open(&place).expect("a file"));
    let id = message(7).conversation_id;
    bencher.bench(|| {
        let reading = storage.history(id.clone(), Window::Newest, HISTORY_PAGE);
        encode(&runtime.block_on(reading).expect("read").entries)
    });
}
