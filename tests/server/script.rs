//! The grammar of conversation files, with random files.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};
use radio_istic::{
    client::{Options, TransportKind},
    transcript::{Action, Answer, Content, Script, ScriptStep, ServerSetting, What},
};
use serde_json::Value;

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        "<{1,3}(message|uuid|x)-[0-9]{1,2}>".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((".*", inner), 0..6).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn client() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9é][a-zA-Z0-9é._@-]{0,8}"
        .prop_filter("reserved", |name| name != "pause" && name != "server")
}

fn event() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z-]{1,12}", Just("ack".to_owned()), ".*"]
}

fn duration() -> impl Strategy<Value = Duration> {
    (0_u64..=3_600_000).prop_map(Duration::from_millis)
}

fn options() -> impl Strategy<Value = Options> {
    let pairs = || vec((".*", ".*"), 0..3);
    let transport = prop_oneof![Just(TransportKind::Websocket), Just(TransportKind::Polling)];
    let auth = json().prop_filter("none is none", |auth| !auth.is_null());
    (option::of(auth), pairs(), pairs(), option::of(transport)).prop_map(
        |(auth, query, headers, transport)| Options {
            auth,
            query: query.into_iter().collect(),
            extra_headers: headers.into_iter().collect(),
            transports: transport.map(|transport| [transport]),
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        options().prop_map(|options| Action::Connect(Box::new(options))),
        Just(Action::Reconnect),
        Just(Action::Disconnect),
        Just(Action::Vanish),
        (event(), vec(json(), 0..4), any::<bool>())
            .prop_map(|(event, arguments, asks)| Action::Emit { event, arguments, asks }),
        (event(), option::of(duration()))
            .prop_map(|(event, within)| Action::Await { event, within }),
        (option::of(event()), option::of(duration()))
            .prop_map(|(event, within)| Action::ExpectNo { event, within }),
    ]
}

fn step() -> impl Strategy<Value = ScriptStep> {
    prop_oneof![
        8 => (client(), action()).prop_map(|(client, action)| ScriptStep::Client { client, action }),
        1 => duration().prop_map(ScriptStep::Pause),
        1 => Just(ScriptStep::Restart),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let what = prop_oneof![Just(What::Ack), event().prop_map(What::Event)];
    (client(), what, vec(json(), 0..4)).prop_map(|(client, what, arguments)| Answer {
        client,
        what,
        arguments,
    })
}

/// A file of settings, clients that connect, and then any step with any answers.
fn contents() -> impl Strategy<Value = Vec<Content>> {
    let values = option::of("sqlite|mongodb")
        .prop_flat_map(|storage| (Just(storage), option::of("off|[1-9]{1,3}/s")));
    let settings = values.prop_map(|(storage, limit)| {
        let named = [("STORAGE", storage), ("RATE_LIMIT", limit)];
        let given = |(name, value): (&str, Option<String>)| {
            Some(ServerSetting { name: name.to_owned(), value: value? })
        };
        named.into_iter().filter_map(given).collect::<Vec<_>>()
    });
    (settings, vec((step(), vec(answer(), 0..3)), 0..6)).prop_map(|(settings, steps)| {
        let mut clients = Vec::new();
        let mut played = Vec::new();
        for (step, answers) in steps {
            if let ScriptStep::Client { client, .. } = &step {
                clients.push(client.clone());
            }
            clients.extend(answers.iter().map(|answer| answer.client.clone()));
            played.push(Content::Step(step));
            played.extend(answers.into_iter().map(Content::Answer));
        }
        let connects = clients.into_iter().map(|client| {
            Content::Step(ScriptStep::Client { client, action: Action::Connect(Box::default()) })
        });
        settings.into_iter().map(Content::Setting).chain(connects).chain(played).collect()
    })
}

fn read(text: &str) -> Vec<Content> {
    let script = Script::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    script.lines.into_iter().map(|line| line.content).collect()
}

proptest! {
    #[test]
    fn any_written_file_is_read_unchanged(contents in contents()) {
        let text: String = contents.iter().map(|content| format!("{content}\n")).collect();
        prop_assert_eq!(read(&text), contents);
    }

    #[test]
    fn any_text_is_read_or_refused_in_its_place(text in "(.|\n|\r|\t){0,200}") {
        is_read_or_refused(&text)?;
    }

    #[test]
    fn any_text_that_is_nearly_right_is_read_or_refused_in_its_place(
        text in vec(
            "(a connects|a reconnects|a >|a \\? x|  a < x|  a < ack|pause|server has STORAGE=|a awaits|\
             a expects|within| |\\{\"x\":|\\}|\\[|\\]|\"|<message-1>|<a>|...x| but y|\\*9|1|#|\n|\r\n|é|\u{feff}|\t){1}",
            0..40,
        )
    ) {
        is_read_or_refused(&text.concat())?;
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Script::parse_bytes(&bytes);
    }
}

fn is_read_or_refused(text: &str) -> Result<(), TestCaseError> {
    match Script::parse(text) {
        Ok(script) => {
            prop_assert_eq!(&Script::parse(&script.to_string()).unwrap(), &script);
            let contents: Vec<_> = script.lines.into_iter().map(|line| line.content).collect();
            let anew: String = contents.iter().map(|content| format!("{content}\n")).collect();
            prop_assert_eq!(read(&anew), contents);
        }
        Err(error) => {
            let line = text.split('\n').nth(error.line - 1).expect("the line is there");
            prop_assert!(error.column <= line.chars().count() + 1, "{error}: {line:?}");
        }
    }
    Ok(())
}
