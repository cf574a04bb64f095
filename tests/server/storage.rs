//! The rules for every storage: one check for each rule, each on every engine.

use std::sync::Arc;

use radio_istic::{
    config::{Config, Settings},
    contract::conversations::HISTORY_PAGE,
    model::{
        Conversation, Id, Kind, Message, MessageId, MessageType, Page, PageLimit, SentKey, Summary,
        Time, Window,
    },
    storage::{Found, Lookup, Storage, Write},
};

use crate::mongo::Shared;

/// Runs each check on each engine, as a test of its own.
macro_rules! checks {
    ($($check:ident),* $(,)?) => {
        $(
            mod $check {
                use super::*;

                #[tokio::test(flavor = "multi_thread")]
                async fn on_sqlite() {
                    let directory = tempfile::tempdir().unwrap();
                    let path = directory.path().join("chat.db").to_str().unwrap().to_owned();
                    super::$check(open(None, path).await).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn in_memory() {
                    super::$check(open(None, ":memory:".into()).await).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                #[cfg_attr(not(mongodb), ignore = "needs MongoDB or Python 3")]
                async fn on_mongodb() {
                    let shared = Shared::new().await;
                    super::$check(open(Some(shared.uri), ":memory:".into()).await).await;
                }
            }
        )*
    };
}

checks! {
    a_batch_is_stored_in_its_order_also_within_one_millisecond,
    pages_stand_next_to_their_cursor,
    only_existing_entries_are_found,
    a_retry_is_found_by_its_key,
    messages_of_others_are_unread_until_they_are_marked,
    marking_resets_the_unread_count,
    a_batch_is_stored_as_a_whole_or_not_at_all,
    an_open_room_counts_nothing_and_lists_its_participants_in_their_order,
    a_list_continues_after_a_conversation_of_the_user,
    participants_are_told_up_to_a_limit,
}

async fn a_batch_is_stored_in_its_order_also_within_one_millisecond(db: Db) {
    let (_, messages) = db.two_people_talk().await;
    assert_eq!(messages.map(|message| message.timestamp).iter().max(), Some(&NOW));
    assert_eq!(db.contents(Window::Newest, HISTORY_PAGE).await, (texts(&["1", "2", "3"]), false));
}

async fn pages_stand_next_to_their_cursor(db: Db) {
    let (_, messages) = db.two_people_talk().await;
    let page = async |window, limit| db.contents(window, PageLimit::new(limit)).await;
    assert_eq!(page(Window::Newest, 2).await, (texts(&["2", "3"]), true));
    assert_eq!(page(Window::Before(messages[2].id), 1).await, (texts(&["2"]), true));
    assert_eq!(page(Window::Before(messages[1].id), 5).await, (texts(&["1"]), false));
    assert_eq!(page(Window::After(messages[0].id), 5).await, (texts(&["2", "3"]), false));
    assert_eq!(page(Window::After(messages[0].id), 1).await, (texts(&["2"]), true));
}

async fn only_existing_entries_are_found(mut db: Db) {
    let (two, messages) = db.two_people_talk().await;
    let unknown = db.message("c1", "alice", "never stored");
    let found = db
        .find(Lookup {
            conversations: [id("c1"), id("c2")].into(),
            messages: [
                (id("c1"), messages[0].id),
                (id("c2"), messages[0].id),
                (id("c1"), unknown.id),
            ]
            .into(),
            ..Lookup::default()
        })
        .await;
    assert!(found.is_everything);
    assert_eq!(found.conversations, [(id("c1"), two)].into());
    assert_eq!(found.messages, [(id("c1"), messages[0].id)].into());
}

async fn a_retry_is_found_by_its_key(db: Db) {
    let (_, messages) = db.two_people_talk().await;
    let key = |client_message_id: &str| SentKey {
        conversation: id("c1"),
        sender: id("alice"),
        client_message_id: id(client_message_id),
    };
    let sent = [key("2"), key("never stored")].into();
    let found = db.find(Lookup { sent, ..Lookup::default() }).await;
    assert_eq!(found.sent.keys().collect::<Vec<_>>(), [&key("2")]);
    assert_eq!(found.sent[&key("2")].id, messages[1].id);
}

async fn messages_of_others_are_unread_until_they_are_marked(db: Db) {
    let (_, messages) = db.two_people_talk().await;
    let ids = messages.each_ref().map(|message| message.id);
    assert_eq!(db.unread_by("bob", &[ids[1]]).await, [ids[1]]);
    assert_eq!(db.unread_by("alice", &ids).await, []);
    assert_eq!(db.all_unread_by("alice").await, []);
    assert_eq!(db.all_unread_by("bob").await, ids);

    db.mark("bob", &[ids[1]], false).await;
    assert_eq!(db.unread_by("bob", &ids).await, [ids[0], ids[2]]);
    assert_eq!(db.all_unread_by("bob").await, [ids[0], ids[2]]);
    db.mark("bob", &[ids[0], ids[1], ids[2]], true).await;
    assert_eq!(db.all_unread_by("bob").await, []);
    let page = db.history(Window::Newest, HISTORY_PAGE).await;
    assert!(page.entries.iter().all(|message| message.read_by == [id("bob")]));
}

async fn marking_resets_the_unread_count(db: Db) {
    let (_, messages) = db.two_people_talk().await;
    let unread =
        async |user| db.list(user, None, HISTORY_PAGE).await.unwrap().entries[0].unread_count;
    assert_eq!((unread("alice").await, unread("bob").await), (0, 3));
    db.mark("bob", &[messages[1].id], false).await;
    assert_eq!(unread("bob").await, 0);
}

async fn a_batch_is_stored_as_a_whole_or_not_at_all(mut db: Db) {
    let (two, messages) = db.two_people_talk().await;
    let fourth = db.message("c1", "bob", "4");
    let audience = two.clone();
    let first = Write::Message { message: messages[0].clone(), audience };
    let refused = db.write(vec![send(fourth, &two), first]).await;
    assert!(refused.is_err());
    assert_eq!(db.contents(Window::Newest, HISTORY_PAGE).await, (texts(&["1", "2", "3"]), false));
}

async fn an_open_room_counts_nothing_and_lists_its_participants_in_their_order(mut db: Db) {
    db.a_room_opens().await;
    let page = db.list("bob", None, PageLimit::new(1)).await.unwrap();
    let room = &page.entries[0];
    assert_eq!((&room.id, room.kind, room.unread_count), (&id("room"), Kind::Open, 0));
    let participants: Vec<_> = room.participants.iter().map(|user| user.id.as_str()).collect();
    assert_eq!(participants, ["carol", "bob", "alice"]);
}

async fn a_list_continues_after_a_conversation_of_the_user(mut db: Db) {
    let (_, messages) = db.two_people_talk().await;
    db.a_room_opens().await;
    let first = db.list("bob", None, PageLimit::new(1)).await.unwrap();
    assert_eq!((first.entries[0].id.as_str(), first.has_more), ("room", true));
    let second = db.list("bob", Some("room"), HISTORY_PAGE).await.unwrap();
    assert_eq!(second.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["c1"]);
    assert_eq!(second.entries[0].last_message.as_ref().unwrap().id, messages[2].id);
    assert!(db.list("bob", Some("c9"), HISTORY_PAGE).await.is_none());
}

async fn participants_are_told_up_to_a_limit(mut db: Db) {
    db.a_room_opens().await;
    let told = async |conversation: &str, limit| {
        let told = db.storage.participants_of(id(conversation), limit).await.unwrap();
        told.iter().map(|user| user.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told("room", 1_000).await, ["carol", "bob", "alice"]);
    assert_eq!(told("room", 2).await, ["carol", "bob"]);
    assert!(told("nowhere", 10).await.is_empty());
}

const NOW: Time = Time(1_762_857_000_000);

/// A storage, and the ids of the messages that were made for it.
struct Db {
    storage: Arc<Storage>,
    last: Option<MessageId>,
}

async fn open(mongodb_uri: Option<String>, sqlite_path: String) -> Db {
    let settings = Settings { mongodb_uri, sqlite_path: Some(sqlite_path), ..Settings::default() };
    let config = Config::new(&settings).await.unwrap();
    let opening = tokio::task::spawn_blocking(move || Storage::open(&config.storage));
    Db { storage: Arc::new(opening.await.unwrap().unwrap()), last: None }
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn send(message: Message, audience: &Conversation) -> Write {
    Write::Message { message: Arc::new(message), audience: audience.clone() }
}

impl Db {
    /// A message that is not stored yet. All have the same millisecond.
    fn message(&mut self, conversation: &str, sender: &str, content: &str) -> Message {
        let message_id = MessageId::following(self.last, NOW, [1, 2, 3, 4, 5]);
        self.last = Some(message_id);
        Message {
            id: message_id,
            conversation_id: id(conversation),
            content: content.into(),
            sender_id: id(sender),
            sender_name: sender.into(),
            sender_avatar: None,
            timestamp: NOW,
            r#type: MessageType::Text,
            read_by: Vec::new(),
            client_message_id: Some(id(content)),
        }
    }

    /// Three messages of Alice's to Bob, in `c1`, stored as one batch.
    async fn two_people_talk(&self) -> (Conversation, [Arc<Message>; 3]) {
        let mut made = Db { storage: self.storage.clone(), last: None };
        let participants = vec![id("alice"), id("bob")];
        let two = Conversation::new(Kind::Direct, participants.clone());
        let messages = ["1", "2", "3"].map(|text| Arc::new(made.message("c1", "alice", text)));
        let mut batch =
            vec![Write::Conversation { id: id("c1"), kind: Kind::Direct, participants }];
        batch.extend(
            messages
                .iter()
                .map(|message| Write::Message { message: message.clone(), audience: two.clone() }),
        );
        self.write(batch).await.unwrap();
        (two, messages)
    }

    /// Carol opens `room`, Bob and Alice join it.
    async fn a_room_opens(&mut self) {
        let kind = Kind::Open;
        let room = Conversation::new(kind, [id("carol")]);
        // The ids come after the messages of `two_people_talk`.
        for _ in 0..3 {
            self.message("room", "carol", "made for its id");
        }
        let message = self.message("room", "carol", "5");
        self.write(vec![
            Write::Conversation { id: id("room"), kind, participants: vec![id("carol")] },
            send(message, &room),
            Write::Participants { conversation: id("room"), users: vec![id("bob"), id("alice")] },
        ])
        .await
        .unwrap();
    }

    async fn write(&self, writes: Vec<Write>) -> anyhow::Result<()> {
        let storage = self.storage.clone();
        tokio::task::spawn_blocking(move || storage.write(&writes)).await.unwrap()
    }

    async fn find(&self, lookup: Lookup) -> Found {
        let storage = self.storage.clone();
        tokio::task::spawn_blocking(move || storage.find(&lookup)).await.unwrap().unwrap()
    }

    async fn unread_by(&self, reader: &str, ids: &[MessageId]) -> Vec<MessageId> {
        let unread = [((id("c1"), id(reader)), ids.iter().copied().collect())].into();
        let mut found = self.find(Lookup { unread, ..Lookup::default() }).await;
        found.unread.get_mut(&(id("c1"), id(reader))).unwrap().take_all()
    }

    async fn all_unread_by(&self, reader: &str) -> Vec<MessageId> {
        let all_unread = [(id("c1"), id(reader))].into();
        let mut found = self.find(Lookup { all_unread, ..Lookup::default() }).await;
        found.unread.get_mut(&(id("c1"), id(reader))).unwrap().take_all()
    }

    async fn mark(&self, reader: &str, messages: &[MessageId], is_all: bool) {
        let (conversation, reader) = (id("c1"), id(reader));
        let at = Time(NOW.0 + 1_000);
        let messages = messages.to_vec();
        let write = Write::Receipts { conversation, reader, messages, is_all, at };
        self.write(vec![write]).await.unwrap();
    }

    async fn history(&self, window: Window, limit: PageLimit) -> Page<Message> {
        self.storage.history(id("c1"), window, limit).await.unwrap()
    }

    async fn contents(&self, window: Window, limit: PageLimit) -> (Vec<String>, bool) {
        let page = self.history(window, limit).await;
        (page.entries.iter().map(|message| message.content.to_string()).collect(), page.has_more)
    }

    async fn list(
        &self,
        user: &str,
        before: Option<&str>,
        limit: PageLimit,
    ) -> Option<Page<Summary>> {
        self.storage.conversations_of(id(user), before.map(id), limit, 20).await.unwrap()
    }
}
