//! Access with tokens, and its duration.

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use radio_istic::{
    client::{Client, ConnectError, Options, Received, TransportKind},
    config::{Config, Settings},
    tokens::Tokens,
};
use serde_json::{Value, json};

use crate::{
    process::BINARY,
    support::{Server, package, within},
};

const SECRET: &str = "a-secret-that-is-longer-than-32-bytes";

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn token(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

fn signed(claims: &Value) -> String {
    token(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

fn key(name: &str) -> String {
    std::fs::read_to_string(package(&format!("tests/keys/{name}.pem"))).unwrap()
}

async fn server(settings: Settings) -> Server {
    Server::start_with(tempfile::tempdir().unwrap(), settings).await
}

async fn with_secret() -> Server {
    server(Settings { jwt_secret: Some(SECRET.into()), ..Settings::default() }).await
}

fn carrying(token: &str) -> Options {
    Options { auth: Some(json!({ "token": token })), ..Options::default() }
}

/// The answer to `authenticate` with this token.
async fn authenticate(server: &Server, token: &str) -> Value {
    let mut client = server.client().await;
    within(client.ask("authenticate", json!({ "token": token }))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_key_accepts_the_tokens_of_its_owner_and_no_others() {
    let rsa = EncodingKey::from_rsa_pem(key("rsa").as_bytes()).unwrap();
    let ec = EncodingKey::from_ec_pem(key("ec").as_bytes()).unwrap();
    let ed = EncodingKey::from_ed_pem(key("ed").as_bytes()).unwrap();
    let claims = json!({ "sub": "alice", "exp": now() + 60 });
    let tokens = [
        ("rsa.pub", token(Algorithm::RS256, &rsa, &claims)),
        ("ec.pub", token(Algorithm::ES256, &ec, &claims)),
        ("ed.pub", token(Algorithm::EdDSA, &ed, &claims)),
    ];
    for (name, good) in &tokens {
        let pem = key(name);
        // The key as a path, as text, and as text from a form that knows no line ends.
        let path = package(&format!("tests/keys/{name}.pem")).to_str().unwrap().to_owned();
        for key in [path, pem.clone(), pem.replace('\n', "\\n")] {
            let settings = Settings { jwt_public_key: Some(key), ..Settings::default() };
            let server = server(settings).await;
            let answer = authenticate(&server, good).await;
            assert_eq!(answer["user"]["id"], "alice", "{name}: {answer}");

            let confused = EncodingKey::from_secret(pem.as_bytes());
            let others = tokens.iter().filter(|(other, _)| other != name);
            let bad = others
                .map(|(_, token)| token.clone())
                .chain([token(Algorithm::HS256, &confused, &claims), signed(&claims)])
                .chain([token(Algorithm::RS384, &rsa, &claims)]);
            for bad in bad {
                let answer = authenticate(&server, &bad).await;
                assert_eq!(answer["error"]["code"], "invalid_token", "{name}: {answer}");
            }
        }
    }
}

#[test]
fn only_public_keys_with_a_supported_algorithm_are_accepted() {
    for (name, taken) in
        [("rsa.pub", true), ("ec.pub", true), ("ed.pub", true), ("p384.pub", false)]
    {
        assert_eq!(Tokens::verified_with(&key(name)).is_ok(), taken, "{name}");
    }
    for name in ["rsa", "ec", "ed"] {
        assert!(Tokens::verified_with(&key(name)).is_err(), "{name} is private");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_from_nbf_to_exp_and_a_minute_around() {
    let server = with_secret().await;
    let cases = [
        (json!({ "sub": "a", "exp": now() - 50 }), true),
        (json!({ "sub": "a", "exp": now() - 70 }), false),
        (json!({ "sub": "a", "exp": now() as f64 + 0.5 }), true),
        (json!({ "sub": "a", "nbf": now() + 50 }), true),
        (json!({ "sub": "a", "nbf": now() + 70 }), false),
        (json!({ "sub": "a", "exp": u64::MAX }), true),
        (json!({ "sub": "a", "exp": "2030-01-01" }), false),
        (json!({ "sub": "a", "exp": -1 }), false),
        (json!({ "sub": "a", "exp": null }), false),
        (json!({ "sub": "a", "exp": [now() + 60] }), false),
        (json!({ "sub": "a\nb" }), false),
        (json!({ "sub": "" }), false),
        (json!({ "sub": 1.5 }), false),
        (json!({ "sub": { "$ne": null } }), false),
    ];
    for (claims, is_good) in cases {
        let answer = authenticate(&server, &signed(&claims)).await;
        assert_eq!(answer["ok"], is_good, "{claims}: {answer}");
        if !is_good {
            assert_eq!(answer["error"]["code"], "invalid_token", "{claims}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audience_and_issuer_are_checked_when_they_are_set() {
    let strict = server(Settings {
        jwt_secret: Some(SECRET.into()),
        jwt_audience: Some("chat".into()),
        jwt_issuer: Some("backend".into()),
        ..Settings::default()
    })
    .await;
    let lax = with_secret().await;
    let cases = [
        (json!({ "sub": "a", "aud": "chat", "iss": "backend" }), true),
        (json!({ "sub": "a", "aud": ["shop", "chat"], "iss": "backend" }), true),
        (json!({ "sub": "a", "aud": "shop", "iss": "backend" }), false),
        (json!({ "sub": "a", "aud": "chat", "iss": "somebody" }), false),
        (json!({ "sub": "a", "aud": "chat" }), false),
        (json!({ "sub": "a", "iss": "backend" }), false),
        (json!({ "sub": "a", "aud": 1, "iss": "backend" }), false),
        (json!({ "sub": "a", "aud": [], "iss": "backend" }), false),
    ];
    for (claims, is_good) in cases {
        let token = signed(&claims);
        assert_eq!(authenticate(&strict, &token).await["ok"], is_good, "{claims}");
        assert_eq!(authenticate(&lax, &token).await["ok"], true, "{claims}");
    }
}

/// Everything that a client still receives, up to the end of its connection.
async fn last_words(mut client: Client) -> Vec<Received> {
    let mut words = Vec::new();
    while let Ok(Some(received)) = within(client.receive()).await {
        words.push(received);
    }
    words
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn a_socket_is_disconnected_when_its_token_expires_without_a_fresh_one() {
    let server = with_secret().await;
    // The token is valid for two seconds more.
    let old = signed(&json!({ "sub": "alice", "exp": now() - 58 }));
    let fresh = signed(&json!({ "sub": "alice", "exp": now() + 600 }));
    let connect = async |transport| {
        let options = Options { transports: Some([transport]), ..carrying(&old) };
        let client = within(Client::connect_with(&server.url, &options)).await.unwrap();
        assert!(!client.id().is_empty());
        client
    };
    let websocket = connect(TransportKind::Websocket).await;
    let polling = connect(TransportKind::Polling).await;
    let mut renewed = connect(TransportKind::Websocket).await;
    let answer = within(renewed.ask("authenticate", json!({ "token": fresh }))).await.unwrap();
    assert_eq!(answer["ok"], true);

    for (name, client) in [("websocket", websocket), ("polling", polling)] {
        let words = last_words(client).await;
        let Some(Received::Event { name: event, arguments }) = words.last() else {
            panic!("{name}: {words:?}")
        };
        assert_eq!((event.as_str(), &arguments[0]["code"]), ("error", &json!("invalid_token")));
        assert_eq!(arguments[0]["event"], Value::Null);
    }
    // The other clients are disconnected, so the old token has expired.
    let request = json!({ "conversationId": "lobby" });
    let answer = within(renewed.ask("join-conversation", request)).await.unwrap();
    assert_eq!(answer["ok"], true);
    assert!(matches!(
        within(Client::connect_with(&server.url, &carrying(&old))).await,
        Err(ConnectError::Refused(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_without_a_token_is_disconnected_in_time() {
    let secret = Some(SECRET.into());
    let mut config = Config::new(&Settings {
        jwt_secret: secret,
        sqlite_path: Some(":memory:".into()),
        ..Settings::default()
    })
    .await
    .unwrap();
    config.limits.authenticate_within = Duration::from_millis(500);
    let server = Server::start_configured(tempfile::tempdir().unwrap(), config).await;
    let mut alice = server.client().await;
    let token = signed(&json!({ "sub": "alice" }));
    within(alice.ask("authenticate", json!({ "token": token }))).await.unwrap();
    let words = last_words(server.client().await).await;
    let [Received::Event { name: event, arguments }] = &words[..] else { panic!("{words:?}") };
    assert_eq!((event.as_str(), &arguments[0]["code"]), ("error", &json!("unauthenticated")));
    let answer = within(alice.ask("list-conversations", json!({}))).await.unwrap();
    assert_eq!(answer["ok"], true, "who has one stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_makes_a_token_that_the_server_takes() {
    let server = with_secret().await;
    let make = |secret: &str| {
        let mut command = Command::new(BINARY);
        command.args(["token", "--sub", "alice", "--lasts", "1h"]).env("JWT_SECRET", secret);
        command.output().unwrap()
    };
    let made = make(SECRET);
    assert!(made.status.success(), "{made:?}");
    let token = String::from_utf8(made.stdout).unwrap();
    assert_eq!(authenticate(&server, token.trim()).await["user"]["id"], "alice");
    let of_another = make("another-secret-that-is-as-long-as-it-takes");
    let token = String::from_utf8(of_another.stdout).unwrap();
    assert_eq!(authenticate(&server, token.trim()).await["error"]["code"], "invalid_token");
    let refused = make("");
    assert!(!refused.status.success());
}

fn header() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(json!({ "alg": "HS256" }).to_string()),
        Just(json!({ "alg": "none" }).to_string()),
        Just(json!({ "alg": "HS256", "crit": ["exp"] }).to_string()),
        ".*",
    ]
}

proptest! {
    #[test]
    fn unsigned_text_is_never_a_token(text in ".*") {
        let tokens = Tokens::signed_with(SECRET).unwrap();
        prop_assert!(tokens.verify(&text).is_err());
    }

    #[test]
    fn unsigned_parts_are_never_a_token(
        header in header(),
        claims in ".*",
        signature in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
        let tokens = Tokens::signed_with(SECRET).unwrap();
        let parts = [header.as_bytes(), claims.as_bytes(), &signature[..]];
        let token = parts.map(|part| BASE64.encode(part)).join(".");
        prop_assert!(tokens.verify(&token).is_err());
    }

    #[test]
    fn no_text_is_a_key_by_chance(text in ".*") {
        prop_assert!(Tokens::verified_with(&text).is_err());
    }
}
