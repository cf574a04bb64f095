//! Every step is read, and everything else is refused in its place.

use std::time::Duration;

use serde_json::json;

use super::*;

fn contents(text: &str) -> Vec<Content> {
    let script = Script::parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(script.to_string().trim_end(), text.trim_end(), "written as it was read");
    script.lines.into_iter().map(|line| line.content).collect()
}

/// The step in the last line.
fn step(line: &str) -> Action {
    let content = contents(&format!("alice connects\n{line}\n")).pop();
    match content {
        Some(Content::Step(ScriptStep::Client { client, action })) if client == "alice" => action,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_step_is_read() {
    let emit = |event: &str, arguments, asks| Action::Emit { event: event.into(), arguments, asks };
    assert_eq!(step("alice connects"), Action::Connect(Box::default()));
    let options = json!({ "auth": { "token": "t" }, "query": { "a": "b" },
        "extraHeaders": { "Origin": "https://a.example" }, "transports": ["polling"] });
    let connect = Action::Connect(serde_json::from_value(options.clone()).unwrap());
    assert_eq!(step(&format!("alice connects {options}")), connect);
    assert_eq!(step("alice reconnects"), Action::Reconnect);
    assert_eq!(step("alice disconnects"), Action::Disconnect);
    assert_eq!(step("alice vanishes"), Action::Vanish);
    assert_eq!(step("alice > ping"), emit("ping", vec![], false));
    assert_eq!(
        step(r#"alice ? chat "a" {"b": 1} 2"#),
        emit("chat", vec![json!("a"), json!({ "b": 1 }), json!(2)], true)
    );
    assert_eq!(
        step(r#"alice > "my \"event\"" null"#),
        emit("my \"event\"", vec![Value::Null], false)
    );
    let within = Some(Duration::from_millis(250));
    assert_eq!(step("alice awaits a"), Action::Await { event: "a".into(), within: None });
    assert_eq!(step("alice awaits a within 250ms"), Action::Await { event: "a".into(), within });
    let no = Action::ExpectNo { event: Some("a".into()), within };
    assert_eq!(step("alice expects no a within 250ms"), no);
    let nothing = Action::ExpectNo { event: None, within: None };
    assert_eq!(step("alice expects nothing"), nothing);
    assert_eq!(
        contents("pause 1m30s"),
        [Content::Step(ScriptStep::Pause(Duration::from_secs(90)))]
    );
    assert_eq!(contents("server restarts"), [Content::Step(ScriptStep::Restart)]);
    let setting = ServerSetting { name: "STORAGE".into(), value: "mongodb".into() };
    assert_eq!(contents("server has STORAGE=mongodb"), [Content::Setting(setting)]);
}

#[test]
fn a_payload_may_span_lines() {
    let text = "# Hello.\n\na connects\na > x {\n  \"y\": [1,\n2]\n} 3\n  a < ack {\n    \"ok\": true\n}\nb connects\n";
    let script = Script::parse(text).unwrap();
    assert_eq!(script.to_string(), text);
    let numbers: Vec<_> = script.lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 8, 11]);
    let Content::Answer(answer) = &script.lines[4].content else { panic!("no answer") };
    assert_eq!((&answer.what, &answer.arguments[..]), (&What::Ack, &[json!({ "ok": true })][..]));
}

#[test]
fn an_event_of_the_name_ack_stands_in_quotation_marks() {
    let read = contents("a connects\n  a < \"ack\" 1\n  a < ack 1\n");
    let what = |content: &Content| match content {
        Content::Answer(answer) => answer.what.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(what(&read[1]), What::Event("ack".into()));
    assert_eq!(what(&read[2]), What::Ack);
    assert_eq!(read[1].to_string(), "  a < \"ack\" 1");
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_do_not_matter() {
    let script = Script::parse("\u{feff}a connects\r\na > x {\r\n}\r\n").unwrap();
    assert_eq!(script.to_string(), "a connects\na > x {\n}\n");
}

#[test]
fn the_error_of_an_unreadable_file_names_the_place() {
    let cases = [
        ("alice", "1:6: expected a step: CLIENT connects"),
        ("alice shouts", "1:7: expected a step: CLIENT connects"),
        ("alice awaits x", "1:1: \"alice\" has not connected, nor has anybody else"),
        ("server has STORAGE=paper", "1:20: STORAGE: \"paper\" is not sqlite or mongodb"),
        ("server has RATE_LIMIT=off\nserver has RATE_LIMIT=off", "2:12: RATE_LIMIT stands above"),
        ("a connects\na shouts", "2:3: expected a step: CLIENT connects"),
        ("a connects\nalcie > x", "2:1: \"alcie\" has not connected, expected a"),
        ("a connects\n  alcie < x", "2:3: \"alcie\" has not connected, expected a"),
        ("?? connects", "1:1: expected a step"),
        ("a connects now", "1:13: expected JSON: expected ident"),
        ("a connects {}x", "1:14: expected white space behind the JSON value"),
        ("a connects {} {}", "1:12: expected one object of options"),
        (
            "a connects {\"tokn\":1}",
            "1:12: options of a connection: tokn: unknown field `tokn`, expected one of `auth`",
        ),
        (
            "a connects {\"transports\":[\"udp\"]}",
            "1:12: options of a connection: transports[0]: unknown variant `udp`, expected `websocket` or `polling`",
        ),
        (
            "a connects {\"transports\":[\"polling\",\"websocket\"]}",
            "1:12: options of a connection: transports: ",
        ),
        ("a connects []", "1:12: expected one object of options"),
        ("a connects\na disconnects x", "2:15: expected the end of the line"),
        ("a connects\na >", "2:4: expected the name of an event"),
        ("a connects\na > {\"y\":1}", "2:5: expected the name of an event"),
        ("a connects\na > x{\"y\":1}", "2:5: expected the name of an event"),
        ("a connects\na > x {\"y\":", "2:11: expected JSON: EOF while parsing a value"),
        ("a connects\na > x {\"y\" 1}", "2:12: expected JSON: expected `:`"),
        ("a connects\na > x {\n\"ü\": é}", "3:6: expected JSON: expected value"),
        ("a connects\na > x {\"y\":1\nb connects", "3:1: expected JSON: expected `,` or `}`"),
        ("a connects\na > x 01", "2:8: expected JSON: invalid number"),
        ("a connects\na > x \"<time>\"", "2:7: <time> stands for any time and cannot be sent"),
        ("a connects\na > \"x", "2:6: expected JSON: EOF while parsing a string"),
        ("a connects\na awaits", "2:9: expected the name of an event"),
        ("a connects\na awaits x for 2s", "2:12: expected within and a time"),
        ("a connects\na awaits x within soon", "2:19: expected a time such as 250ms"),
        ("a connects\na expects x", "2:11: expected: no EVENT, or nothing"),
        ("a connects\na expects no", "2:13: expected the name of an event"),
        ("pause", "1:6: expected a time such as 250ms, 7s or 1m30s, up to 1h, not \"\""),
        ("pause -1s", "1:7: expected a time"),
        ("pause 1us", "1:7: expected a time"),
        ("pause 2h", "1:7: expected a time"),
        ("server", "1:7: expected: server restarts, or server has NAME=value"),
        ("server has PORT=3001", "1:12: expected NAME=value, of STORAGE, ALLOWED_ORIGINS"),
        ("server has STORAGE", "1:12: expected NAME=value"),
        ("a connects\nserver has STORAGE=sqlite", "2:1: settings stand above the first step"),
        ("  a < x", "1:3: an answer stands directly below the step that brought it"),
        ("a connects\n\n  a < x", "3:3: an answer stands directly below"),
        ("a connects\n  a > x", "2:5: expected < and what the client received"),
        ("a connects\n  a <", "2:6: expected the name of an event"),
        ("a connects\n  # hm", "2:3: expected comments to begin at the margin"),
    ];
    for (text, expected) in cases {
        let error = Script::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text:?}\n  told {error}\n  not  {expected}");
    }
    let error = Script::parse_bytes(b"a connects\na > x \"\xff\"").unwrap_err().to_string();
    assert_eq!(error, "2:8: expected UTF-8 text");
    let deep = format!("a connects\na > x {}", "[".repeat(1000));
    assert!(Script::parse(&deep).unwrap_err().to_string().contains("recursion limit"));
}
