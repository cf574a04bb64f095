//! Random input for all code that reads foreign data.

use proptest::prelude::*;
use radio_istic::{
    config::{Config, LogConfig, Settings},
    contract::Incoming,
    events::ClientEvent,
};
use serde_json::Value;

const FIELDS: [&str; 14] = [
    "id",
    "name",
    "email",
    "avatar",
    "token",
    "conversationId",
    "recipientId",
    "message",
    "senderId",
    "clientMessageId",
    "messageIds",
    "before",
    "after",
    "limit",
];

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        "[0-9a-f]{24}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let field = prop_oneof![prop::sample::select(&FIELDS[..]).prop_map(String::from), ".*"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((field, inner), 0..8)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Reads a packet's arguments as they come from a client.
fn decode(text: &str) {
    if let Ok(incoming) = serde_json::from_str::<Incoming>(text)
        && let Err(refusal) = ClientEvent::decode(&incoming)
    {
        assert!(refusal.message().chars().count() <= 300, "{refusal:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The error shows only the number of a line: the line may be a secret.
    #[test]
    fn any_file_of_settings_is_used_or_refused_in_one_line(
        lines in prop::collection::vec("(PORT|HOST|JWT_SECRET|MONGODB_URI|x)?[=\"' $\\\\#{}]*.{0,20}", 0..4),
    ) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".env"), lines.join("\n")).unwrap();
        // The command needs nothing but the settings, and ends.
        let mut command = std::process::Command::new(crate::process::BINARY);
        command.args(["token", "--sub", "alice"]).current_dir(directory.path()).env_clear();
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        prop_assert!(matches!(output.status.code(), Some(0 | 1)), "{told}");
        prop_assert!(told.lines().count() <= 1, "{told}");
    }
}

proptest! {
    #[test]
    fn any_packet_is_read_or_refused(text in ".*") {
        decode(&text);
    }

    #[test]
    fn any_payload_is_read_or_refused_in_a_few_words(
        event in prop_oneof![prop::sample::select(ClientEvent::NAMES), Just("no-such-event")],
        payload in json(),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = serde_json::json!([event, payload]).to_string();
        decode(&text);
        let mut end = cut.index(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        decode(&text[..end]);
    }

    #[test]
    fn any_setting_is_used_or_refused_in_one_line(
        text in ".*",
        setting in prop::sample::select(Settings::ALL),
    ) {
        let mut settings = Settings { sqlite_path: Some(":memory:".into()), ..Settings::default() };
        *settings.get_mut(setting.variable).unwrap() = Some(text);
        // The test looks up no host names.
        prop_assume!(!settings.mongodb_uri.as_ref().is_some_and(|uri| uri.trim().starts_with("mongodb+srv")));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let configured = runtime.block_on(Config::new(&settings)).map(drop);
        for refused in [configured, LogConfig::new(&settings).map(drop)].into_iter().filter_map(Result::err) {
            let line = format!("{refused:#}");
            prop_assert!(!line.contains('\n'), "{}", line);
        }
    }
}
