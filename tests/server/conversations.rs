//! Every conversation in `tests/conversations/`, with its answers in `snapshots/`.

use std::{collections::BTreeSet, path::PathBuf};

use radio_istic::{
    client::TransportKind,
    transcript::{Stage, StorageKind, Target, replay},
};

use crate::{mongo, support::package};

/// Plays a conversation and compares the answers with the snapshot. The snapshot is the same one
/// for every storage and every transport: clients cannot tell them apart.
async fn transcript_matches(name: &str, server: &Stage) {
    let path = conversation(name);
    let transcript = replay(&path, server).await.unwrap_or_else(|error| panic!("{error:#}"));

    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(package("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_input_file(path);
    settings.bind(|| insta::assert_snapshot!(name, transcript));
}

fn conversation(name: &str) -> PathBuf {
    package(&format!("tests/conversations/{name}.txt"))
}

/// All conversation files.
pub fn conversations() -> Vec<PathBuf> {
    let files = std::fs::read_dir(package("tests/conversations")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

fn over_polling() -> Stage {
    Stage { transport: TransportKind::Polling, ..Stage::own() }
}

pub async fn on_mongodb() -> Stage {
    let target = Target::Own {
        storage: StorageKind::Mongodb,
        mongodb_uri: Some(mongo::shared_uri("").await),
    };
    Stage { target, ..Stage::own() }
}

macro_rules! conversations {
    ($($(#[$slow:meta])* $test:ident = $name:literal $(, over_polling: $why:literal)?;)*) => {
        $(
            mod $test {
                use super::*;

                #[tokio::test(flavor = "multi_thread")]
                $(#[$slow])*
                async fn on_sqlite() {
                    transcript_matches($name, &Stage::own()).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                $(#[$slow])*
                $(#[ignore = $why])?
                async fn over_polling() {
                    transcript_matches($name, &super::over_polling()).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                $(#[$slow])*
                #[cfg_attr(not(mongodb), ignore = "needs MongoDB or Python 3")]
                async fn on_mongodb() {
                    let server = super::on_mongodb().await;
                    transcript_matches($name, &server).await;
                }
            }
        )*

        #[test]
        fn every_conversation_is_played() {
            let played = BTreeSet::from([$($name.to_owned()),*]);
            let written = conversations()
                .iter()
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect::<BTreeSet<_>>();
            assert_eq!(played, written);
        }
    };
}

conversations! {
    two_people_talk = "two-people";
    the_seeds_test_client_works_as_it_is = "seed-client";
    a_user_is_online_as_long_as_one_socket_is = "presence", over_polling: "slow: a heartbeat";
    anybody_can_join_an_open_room = "open-room";
    only_participants_take_part = "membership";
    a_stranger_who_joined_early_is_evicted = "early-stranger";
    history_comes_in_pages = "paging";
    a_retry_is_answered_with_the_first_message = "retries";
    typing_ends = "typing";
    #[ignore = "slow: a time-out"]
    typing_ends_by_itself = "typing-timeout";
    receipts_reach_everybody_once = "receipts";
    conversations_are_listed = "conversation-list";
    participants_are_told = "participants";
    a_socket_has_one_identity = "identity";
    invalid_payloads_are_refused = "wrong-payloads";
    rooms_are_left = "leaving";
    users_who_wait_for_a_room_become_participants = "waiting-room";
    a_message_has_its_limits = "limits";
    a_restart_is_a_lost_connection_and_no_more = "restart";
    pages_of_other_origins_stay_outside = "origins";
    a_token_names_its_user = "tokens";
}
