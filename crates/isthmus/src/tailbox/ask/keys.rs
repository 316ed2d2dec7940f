//! Auth keys.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Common;
use super::api::{Api, text, texts};
use super::table::{moment, table};

const KEYS: &str = "tailnet/-/keys";

/// What to do with auth keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Makes an auth key; it is shown this once
    Create(Create),
    /// Lists keys
    List(Common),
    /// Deletes a key; nodes that joined with it stay
    Delete {
        #[command(flatten)]
        common: Common,
        /// The key's id
        id: String,
    },
}

/// What the key shall be.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    common: Common,
    /// Tags of nodes that join with it
    #[arg(long, value_name = "TAG,…", value_delimiter = ',', required = true)]
    tags: Vec<String>,
    /// More than one node may join with it
    #[arg(long)]
    reusable: bool,
    /// Its nodes are removed soon after they disconnect
    #[arg(long)]
    ephemeral: bool,
    /// Its nodes need no approval
    #[arg(long)]
    preauthorized: bool,
    /// How long nodes may join with it: a number and `s`, `m`, `h` or `d`
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = seconds)]
    expiry: u64,
    /// What the list of keys says about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
}

pub(super) async fn answer(ask: Ask) -> anyhow::Result<String> {
    match ask {
        Ask::Create(create) => make(&create).await,
        Ask::List(common) => {
            let keys = Api::open(&common)?.get("list keys", KEYS).await?;
            Ok(if common.json {
                keys.to_string()
            } else {
                list(&keys["keys"])
            })
        }
        Ask::Delete { common, id } => {
            let path = format!("{KEYS}/{}", super::api::segment(&id));
            Api::open(&common)?.delete(&format!("delete key {id}"), &path).await?;
            Ok(if common.json {
                json!({"deleted": id}).to_string()
            } else {
                format!("key {id} is deleted")
            })
        }
    }
}

async fn make(create: &Create) -> anyhow::Result<String> {
    let devices = json!({"create": {
        "reusable": create.reusable,
        "ephemeral": create.ephemeral,
        "preauthorized": create.preauthorized,
        "tags": create.tags,
    }});
    let body = json!({
        "capabilities": {"devices": devices},
        "expirySeconds": create.expiry,
        "description": create.description,
    });
    let key = Api::open(&create.common)?
        .post("create an auth key", KEYS, &body)
        .await?;
    if create.common.json {
        return Ok(key.to_string());
    }
    let uses = if create.reusable {
        "any number of nodes"
    } else {
        "one node"
    };
    Ok(format!(
        "{}\nkey {}: for {uses}, until {}; it is not shown again",
        text(&key, "key"),
        text(&key, "id"),
        moment(text(&key, "expires")),
    ))
}

fn list(keys: &Value) -> String {
    let rows = keys.as_array().into_iter().flatten().map(|key| {
        let create = &key["capabilities"]["devices"]["create"];
        let words = [
            ("reusable", "reusable"),
            ("ephemeral", "ephemeral"),
            ("preauthorized", "preauthorized"),
        ];
        let kinds = words
            .iter()
            .filter(|(member, _)| create[*member] == true)
            .map(|(_, word)| *word);
        [
            text(key, "id").to_owned(),
            text(key, "keyType").to_owned(),
            texts(&key["tags"]).join(","),
            kinds.collect::<Vec<_>>().join(","),
            moment(text(key, "expires")),
            if key["invalid"] == true { "spent" } else { "usable" }.to_owned(),
            text(key, "description").to_owned(),
        ]
    });
    table(
        ["ID", "TYPE", "TAGS", "KIND", "EXPIRES", "STATE", "DESCRIPTION"],
        &rows.collect::<Vec<_>>(),
    )
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "write a number and s, m, h or d: 12h".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(unit)
        .filter(|seconds| *seconds > 0)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn time_is_a_number_and_a_unit() {
        for (text, expected) in [("5s", 5), ("2m", 120), ("12h", 43200), ("90d", 7_776_000)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in ["", "d", "1", "1w", "-1h", "0d", "1.5h", "ä"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
