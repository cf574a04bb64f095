//! What the server relies on, whatever it stores in: one test, every storage.

use std::{collections::HashSet, sync::Arc};

use radio_istic::{
    config::{Config, Settings},
    contract::{HISTORY_PAGE, Id, Message, MessageId, MessageType, PageLimit, Time},
    storage::{Conversation, Lookup, SentKey, Storage, Window, Write, Written},
};

use crate::mongo::Shared;

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn between(is_open: bool, participants: &[&str]) -> Conversation {
    let participants: HashSet<Id> = participants.iter().map(|user| id(user)).collect();
    Conversation { is_open, participants: Arc::new(participants) }
}

struct Writer {
    last: Option<MessageId>,
}

impl Writer {
    fn message(&mut self, conversation: &str, sender: &str, content: &str) -> Message {
        let time = Time(1_762_857_000_000);
        let message_id = MessageId::following(self.last, time, [1, 2, 3, 4, 5]);
        self.last = Some(message_id);
        Message {
            id: message_id,
            conversation_id: id(conversation),
            content: content.into(),
            sender_id: id(sender),
            sender_name: sender.into(),
            sender_avatar: None,
            timestamp: time,
            r#type: MessageType::Text,
            read_by: Vec::new(),
            client_message_id: Some(id(content)),
        }
    }
}

