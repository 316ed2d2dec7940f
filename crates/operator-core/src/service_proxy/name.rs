//! Names of proxies: the same for the same Service every time, without asking anybody.

use std::collections::BTreeSet;

use isthmus_contract::name::{SUFFIX_ALPHABET, SUFFIX_LENGTH, proxy_name};
use k8s_openapi::api::core::v1::Service;
use sha2::{Digest as _, Sha256};

/// How often another suffix is tried when a name belongs to somebody else.
const ATTEMPTS: u8 = 16;

/// The name that the proxy of a Service has unless somebody else has it.
pub fn usual_name(service: &Service) -> String {
    let (parent, uid) = origin(service);
    free_name(parent, uid, &BTreeSet::new())
}

/// All names that the proxy of a Service may get: whoever has another name is not in its way.
pub fn possible_names(service: &Service) -> BTreeSet<String> {
    let (parent, uid) = origin(service);
    (0..=ATTEMPTS).map(|attempt| candidate(parent, uid, attempt)).collect()
}

fn origin(service: &Service) -> (&str, &str) {
    let metadata = &service.metadata;
    (
        metadata.name.as_deref().unwrap_or_default(),
        metadata.uid.as_deref().unwrap_or_default(),
    )
}

/// The name for the proxy of `parent`: `ts-<parent>-` and letters that come from `uid`. When that name is in `taken`,
/// the next of a fixed row.
pub(super) fn free_name(parent: &str, uid: &str, taken: &BTreeSet<String>) -> String {
    (0..ATTEMPTS)
        .map(|attempt| candidate(parent, uid, attempt))
        .find(|name| !taken.contains(name))
        .unwrap_or_else(|| candidate(parent, uid, ATTEMPTS))
}

fn candidate(parent: &str, uid: &str, attempt: u8) -> String {
    proxy_name(parent, &suffix(uid, attempt))
}

fn suffix(uid: &str, attempt: u8) -> String {
    let digest = Sha256::new().chain_update(uid).chain_update([attempt]).finalize();
    digest[..SUFFIX_LENGTH]
        .iter()
        .map(|byte| char::from(SUFFIX_ALPHABET[usize::from(*byte) % SUFFIX_ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests;
