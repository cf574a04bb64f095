//! The demo page, in a real browser.

use std::{path::Path, process::Command};

use fantoccini::key::Key;
use radio_istic::{
    client::Client,
    config::{Config, Settings},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, MutexGuard},
};

use crate::{
    browser::{Browser, DESKTOP, PHONE, Screen},
    javascript::node,
    process::{BINARY, Process},
    support::{Server, history, package, within},
};

/// Browsers are large, so these tests run one after the other.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// The page of a user.
async fn page(url: &str, user: &str, screen: Screen) -> Browser {
    let browser = Browser::start(screen).await;
    browser.open(&address(url, user)).await;
    browser.sees("#state", "online").await;
    browser
}

fn address(url: &str, user: &str) -> String {
    let name: String = user[..1].to_uppercase() + &user[1..];
    format!("{url}/?user={user}&name={name}")
}

/// The settings of a server with the default rate limit.
fn limited() -> Settings {
    Settings { rate_limit: Some("20/s,burst=40".into()), ..Settings::default() }
}

/// Writes `count` messages; the server would disconnect a client that never reads.
async fn fill_the_lobby(client: &mut Client, count: u32, text: impl Fn(u32) -> String) {
    for number in 1..=count {
        let message = json!({ "conversationId": "lobby", "message": text(number) });
        if number % 20 == 0 || number == count {
            within(client.ask("send-message", message)).await.unwrap();
        } else {
            client.emit("send-message", message).await.unwrap();
        }
    }
}

/// The texts of the visible messages.
const CONTENTS: &str =
    "return [...document.querySelectorAll('.content')].map((content) => content.innerText);";