async fn holds(storage: Storage) {
    let storage = Arc::new(storage);
    let write = async |writes: Vec<Write>| {
        let storage = storage.clone();
        tokio::task::spawn_blocking(move || storage.write(&writes)).await.unwrap()
    };
    let find = async |lookup: Lookup| {
        let storage = storage.clone();
        tokio::task::spawn_blocking(move || storage.find(&lookup)).await.unwrap().unwrap()
    };
    let contents = async |window, limit| {
        let page = storage.history(id("c1"), window, limit).await.unwrap();
        let contents: Vec<_> =
            page.entries.iter().map(|message| message.content.to_string()).collect();
        (contents, page.has_more)
    };
    let mut writer = Writer { last: None };
    let two = between(false, &["alice", "bob"]);
    let messages: Vec<_> =
        ["1", "2", "3"].map(|content| Arc::new(writer.message("c1", "alice", content))).into();
    let send = |message: &Arc<Message>| Write::Message {
        message: message.clone(),
        conversation: two.clone(),
    };

    // A batch is stored in its order, also within one millisecond.
    let mut batch = vec![Write::Conversation {
        id: id("c1"),
        is_open: false,
        participants: vec![id("alice"), id("bob")],
    }];
    batch.extend(messages.iter().map(send));
    assert_eq!(write(batch).await.unwrap(), [const { Written::Stored }; 4]);
    let all = ["1", "2", "3"].map(String::from).to_vec();
    assert_eq!(contents(Window::Newest, HISTORY_PAGE).await, (all.clone(), false));
    assert_eq!(contents(Window::Newest, PageLimit::new(2)).await, (all[1..].to_vec(), true));
    assert_eq!(
        contents(Window::Before(messages[2].id), PageLimit::new(1)).await,
        (all[1..2].to_vec(), true)
    );
    assert_eq!(
        contents(Window::After(messages[0].id), PageLimit::new(5)).await,
        (all[1..].to_vec(), false)
    );

    // What exists is found, and nothing else.
    let key = |content: &str| SentKey {
        conversation: id("c1"),
        sender: id("alice"),
        client_message_id: id(content),
    };
    let unknown = writer.message("c1", "alice", "never stored");
    let found = find(Lookup {
        conversations: [id("c1"), id("c2")].into(),
        sent: [key("2"), key("never stored")].into(),
        messages: [(id("c1"), messages[0].id), (id("c2"), messages[0].id), (id("c1"), unknown.id)]
            .into(),
    })
    .await;
    assert!(found.is_everything);
    assert_eq!(found.conversations.keys().collect::<Vec<_>>(), [&id("c1")]);
    assert_eq!(found.conversations[&id("c1")].participants, two.participants);
    assert_eq!(found.sent.keys().collect::<Vec<_>>(), [&key("2")]);
    assert_eq!(found.sent[&key("2")].id, messages[1].id);
    assert_eq!(found.messages, [(id("c1"), messages[0].id)].into());

    // Receipts are of others' messages, once, and reset the count.
    let unread = async |user: &str| {
        let page = storage.conversations_of(id(user), None, HISTORY_PAGE).await.unwrap().unwrap();
        page.entries[0].unread_count
    };
    assert_eq!((unread("alice").await, unread("bob").await), (0, 3));
    let read = |reader: &str, messages: Option<Vec<MessageId>>| {
        vec![Write::Receipts {
            conversation: id("c1"),
            reader: id(reader),
            messages,
            at: Time(1_762_857_001_000),
        }]
    };
    let newly = |index: &[usize]| {
        vec![Written::NewlyRead(index.iter().map(|index| messages[*index].id).collect())]
    };
    assert_eq!(write(read("bob", Some(vec![messages[1].id]))).await.unwrap(), newly(&[1]));
    assert_eq!(write(read("bob", Some(vec![messages[1].id]))).await.unwrap(), newly(&[]));
    assert_eq!(write(read("alice", None)).await.unwrap(), newly(&[]));
    assert_eq!(write(read("bob", None)).await.unwrap(), newly(&[0, 2]));
    assert_eq!(unread("bob").await, 0);
    let page = storage.history(id("c1"), Window::Newest, HISTORY_PAGE).await.unwrap();
    assert!(page.entries.iter().all(|message| message.read_by == [id("bob")]));

    // A batch is stored as a whole or not at all.
    let fourth = Arc::new(writer.message("c1", "bob", "4"));
    assert!(write(vec![send(&fourth), send(&messages[0])]).await.is_err());
    assert_eq!(contents(Window::Newest, HISTORY_PAGE).await, (all, false));

    // Open rooms keep no counts; their participants stand in the order in which they came.
    let room = between(true, &["carol"]);
    write(vec![
        Write::Conversation { id: id("room"), is_open: true, participants: vec![id("carol")] },
        Write::Message {
            message: Arc::new(writer.message("room", "carol", "5")),
            conversation: room,
        },
        Write::Participants { conversation: id("room"), users: vec![id("bob"), id("alice")] },
    ])
    .await
    .unwrap();
    let page = storage.conversations_of(id("bob"), None, PageLimit::new(1)).await.unwrap().unwrap();
    assert!(page.has_more);
    let room = &page.entries[0];
    assert_eq!((&room.id, room.is_open, room.unread_count), (&id("room"), true, 0));
    let participants: Vec<_> = room.participants.iter().map(|user| user.id.as_str()).collect();
    assert_eq!(participants, ["carol", "bob", "alice"]);
    let page =
        storage.conversations_of(id("bob"), Some(id("room")), HISTORY_PAGE).await.unwrap().unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["c1"]);
    assert_eq!(page.entries[0].last_message.as_ref().unwrap().id, messages[2].id);
    assert!(
        storage.conversations_of(id("bob"), Some(id("c9")), HISTORY_PAGE).await.unwrap().is_none()
    );
}

async fn open(settings: Settings) -> Storage {
    let config = Config::new(&settings).await.unwrap();
    tokio::task::spawn_blocking(move || Storage::open(&config.storage)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_holds_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chat.db").to_str().unwrap().to_owned();
    holds(open(Settings { sqlite_path: Some(path), ..Settings::default() }).await).await;
    holds(open(Settings { sqlite_path: Some(":memory:".into()), ..Settings::default() }).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_holds_the_contract() {
    let Some(shared) = Shared::new().await else { return };
    let settings = Settings {
        mongodb_uri: Some(shared.uri),
        sqlite_path: Some(":memory:".into()),
        ..Settings::default()
    };
    holds(open(settings).await).await;
}
