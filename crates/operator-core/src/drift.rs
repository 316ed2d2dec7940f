//! Whether an object has to be applied: what we want against what is there.
//!
//! Two questions. Does the live object hold everything wanted? And did we, when we applied last, want the same? The
//! second finds fields we have stopped wanting, which the first cannot see among defaults and other people's fields.

use isthmus_contract::annotation;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::quantity;

/// Members whose values are amounts of resources, which the API server rewrites.
const AMOUNTS: [&str; 2] = ["limits", "requests"];
/// Bytes of the hash that are kept.
const HASH_BYTES: usize = 8;

/// Notes in `object`'s annotations what it looks like. The last thing a builder does.
pub fn seal<T: Serialize>(mut object: T, metadata: fn(&mut T) -> &mut ObjectMeta) -> T {
    let text = serde_json::to_vec(&object).expect("Kubernetes objects always serialise");
    let digest = Sha256::digest(text);
    let hash = hex::encode(&digest[..HASH_BYTES]);
    metadata(&mut object)
        .annotations
        .get_or_insert_default()
        .insert(annotation::APPLIED_HASH.to_owned(), hash);
    object
}

/// Whether `desired`, made by [`seal`], has to be applied over `live`.
pub fn needs_apply<T: Serialize>(desired: &T, live: Option<&T>) -> bool {
    live.is_none_or(|live| !holds(&json(live), &json(desired)))
}

fn json<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("Kubernetes objects always serialise")
}

/// Whether `live` has every member of `wanted`. Lists must have equal lengths, since a longer one has elements nobody
/// here asked for.
fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(name, value)| match live.get(name) {
            Some(other) if AMOUNTS.contains(&name.as_str()) => holds_amounts(other, value),
            Some(other) => holds(other, value),
            None => is_empty(value),
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| holds(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

/// As [`holds`], of a map from resources to amounts.
fn holds_amounts(live: &Value, wanted: &Value) -> bool {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else {
        return holds(live, wanted);
    };
    let amount = |value: &Value| value.as_str().map(str::to_owned);
    wanted.iter().all(|(name, value)| {
        let (live, wanted) = (live.get(name).and_then(amount), amount(value));
        live.zip(wanted)
            .is_some_and(|(live, wanted)| quantity::same(&live, &wanted))
    })
}

/// The API server drops empty members.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests;