async fn no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn a_new_user_chooses_a_name_and_chats() {
    let _turn = alone().await;
    let server = Server::start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&server.url).await;
    // The keyboard is enough: the name has the focus, the arrows choose a face.
    browser.sees("#welcome", "What is your name?").await;
    let active = browser.page.active_element().await.unwrap();
    active.send_keys("Zoë").await.unwrap();
    for key in [Key::Tab, Key::Right, Key::Enter] {
        browser.press(key).await;
    }
    browser.sees("#state", "online").await;
    browser.sees("#title", "Lobby").await;
    assert_eq!(browser.focused().await, "text");
    browser.sees("#nobody", "Nobody else is here yet").await;
    browser.say("Hello, lobby").await;
    browser.sees(".own .content", "Hello, lobby").await;
    browser.sees(".entry .last", "You: Hello, lobby").await;

    // The message is still there after a reload, and the page asks nothing again.
    browser.page.refresh().await.unwrap();
    browser.sees("#me", "Zoë").await;
    browser.sees(".own .content", "Hello, lobby").await;
    let avatar = browser.run("return document.querySelector('#me img').getAttribute('src');").await;
    assert_eq!(avatar, "/demo/avatars/cat.svg");
    no_complaints(&browser).await;
    browser.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn the_welcome_form_fits_a_low_window_and_old_messages_are_not_new() {
    let _turn = alone().await;
    let server = Server::start().await;
    let mut bob = server.user("bob").await;
    let message = json!({ "conversationId": "lobby", "message": "Long ago" });
    bob.ask("send-message", message).await.unwrap();
    let browser = Browser::start(PHONE).await;
    for (width, height) in [(640, 320), (360, 340)] {
        browser.set_screen(Screen { width, height, is_dark: false }).await;
        browser.open(&server.url).await;
        let reach = "const button = document.querySelector('#welcome button');
            button.scrollIntoView();
            return button.getBoundingClientRect().bottom <= innerHeight;";
        browser.sees("#welcome", "Choose a face").await;
        assert_eq!(browser.run(reach).await, true, "{width} x {height}");
    }
    browser.write("#name", "Ada").await;
    browser.find("#welcome button").await.click().await.unwrap();
    browser.sees("#conversations .entry .last", "bob: Long ago").await;
    browser.sees_no(".count").await;
    // After a reload they are still not new; later messages are.
    browser.page.refresh().await.unwrap();
    browser.sees("#conversations .entry .last", "bob: Long ago").await;
    browser.sees_no(".count").await;
    let message = json!({ "conversationId": "lobby", "message": "Just now" });
    bob.ask("send-message", message).await.unwrap();
    browser.sees(".count", "1").await;
    browser.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn two_people_talk() {
    let _turn = alone().await;
    let server = Server::start().await;
    let alice = page(&server.url, "alice", DESKTOP).await;
    let bob = page(&server.url, "bob", DESKTOP).await;

    // Alice writes to Bob, who has another conversation open: delivered, and counted.
    alice.click("#people .entry", "Bob").await;
    alice.sees("#title", "Bob").await;
    alice.sees("#subtitle", "online").await;
    alice.say("Hi Bob").await;
    alice.sees(".own", "Hi Bob").await;
    alice
        .wait(
            "delivered",
            "return Boolean(document.querySelector('.own .tick.delivered'));",
            vec![],
        )
        .await;
    bob.sees("#conversations .entry .count", "1").await;
    bob.sees("#conversations .entry .last", "Hi Bob").await;
    bob.wait("the title", "return document.title === '(1) radio-istic';", vec![]).await;

    // Bob reads the message.
    bob.click("#conversations .entry", "Alice").await;
    bob.sees(".message .content", "Hi Bob").await;
    bob.sees_no(".count").await;
    alice
        .wait(
            "read",
            "return Boolean(document.querySelector('.own .tick.read[aria-label=Read]'));",
            vec![],
        )
        .await;

    // Bob types, and stops when he has sent the message.
    bob.write("#text", "I am wri").await;
    alice.sees("#typing", "Bob is typing").await;
    bob.say("ting\u{e008}\u{e007}\u{e000}to you").await;
    alice.sees(".other .content", "I am writing\nto you").await;
    alice
        .wait(
            "the end of typing",
            "return document.querySelector('#typing').innerText === '';",
            vec![],
        )
        .await;
    // Screen readers announce the message.
    alice.wait("the announcement", "return document.querySelector('#announcer').textContent.includes('Bob: I am writing');", vec![]).await;

    // Text that looks like HTML stays text; addresses are links.
    bob.say("<img src=x onerror=alert(1)> https://example.com/a?b=c.").await;
    alice.sees(".other .content", "<img src=x onerror=alert(1)> https://example.com/a?b=c.").await;
    let link = alice
        .run("return [...document.querySelectorAll('.content a')].map((a) => [a.href, a.rel]);")
        .await;
    assert_eq!(link, json!([["https://example.com/a?b=c", "noopener noreferrer nofollow"]]));
    bob.say("(see HTTPS://example.org/wiki/Rust_(language))").await;
    alice.sees(".content a", "HTTPS://example.org/wiki/Rust_(language)").await;
    alice.sees_no(".content a[href$='))']").await;
    assert_eq!(alice.run("return document.querySelectorAll('.content img').length;").await, 0);

    // The focus stays in the text after a click on Send.
    bob.write("#text", "By hand").await;
    bob.find("#send").await.click().await.unwrap();
    alice.sees(".other .content", "By hand").await;
    assert_eq!(bob.focused().await, "text");

    // A reload keeps the history and the place.
    bob.page.refresh().await.unwrap();
    bob.sees("#title", "Alice").await;
    bob.sees(".message .content", "Hi Bob").await;
    bob.sees(".own .content", "I am writing\nto you").await;

    // Bob leaves.
    bob.stop().await;
    alice.sees("#subtitle", "offline").await;
    no_complaints(&alice).await;
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn both_come_back_after_a_restart_and_nothing_is_lost_or_doubled() {
    let _turn = alone().await;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    let url = server.url.clone();
    let alice = page(&url, "alice", DESKTOP).await;
    let bob = page(&url, "bob", DESKTOP).await;
    alice.say("Before").await;
    bob.sees(".content", "Before").await;

    server.kill();
    alice.sees("#banner", "The connection is lost").await;
    // Presence is unknown now.
    alice.sees_no("#people .entry").await;
    alice.say("Meanwhile").await;
    alice.sees("#conversations .last", "Waiting: Meanwhile").await;
    alice.sees(".own .content", "Meanwhile").await;
    alice
        .wait("waiting", "return Boolean(document.querySelector('.own .tick.waiting'));", vec![])
        .await;
    let server = Process::start_at(directory.path(), url.rsplit(':').next().unwrap());
    for page in [&alice, &bob] {
        page.sees(".content", "Meanwhile").await;
        page.sees("#state", "online").await;
        page.sees_no("#banner").await;
        assert_eq!(page.run(CONTENTS).await, json!(["Before", "Meanwhile"]));
    }
    alice.wait("sent", "return !document.querySelector('.own .tick.waiting');", vec![]).await;
    alice.stop().await;
    bob.stop().await;
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn older_messages_come_without_a_jump_and_new_ones_are_marked() {
    let _turn = alone().await;
    let server = Server::start().await;
    let alice = Browser::start(DESKTOP).await;
    let mut bob = server.user("bob").await;
    fill_the_lobby(&mut bob, 240, |number| format!("Number {number}")).await;
    alice.open(&address(&server.url, "alice")).await;
    alice.sees(".content", "Number 240").await;
    let count = "return document.querySelectorAll('.message').length;";
    assert_eq!(alice.run(count).await, 100);

    // A new user has missed nothing.
    alice.sees_no(".count").await;
    alice.sees_no(".new").await;

    // The read message keeps its place on the screen while older messages come in above it. Only
    // the name above the first one goes, because it is not the first one of its sender any more.
    let top = "const { top } = [...document.querySelectorAll('.content')]
        .find((content) => content.innerText === 'Number 141').getBoundingClientRect();
        return Math.round(top);";
    alice.run("document.querySelector('#scroller').scrollTop = 40;").await;
    let before = alice.run(top).await.as_f64().unwrap();
    alice.sees(".content", "Number 91").await;
    let after = alice.run(top).await.as_f64().unwrap();
    assert!((before - after).abs() <= 2.0, "{before} became {after}");
    for _ in 0..3 {
        alice.run("document.querySelector('#scroller').scrollTop = 0;").await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    alice
        .wait(
            "all of them",
            &format!(
                "document.querySelector('#scroller').scrollTop = 0; {}",
                count.replace(';', " === 240;")
            ),
            vec![],
        )
        .await;

    // New messages are counted and marked, and one button leads to them.
    let message = json!({ "conversationId": "lobby", "message": "News" });
    bob.ask("send-message", message).await.unwrap();
    alice
        .wait(
            "one new message",
            "return document.querySelector('#jump').innerText === '1 new ↓';",
            vec![],
        )
        .await;
    alice.sees(".new", "New messages").await;
    alice.click("#jump", "1 new").await;
    alice.sees_no("#jump").await;
    bob.event("messages-read").await.unwrap();
    no_complaints(&alice).await;
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn missed_messages_leave_no_gap() {
    let _turn = alone().await;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    let (url, port) = (server.url.clone(), server.url.rsplit(':').next().unwrap().to_owned());
    let alice = page(&url, "alice", DESKTOP).await;
    alice.say("Before").await;
    alice.wait("sent", "return Boolean(document.querySelector('.own .tick.sent'));", vec![]).await;
    server.kill();
    alice.sees("#banner", "The connection is lost").await;
    alice.say("Mine").await;

    // Bob writes more than a page of history while Alice has no connection.
    let server = Process::start(directory.path());
    let mut bob = Client::connect(&server.url).await.unwrap();
    for number in 1..=180 {
        let message = json!({ "conversationId": "lobby", "senderId": "bob", "message": format!("Missed {number}") });
        assert_eq!(bob.ask("send-message", message).await.unwrap()["ok"], true);
    }
    server.stop();
    let server = Process::start_at(directory.path(), &port);
    alice.sees_no("#banner").await;
    let missed = (1..=180).map(|number| format!("Missed {number}"));
    let expected: Vec<_> =
        ["Before".to_owned()].into_iter().chain(missed).chain(["Mine".to_owned()]).collect();
    alice
        .wait("all of them", "return document.querySelectorAll('.content').length === 182;", vec![])
        .await;
    assert_eq!(alice.run(CONTENTS).await, json!(expected));
    alice.sees(".new", "New messages").await;
    alice.stop().await;
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn a_client_that_missed_many_messages_continues_with_the_newest() {
    let _turn = alone().await;
    let server = Server::start().await;
    let (url, port) = (server.url.clone(), server.url.rsplit(':').next().unwrap().to_owned());
    let alice = page(&url, "alice", DESKTOP).await;
    alice.say("Before").await;
    alice.wait("sent", "return Boolean(document.querySelector('.own .tick.sent'));", vec![]).await;
    let directory = server.stop().await;
    alice.sees("#banner", "The connection is lost").await;
    let server = Server::start_in(directory).await;
    let mut bob = server.user("bob").await;
    fill_the_lobby(&mut bob, 1_100, |number| format!("Missed {number}.")).await;
    let directory = server.stop().await;
    let server = Process::start_at(directory.path(), &port);
    alice.sees(".content", "Missed 1100.").await;
    alice.sees_no("#banner").await;
    let few = "return document.querySelectorAll('.message').length === 100;";
    alice.wait("the newest page", few, vec![]).await;
    alice.sees(".new", "New messages").await;
    server.kill();

    // The messages of an empty server replace the old ones.
    let empty = tempfile::tempdir().unwrap();
    let server = Process::start_at(empty.path(), &port);
    alice.sees("#empty", "Nobody has said anything yet").await;
    let mut bob = Client::connect(&server.url).await.unwrap();
    let message = json!({ "conversationId": "lobby", "senderId": "bob", "message": "Anew" });
    bob.ask("send-message", message).await.unwrap();
    alice.sees(".content", "Anew").await;
    assert_eq!(alice.run(CONTENTS).await, json!(["Anew"]));
    alice.sees_no("#notice").await;
    alice.stop().await;
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn a_message_waits_for_the_storage_and_holds_the_later_ones() {
    let _turn = alone().await;
    let server = Server::start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&server.url).await;
    browser.sees("#welcome", "Choose a face").await;
    // The page's own modules run against a server whose storage is away once.
    let script = "const done = arguments[0];
        const sent = [];
        const answer = (message) => {
          sent.push([message, Math.round((performance.now() - began) / 1_000)]);
          if (sent.length > 1) return { ok: true };
          return { ok: false, error: { code: 'storage_unavailable', message: '' } };
        };
        const emit = (event, { message }, answered) => setTimeout(() => answered(null, answer(message)));
        window.io = () => ({ id: 'a', connected: true, on() {}, timeout: () => ({ emit }) });
        const began = performance.now();
        Promise.all([import('/demo/line.js'), import('/demo/outbox.js')]).then(async ([{ Line }, { Outbox }]) => {
          const line = new Line();
          const outbox = new Outbox('alice', ({ content }) => line.ask('send-message', { message: content }));
          for (const content of ['One', 'Two']) outbox.add({ clientMessageId: content, content, state: 'waiting' });
          await outbox.flush();
          done(sent);
        });";
    let sent = within(browser.page.execute_async(script, vec![])).await.unwrap();
    assert_eq!(sent, json!([["One", 0], ["One", 2], ["Two", 2]]));
    browser.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn messages_of_another_tab_and_new_ones_are_shown() {
    let _turn = alone().await;
    let server = Server::start().await;
    let alice = page(&server.url, "alice", DESKTOP).await;
    // Alice's phone begins a conversation with Carol: the list here has that name, too.
    let mut phone = server.user("alice").await;
    let _carol = server.user("carol").await;
    let message =
        json!({ "conversationId": "c1", "recipientId": "carol", "message": "From my phone" });
    phone.ask("send-message", message).await.unwrap();
    alice.sees("#conversations .entry", "carol").await;
    alice.sees("#conversations .entry .last", "You: From my phone").await;

    // Bob's messages are marked when Alice opens the conversation, which also marks them as read.
    let mut bob = server.user("bob").await;
    for number in 1..=3 {
        let message = json!({ "conversationId": "c2", "recipientId": "alice", "message": format!("Number {number}") });
        bob.ask("send-message", message).await.unwrap();
    }
    alice.sees("#conversations .entry .count", "3").await;
    alice.click("#conversations .entry", "bob").await;
    alice.sees(".new", "New messages").await;
    let read = within(bob.event("messages-read")).await.unwrap();
    assert_eq!(read["messageIds"].as_array().unwrap().len(), 3);
    alice.sees_no(".count").await;

    // An address without a conversation shows the lobby.
    alice.open("about:blank").await;
    alice.open(&format!("{}#100%", address(&server.url, "alice"))).await;
    alice.sees("#title", "Lobby").await;
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn on_a_phone_the_way_back_leads_to_the_list() {
    let _turn = alone().await;
    let server = Server::start().await;
    let alice = page(&server.url, "alice", PHONE).await;
    let mut bob = server.user("bob").await;
    alice.click("#people .entry", "bob").await;
    alice.sees("#title", "bob").await;
    assert_eq!(alice.run("return document.activeElement.id;").await, "title");
    alice.page.back().await.unwrap();
    alice.sees("#conversations .entry", "Lobby").await;
    alice.click("#conversations .entry", "Lobby").await;
    alice.click("#back", "").await;
    alice.sees("#conversations .entry", "Lobby").await;
    assert_eq!(alice.run("return location.hash;").await, "");

    // Messages that arrive while the list is open are not read.
    let message = json!({ "conversationId": "lobby", "message": "Anybody?" });
    bob.ask("send-message", message).await.unwrap();
    alice.sees("#conversations .entry .count", "1").await;
    alice.run("window.dispatchEvent(new Event('focus'));").await;
    alice.sees("#conversations .entry .count", "1").await;
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn a_refused_message_can_be_sent_again() {
    let _turn = alone().await;
    let server = Server::start().await;
    let alice = page(&server.url, "alice", DESKTOP).await;
    // Bob and Carol use this conversation id before Alice can begin the conversation.
    let mut bob = server.user("bob").await;
    let id = r#"direct:["alice","zoe"]"#;
    let message = json!({ "conversationId": id, "recipientId": "carol", "message": "Ours" });
    bob.ask("send-message", message).await.unwrap();
    let _zoe = server.user("zoe").await;
    alice.click("#people .entry", "zoe").await;
    alice.say("Hi Zoe").await;
    // The refusal appears in words, beside the message, in the list, and for screen readers.
    alice.sees("#notice", "Not a participant").await;
    alice.sees(".failed", "Not sent: Not a participant").await;
    alice.sees("#conversations .last", "Not sent: Hi Zoe").await;
    let is_told =
        "return document.querySelector('#announcer').textContent.includes('Not sent: Hi Zoe');";
    alice.wait("the announcement", is_told, vec![]).await;
    alice.click(".failed button", "Send again").await;
    assert_eq!(alice.focused().await, "text");
    alice.sees(".failed", "Not sent: ").await;
    alice.click(".failed button", "Discard").await;
    alice.sees_no(".own").await;
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn the_page_is_accessible_and_fits_every_screen() {
    let _turn = alone().await;
    let axe = package("tests/js/node_modules/axe-core/axe.min.js");
    if !Path::new(&axe).exists() {
        node();
        return;
    }
    let axe = std::fs::read_to_string(axe).unwrap();
    let server = Server::start().await;
    let browser = Browser::start(DESKTOP).await;
    let bob = page(&server.url, "bob", DESKTOP).await;
    let mut long = server.client().await;
    let name = json!({ "id": "long", "name": "W".repeat(256) });
    long.ask("authenticate", name).await.unwrap();
    for screen in
        [DESKTOP, PHONE, Screen { is_dark: true, ..DESKTOP }, Screen { is_dark: false, ..PHONE }]
    {
        browser.set_screen(screen).await;
        browser.open("about:blank").await;
        browser.open(&server.url).await;
        if browser.run("return localStorage.length === 0;").await == json!(true) {
            browser.sees("#welcome", "Choose a face").await;
            no_violations(&browser, &axe, screen).await;
            browser.write("#name", "Ada\u{e007}").await;
        }
        browser.sees("#state", "online").await;
        if screen.width < 700 {
            fits(&browser, screen).await;
            no_violations(&browser, &axe, screen).await;
            browser.click("#conversations .entry", "Lobby").await;
        }
        browser.say("A word that is too long for any screen: Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft").await;
        bob.say("And an answer with https://example.com in it").await;
        browser.sees(".other", "And an answer").await;
        let lobby = json!({ "conversationId": "lobby", "message": "My name is long" });
        long.ask("send-message", lobby.clone()).await.unwrap();
        long.ask("typing-start", lobby).await.unwrap();
        browser.sees("#typing", "WWWW").await;
        browser.sees(".other", "My name is long").await;
        bob.write("#text", "More").await;
        browser.sees("#typing", "Bob").await;
        bob.run("const text = document.querySelector('#text'); text.value = ''; text.dispatchEvent(new Event('input'));").await;
        fits(&browser, screen).await;
        no_violations(&browser, &axe, screen).await;
        if screen.width < 700 {
            browser.click("#back", "").await;
            browser.sees("#conversations .entry", "Lobby").await;
        }
        no_complaints(&browser).await;
    }
    browser.stop().await;
    bob.stop().await;
    server.stop().await;
}

async fn fits(browser: &Browser, screen: Screen) {
    let wide = "return [...document.querySelectorAll('body, body *')]
        .filter((element) => element.checkVisibility() && !element.closest('.unseen'))
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
        .map((element) => element.outerHTML.slice(0, 80));";
    assert_eq!(browser.run(wide).await, json!([]), "{screen:?}");
    let scrolls = "return document.documentElement.scrollWidth > innerWidth;";
    assert_eq!(browser.run(scrolls).await, json!(false), "{screen:?}");
}

async fn no_violations(browser: &Browser, axe: &str, screen: Screen) {
    browser.run(axe).await;
    let found = browser
        .page
        .execute_async(
            "const done = arguments[0];
             axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }).then(({ violations }) =>
               done(violations.map(({ id, impact, nodes }) => [id, impact, nodes[0].html, nodes[0].failureSummary])));",
            vec![],
        )
        .await
        .unwrap();
    assert_eq!(found, json!([]), "{screen:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn many_messages_written_offline_go_out_once_and_in_order() {
    let _turn = alone().await;
    let server = Server::start().await;
    let url = server.url.clone();
    let alice = page(&url, "alice", DESKTOP).await;
    let directory = server.stop().await;
    alice.sees("#banner", "The connection is lost").await;
    alice
        .run(
            "for (let number = 1; number <= 60; number += 1) {
               document.querySelector('#text').value = `Number ${number}`;
               document.querySelector('#composer').requestSubmit();
             }",
        )
        .await;

    // These are more messages than the server takes at once.
    let path = directory.path().join("chat.db").to_str().unwrap().to_owned();
    let settings = Settings { sqlite_path: Some(path), ..limited() };
    let config = Config::new(&settings).await.unwrap();
    let listener = TcpListener::bind(url.trim_start_matches("http://")).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(radio_istic::serve(listener, config, async {
        stopped.await.ok();
    }));
    let all_sent = "return document.querySelectorAll('.own .tick.sent').length === 60;";
    alice.wait("all of them", all_sent, vec![]).await;
    let expected: Vec<_> = (1..=60).map(|number| json!(format!("Number {number}"))).collect();
    assert_eq!(alice.run(CONTENTS).await, json!(expected));
    let stored = history(&url, "lobby", "bob").await;
    let stored: Vec<_> = stored.iter().map(|message| message["content"].clone()).collect();
    assert_eq!(stored, expected);
    alice.sees_no("#notice").await;
    alice.stop().await;
    stop.send(()).unwrap();
    within(served).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn a_busy_lobby_is_read_within_the_limit() {
    let _turn = alone().await;
    let server = Server::start_with(tempfile::tempdir().unwrap(), limited()).await;
    let alice = page(&server.url, "alice", DESKTOP).await;
    for user in ["bob", "carol", "dan", "eve"] {
        let mut client = server.user(user).await;
        for _ in 0..30 {
            let message = json!({ "conversationId": "lobby", "message": "Hello" });
            assert_eq!(client.ask("send-message", message).await.unwrap()["ok"], true);
        }
    }
    let mut unread = 1;
    while unread > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let messages = within(server.history("lobby", "bob")).await;
        assert_eq!(messages.len(), 120);
        let is_unread = |message: &&Value| message["readBy"] != json!(["alice"]);
        unread = messages.iter().filter(is_unread).count();
    }
    alice.sees_no("#notice").await;
    no_complaints(&alice).await;
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn new_messages_are_shown_first_and_read_when_in_sight() {
    let _turn = alone().await;
    let server = Server::start().await;
    let mut bob = server.user("bob").await;
    let send = async |bob: &mut Client, text: String| {
        let message = json!({ "conversationId": "c1", "recipientId": "alice", "message": text });
        bob.ask("send-message", message).await.unwrap();
    };
    // These are more messages than the page loads when it opens the conversation.
    for number in 1..=220 {
        send(&mut bob, format!("Number {number}")).await;
    }
    let alice = page(&server.url, "alice", DESKTOP).await;
    alice.sees("#conversations .count", "220").await;
    alice.click("#conversations .entry", "bob").await;
    alice.sees(".new", "New messages").await;
    alice.sees("#jump", " new").await;
    let is_seen = "const { top, bottom } = document.querySelector('.new').getBoundingClientRect();
        return top > 0 && bottom < innerHeight;";
    assert_eq!(alice.run(is_seen).await, true);
    let read = within(bob.event("messages-read")).await.unwrap();
    let read = read["messageIds"].as_array().unwrap().len();
    assert!((1..100).contains(&read), "{read} of 220 were seen");

    // At the end, all messages are read, also the ones that were never loaded.
    alice.click("#jump", " new").await;
    alice.sees_no(".count").await;
    alice.wait("the title", "return document.title === 'radio-istic';", vec![]).await;
    let mut unread = 1;
    while unread > 0 {
        let messages = within(server.history("c1", "bob")).await;
        unread = messages.iter().filter(|message| message["readBy"] == json!([])).count();
    }
    alice.page.refresh().await.unwrap();
    alice.sees(".content", "Number 220").await;
    alice.sees_no(".count").await;
    alice.sees_no(".new").await;

    // A reader above the end finds the mark at the messages that have arrived since.
    alice.run("document.querySelector('#scroller').scrollTop = 600;").await;
    alice.sees("#jump", "To the end").await;
    send(&mut bob, "One".into()).await;
    send(&mut bob, "Two".into()).await;
    alice.sees("#jump", "2 new").await;
    let marked = "return document.querySelector('.new + .message .content')?.innerText;";
    assert_eq!(alice.run(marked).await, "One");
    alice.click("#jump", "2 new").await;
    alice.sees_no(".count").await;
    alice.run("document.querySelector('#scroller').scrollTop = 600;").await;
    alice.sees("#jump", "To the end").await;
    send(&mut bob, "Three".into()).await;
    alice.sees("#jump", "1 new").await;
    assert_eq!(alice.run(marked).await, "Three");
    no_complaints(&alice).await;
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn the_page_holds_only_a_part_of_a_long_history() {
    let _turn = alone().await;
    let server = Server::start().await;
    let alice = page(&server.url, "alice", DESKTOP).await;
    let mut bob = server.user("bob").await;
    fill_the_lobby(&mut bob, 620, |number| format!("Number {number}.")).await;
    alice.sees(".content", "Number 620.").await;
    alice.page.refresh().await.unwrap();
    alice.sees(".content", "Number 620.").await;
    let up = "document.querySelector('#scroller').scrollTop = 0;
        const shown = [...document.querySelectorAll('.content')].map((content) => content.innerText);
        if (shown.length > 500) throw new Error(`${shown.length} messages`);
        return shown[0] === 'Number 1.';";
    alice.wait("the first one", up, vec![]).await;
    let down = "const scroller = document.querySelector('#scroller');
        scroller.scrollTop = scroller.scrollHeight;
        const shown = [...document.querySelectorAll('.content')].map((content) => content.innerText);
        if (shown.length > 500) throw new Error(`${shown.length} messages`);
        return shown.at(-1) === 'Number 620.';";
    alice.wait("the last one", down, vec![]).await;
    alice.wait("the end", "return document.querySelector('#jump').hidden;", vec![]).await;
    no_complaints(&alice).await;
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn a_list_that_changes_loses_no_click() {
    let _turn = alone().await;
    let server = Server::start().await;
    let alice = page(&server.url, "alice", DESKTOP).await;
    let mut bob = server.user("bob").await;
    let mut carol = server.user("carol").await;
    let to_alice = |conversation: &str| json!({ "conversationId": conversation, "recipientId": "alice", "message": "Hi" });
    bob.ask("send-message", to_alice("c-bob")).await.unwrap();
    carol.ask("send-message", to_alice("c-carol")).await.unwrap();
    alice.sees("#conversations li:nth-child(2)", "carol").await;
    alice.sees("#conversations li:nth-child(3)", "bob").await;
    alice.mouse("mousePressed", "#conversations li:nth-child(3) .name").await;
    bob.ask("send-message", to_alice("c-bob")).await.unwrap();
    alice.wait("three", "return document.title === '(3) radio-istic';", vec![]).await;
    alice.mouse("mouseReleased", "#conversations li:nth-child(3) .name").await;
    alice.sees("#title", "bob").await;
    alice.sees("#conversations li:nth-child(2)", "bob").await;

    // Escape leads back, and the keyboard focus returns to its visible place.
    alice.press(Key::Escape).await;
    alice.sees("#title", "Lobby").await;
    alice.press(Key::Tab).await;
    let focused = "const element = document.activeElement;
        return [element.className, getComputedStyle(element).outlineStyle, element.innerText.includes('carol')];";
    assert_eq!(alice.run(focused).await, json!(["entry", "solid", true]));
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn a_reload_keeps_ticks_drafts_and_conversations_that_have_not_begun() {
    let _turn = alone().await;
    let server = Server::start().await;
    let alice = page(&server.url, "alice", DESKTOP).await;
    let bob = server.user("bob").await;
    alice.click("#people .entry", "bob").await;
    alice.write("#text", "Hello").await;
    alice.page.refresh().await.unwrap();
    alice.sees("#title", "bob").await;
    alice.sees("#subtitle", "online").await;
    assert_eq!(alice.run("return document.querySelector('#text').value;").await, "Hello");
    alice.say(" Bob").await;
    alice.sees(".own .content", "Hello Bob").await;
    let delivered = "return Boolean(document.querySelector('.own .tick.delivered'));";
    alice.wait("delivered", delivered, vec![]).await;
    drop(bob);
    alice.sees("#subtitle", "offline").await;
    alice.page.refresh().await.unwrap();
    alice.sees("#subtitle", "offline").await;
    alice.wait("still delivered", delivered, vec![]).await;
    assert_eq!(alice.run("return document.querySelector('#text').value;").await, "");
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn the_page_asks_for_a_token_if_the_server_requires_one() {
    let _turn = alone().await;
    let secret = "a-secret-that-is-longer-than-32-bytes";
    let settings = Settings { jwt_secret: Some(secret.into()), ..Settings::default() };
    let server = Server::start_with(tempfile::tempdir().unwrap(), settings).await;
    let alice = Browser::start(DESKTOP).await;
    alice.open(&address(&server.url, "alice")).await;
    alice.sees("#banner", "radio-istic token --sub alice").await;
    alice.sees("#state", "not let in").await;

    let made = Command::new(BINARY)
        .args(["token", "--sub", "alice"])
        .env("JWT_SECRET", secret)
        .current_dir(server.directory.path())
        .output()
        .unwrap();
    let token = String::from_utf8(made.stdout).unwrap();
    let token = token.trim();
    alice.open("about:blank").await;
    alice.open(&format!("{}/#token={token}", server.url)).await;
    // The token names the user; the name can be chosen.
    alice.sees("#welcome", "Choose a face").await;
    assert_eq!(alice.run("return location.href;").await, format!("{}/", server.url));
    alice.write("#name", " in Wonderland\u{e007}").await;
    alice.sees("#me", "alice in Wonderland").await;
    alice.sees("#state", "online").await;
    alice.say("I am let in").await;
    alice.wait("sent", "return Boolean(document.querySelector('.own .tick.sent'));", vec![]).await;
    alice.page.refresh().await.unwrap();
    alice.sees(".own .content", "I am let in").await;
    no_complaints(&alice).await;

    // Another token in the same window is another user.
    alice.run("location.hash = 'token=nonsense';").await;
    alice.write("#name", "Mallory\u{e007}").await;
    alice.sees("#banner", "The token is not valid").await;
    alice.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_may_load_from_its_own_server_only() {
    let server = Server::start().await;
    let request = reqwest::Client::new().get(&server.url).header("Accept", "text/html");
    let response = request.send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'self';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["referrer-policy"], "no-referrer");
    server.stop().await;
}

/// Takes the pictures in the README: `SCREENSHOTS=1` writes them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: drives a browser"]
async fn the_pictures_can_be_taken() {
    let _turn = alone().await;
    let server = Server::start().await;
    let alice = page(&server.url, "alice", DESKTOP).await;
    let bob = page(&server.url, "bob", PHONE).await;
    let mut zoe = server.client().await;
    let zoe_is = json!({ "id": "zoe", "name": "Zoë", "avatar": "/demo/avatars/cat.svg" });
    zoe.ask("authenticate", zoe_is).await.unwrap();
    let lobby = |message: &str| json!({ "conversationId": "lobby", "message": message });
    zoe.ask("send-message", lobby("The kettle is on. Who is in?")).await.unwrap();
    alice.say("Me! Five minutes.").await;
    bob.click("#people .entry", "Alice").await;
    bob.say("Did you see the new transcript tests?").await;
    alice.click("#conversations .entry", "Bob").await;
    alice.say("Yes: who says what, and what everybody receives.").await;
    alice.say("It found a message that was confirmed and not stored.").await;
    bob.sees(".other", "It found").await;
    bob.say("Not here, I hope?").await;
    alice.say("No. On the old server.").await;
    zoe.ask("send-message", lobby("Tea is ready.")).await.unwrap();
    alice
        .wait("read", "return document.querySelectorAll('.own .tick.read').length === 3;", vec![])
        .await;
    bob.write("#text", "Phew").await;
    alice.sees("#typing", "Bob is typing").await;
    for (browser, name) in [(&alice, "desktop"), (&bob, "phone")] {
        let picture = browser.screenshot().await;
        assert!(picture.len() < 150_000, "{} bytes are too many for a README", picture.len());
        if std::env::var_os("SCREENSHOTS").is_some() {
            std::fs::write(package(&format!("docs/{name}.png")), picture).unwrap();
        }
    }
    alice.stop().await;
    bob.stop().await;
    server.stop().await;
}
