//! Tags of a proxy's device: from the auth key at first, through the tailnet's API afterwards.
//!
//! What the device carries is noted on the Secret, so that knowing it costs no call.

use std::time::Duration;

use isthmus_contract::secret_key;

use super::{
    desired::{Login, known_tags, tag_list},
    input::Input,
    intent::Wanted,
    plan::{Action, key_id, text},
};

/// When tags are tried again on a device that the API did not know: one that has just come, or one whose proxy is about to ask for another.
pub(super) const CHECK: Duration = Duration::from_mins(1);

/// The tags that the device carries, as far as is known.
pub(super) fn on_device(input: &Input) -> Option<String> {
    if let Some(tags) = &input.tagged {
        return Some(tag_list(tags));
    }
    match (&input.minted, &input.children.secret) {
        // The first key there ever was: the device gets its tags.
        (Some(minted), None) => Some(minted.tags.clone()),
        // Nobody knows which of the two keys the device will have used.
        (Some(minted), Some(secret)) if key_id(secret).as_ref() != Some(&minted.id) => None,
        (_, secret) => secret.as_ref().and_then(known_tags).map(str::to_owned),
    }
}

/// The call that gives an existing device the tags wanted, if it has others or nobody knows.
pub(super) fn change(input: &Input, wanted: &Wanted, login: &Login) -> Option<Action> {
    if !matches!(login, Login::Done { .. }) || on_device(input).as_deref() == Some(tag_list(&wanted.tags).as_str()) {
        return None;
    }
    let device = text(input.children.secret.as_ref()?, secret_key::DEVICE_ID)?;
    Some(Action::SetDeviceTags {
        device: device.to_owned(),
        tags: wanted.tags.clone(),
    })
}

#[cfg(test)]
mod tests;
