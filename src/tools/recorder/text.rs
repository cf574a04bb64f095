//! A recording as a conversation file: names for clients and for values that change, and waits for
//! events that come at their own time.

use std::{collections::HashMap, fmt::Write, time::Duration};

use indexmap::IndexSet;
use serde_json::Value;

use super::recording::{Cause, ClientSession, LONGEST, Log, Recorded};
use crate::tools::transcript::{Action, Answer, Names, ScriptStep, Shown, What, is_client};

/// After a longer pause between two steps, the wait for an event names its limit.
const LONG: Duration = Duration::from_secs(2);

impl Log {
    /// The name of each session's client. A user who returns after leaving is the same client
    /// again; a second tab is another one.
    fn clients(&self) -> Vec<String> {
        let mut last_of: HashMap<String, &ClientSession> = HashMap::new();
        let mut clients = Vec::new();
        for session in &self.sessions {
            let word = client_word(session.user.as_deref().unwrap_or_default());
            let numbered = (2..).map(|number| format!("{word}-{number}"));
            let is_free = |name: &String| {
                let last = last_of.get(name);
                last.is_none_or(|last| last.ended.is_some_and(|ended| ended <= session.began))
            };
            let mut names = std::iter::once(word.clone()).chain(numbered);
            let name = names.find(is_free).expect("numbers do not end");
            last_of.insert(name.clone(), session);
            clients.push(name);
        }
        clients
    }

    pub(super) fn text(&self, quiet: Duration) -> String {
        let clients = self.clients();
        let mut appeared = IndexSet::new();
        let mut names = Names::default();
        for step in &self.steps {
            if let Cause::Client(_, Action::Emit { arguments, .. }) = &step.cause {
                arguments.iter().for_each(|argument| names.will_be_sent(argument));
            }
        }
        let mut text = String::new();
        let mut shown = Shown::default();
        for Recorded { cause, answers } in &self.steps {
            if let Cause::Client(session, Action::Connect(_)) = cause {
                names.socket(&self.sessions[*session].socket);
                appeared.insert(&*clients[*session]);
            }
            self.write_cause(&mut text, cause, &clients, &mut names);
            let mut answers: Vec<_> = answers
                .iter()
                .map(|(session, what, arguments)| Answer {
                    client: clients[*session].clone(),
                    what: what.clone(),
                    arguments: arguments.clone(),
                })
                .collect();
            answers.sort_by_key(|answer| appeared.get_index_of(&*answer.client));
            if matches!(cause, Cause::Time(_) | Cause::Client(_, Action::Vanish)) {
                write_wait(&mut text, cause, &answers, quiet);
            }
            // A replay cannot cause these answers again.
            let mark = if matches!(cause, Cause::Untold(..)) { "#" } else { "" };
            shown.next_step();
            for mut answer in answers {
                answer.arguments.iter_mut().for_each(|argument| names.name(argument));
                // A comment is not read, so no short form may stand for its contents.
                let written = match mark {
                    "" => format!("  {}", shown.write(&answer)),
                    mark => format!("{mark}{answer}"),
                };
                let _ = writeln!(text, "{written}");
            }
        }
        text
    }

    fn write_cause(&self, text: &mut String, cause: &Cause, clients: &[String], names: &mut Names) {
        let (session, mut action) = match cause {
            Cause::Client(session, action) => (*session, action.clone()),
            Cause::Untold(session, what) => {
                let _ = writeln!(text, "# {} {what}.", clients[*session]);
                return;
            }
            Cause::Time(_) => return,
        };
        match &mut action {
            Action::Connect(options) => {
                **options = self.sessions[session].options.clone();
                options.auth.iter_mut().for_each(|auth| names.name_sent(auth));
                for text in options.query.values_mut().chain(options.extra_headers.values_mut()) {
                    let mut value = Value::from(std::mem::take(text));
                    names.name_sent(&mut value);
                    *text = value.as_str().unwrap_or_default().into();
                }
            }
            Action::Emit { arguments, .. } => {
                arguments.iter_mut().for_each(|argument| names.name_sent(argument));
            }
            _ => {}
        }
        let _ =
            writeln!(text, "{}", ScriptStep::Client { client: clients[session].clone(), action });
    }
}

/// Writes a wait for answers that come at an unknown time.
fn write_wait(text: &mut String, cause: &Cause, answers: &[Answer], quiet: Duration) {
    let event = answers.iter().find_map(|answer| match &answer.what {
        What::Event(event) => Some((answer.client.clone(), event.clone())),
        What::Ack => None,
    });
    let step = match (event, cause) {
        (Some((client, event)), cause) => {
            let within = match cause {
                Cause::Time(idle) if *idle > LONG => {
                    Some(Duration::from_secs(idle.as_secs() + 5).min(LONGEST))
                }
                _ => None,
            };
            ScriptStep::Client { client, action: Action::Await { event, within } }
        }
        // No client has seen that the server noticed.
        (None, _) => ScriptStep::Pause(quiet),
    };
    let _ = writeln!(text, "{step}");
}

/// A user's id as the name of a client.
fn client_word(user: &str) -> String {
    let word: String = user
        .chars()
        .map(|c| if c.is_alphanumeric() || "-_.@".contains(c) { c } else { '-' })
        .collect();
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    if is_client(word) { word.into() } else { "client".into() }
}
