//! Doors to what reads answers, for the targets in `fuzz/`.

use crate::client::answer;
use crate::dialect::{Dialect, Said};

/// The most letters of [`message_of`].
pub const MESSAGE_LIMIT: usize = answer::MESSAGE_LIMIT;

/// A server's words in an answer that is an error, for people.
pub fn message_of(answer: &[u8]) -> String {
    answer::message_of(answer)
}

/// Reads an answer as every kind of answer that there is; gives the methods and paths of the requests that are made about what it names.
pub fn follow_ups(answer: &[u8]) -> Vec<(String, String)> {
    let dialects = [Dialect::TailscaleV2, Dialect::HeadscaleV1];
    let said = dialects.iter().flat_map(|dialect| {
        let key = |id: &str| dialect.delete_key(id);
        let device = |id: &str| {
            [
                dialect.get_device(id),
                dialect.delete_device(id),
                dialect.set_tags(id, &[]),
            ]
        };
        let keys = dialect.keys(answer).unwrap_or_default();
        let made = dialect.created_key(answer).ok();
        let devices = dialect.devices(answer).unwrap_or_default();
        let one = dialect.device(answer).ok();
        let about_keys = keys
            .iter()
            .map(|found| key(&found.id))
            .chain(made.map(|made| key(&made.id)));
        let about_devices = devices.iter().chain(&one).flat_map(|found| device(&found.node_id));
        about_keys.chain(about_devices).collect::<Vec<Option<Said>>>()
    });
    said.map(|said| said.expect("what a tailnet lists can be asked for"))
        .map(|said| (said.method.to_string(), said.path))
        .collect()
}
