//! Nodes.

use std::collections::BTreeSet;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Common;
use super::api::{Api, segment, text, texts};
use super::table::{moment, table};

/// What to do with nodes. A node is named by its name, an address or an id.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Lists the nodes
    List(Common),
    /// Shows all about a node
    Show(One),
    /// Removes a node from the tailnet; it has to log in again
    Delete(One),
    /// Ends the life of a node's key; it has to log in again
    Expire(One),
    /// Lets a node that waits for approval use the tailnet
    Approve(One),
    /// Gives a node exactly these tags
    Tag {
        #[command(flatten)]
        one: One,
        /// The tags
        #[arg(value_name = "TAG", required = true)]
        tags: Vec<String>,
    },
    /// Approves and withdraws routes that nodes offer
    #[command(subcommand)]
    Routes(Routes),
}

/// What to do with routes.
#[derive(Debug, Subcommand)]
pub(crate) enum Routes {
    /// Lets a node carry these routes, now or once it offers them
    Approve(Prefixes),
    /// Lets a node carry these routes no longer
    Withdraw(Prefixes),
}

/// A node.
#[derive(Debug, Args)]
pub(crate) struct One {
    #[command(flatten)]
    common: Common,
    /// Name, address or id of the node
    node: String,
}

/// Routes of a node.
#[derive(Debug, Args)]
pub(crate) struct Prefixes {
    #[command(flatten)]
    one: One,
    /// The routes; all that the node offers by default
    #[arg(value_name = "PREFIX")]
    prefixes: Vec<String>,
}

pub(super) async fn answer(ask: Ask) -> anyhow::Result<String> {
    match ask {
        Ask::List(common) => {
            let devices = list(&Api::open(&common)?).await?;
            Ok(if common.json {
                devices.to_string()
            } else {
                rows(&devices)
            })
        }
        Ask::Show(one) => {
            let (_, device) = find(&one).await?;
            Ok(if one.common.json {
                device.to_string()
            } else {
                details(&device)
            })
        }
        Ask::Delete(one) => {
            let (api, device) = find(&one).await?;
            let action = format!("delete node {}", one.node);
            api.delete(&action, &path(&device, "")).await?;
            Ok(done(&one, &device, "is deleted"))
        }
        Ask::Expire(one) => change(&one, "expire", &json!({}), "has to log in again").await,
        Ask::Approve(one) => change(&one, "authorized", &json!({"authorized": true}), "may use the tailnet").await,
        Ask::Tag { one, tags } => {
            let has = format!("has the tags {}", tags.join(","));
            change(&one, "tags", &json!({"tags": tags}), &has).await
        }
        Ask::Routes(Routes::Approve(prefixes)) => set_routes(&prefixes, true).await,
        Ask::Routes(Routes::Withdraw(prefixes)) => set_routes(&prefixes, false).await,
    }
}

async fn list(api: &Api) -> anyhow::Result<Value> {
    api.get("list nodes", "tailnet/-/devices?fields=all").await
}

/// The node that is meant. A name without the tailnet's domain will do.
async fn find(one: &One) -> anyhow::Result<(Api, Value)> {
    let api = Api::open(&one.common)?;
    let wanted = one.node.trim_end_matches('.');
    let devices = list(&api).await?;
    let mut devices = devices["devices"].as_array().into_iter().flatten();
    let found = devices.find(|device| {
        let name = text(device, "name");
        let label = name.split('.').next().unwrap_or_default();
        name.eq_ignore_ascii_case(wanted)
            || label.eq_ignore_ascii_case(wanted)
            || [text(device, "id"), text(device, "nodeId")].contains(&wanted)
            || texts(&device["addresses"]).contains(&wanted)
    });
    let node = &one.node;
    let device = found.ok_or_else(|| anyhow!("the tailbox has no node {node}; see `isthmus tailbox node list`"))?;
    let device = device.clone();
    Ok((api, device))
}

async fn change(one: &One, what: &str, body: &Value, outcome: &str) -> anyhow::Result<String> {
    let (api, device) = find(one).await?;
    let action = format!("change node {}", one.node);
    api.post(&action, &path(&device, &format!("/{what}")), body).await?;
    Ok(done(one, &device, outcome))
}

async fn set_routes(wanted: &Prefixes, approve: bool) -> anyhow::Result<String> {
    let one = &wanted.one;
    let (api, device) = find(one).await?;
    let mut enabled: BTreeSet<&str> = texts(&device["enabledRoutes"]).into_iter().collect();
    let mut named: Vec<&str> = wanted.prefixes.iter().map(String::as_str).collect();
    if named.is_empty() {
        named = texts(&device["advertisedRoutes"]);
    }
    if named.is_empty() {
        bail!(
            "node {} offers no routes: name those that it may carry once it does",
            one.node
        );
    }
    for prefix in named {
        if approve {
            enabled.insert(prefix);
        } else {
            enabled.remove(prefix);
        }
    }
    let action = format!("set the routes of node {}", one.node);
    let body = json!({"routes": enabled});
    let routes = api.post(&action, &path(&device, "/routes"), &body).await?;
    if one.common.json {
        return Ok(routes.to_string());
    }
    let enabled = texts(&routes["enabledRoutes"]).join(" ");
    let what = if enabled.is_empty() { "no routes" } else { &enabled };
    Ok(format!("{} may carry {what}", text(&device, "name")))
}

fn path(device: &Value, rest: &str) -> String {
    format!("device/{}{rest}", segment(text(device, "nodeId")))
}

fn done(one: &One, device: &Value, outcome: &str) -> String {
    if one.common.json {
        json!({"nodeId": device["nodeId"], "name": device["name"]}).to_string()
    } else {
        format!("{} {outcome}", text(device, "name"))
    }
}

fn rows(devices: &Value) -> String {
    let devices = devices["devices"].as_array().into_iter().flatten();
    let rows = devices.map(|device| {
        [
            text(device, "name").to_owned(),
            texts(&device["addresses"])
                .first()
                .copied()
                .unwrap_or_default()
                .to_owned(),
            text(device, "nodeId").to_owned(),
            owner(device),
            state(device),
        ]
    });
    table(["NAME", "ADDRESS", "ID", "OWNER", "STATE"], &rows.collect::<Vec<_>>())
}

fn details(device: &Value) -> String {
    let or_none = |texts: Vec<&str>| {
        if texts.is_empty() {
            "none".to_owned()
        } else {
            texts.join(" ")
        }
    };
    let expires = if device["keyExpiryDisabled"] == true {
        "never".to_owned()
    } else {
        moment(text(device, "expires"))
    };
    let lines = [
        ("Name", text(device, "name").to_owned()),
        ("Id", text(device, "nodeId").to_owned()),
        ("Addresses", or_none(texts(&device["addresses"]))),
        ("Owner", owner(device)),
        ("State", state(device)),
        ("Host name", text(device, "hostname").to_owned()),
        ("System", text(device, "os").to_owned()),
        ("Client", text(device, "clientVersion").to_owned()),
        ("Joined", moment(text(device, "created"))),
        ("Key expires", expires),
        (
            "Ephemeral",
            if device["isEphemeral"] == true { "yes" } else { "no" }.to_owned(),
        ),
        ("Routes offered", or_none(texts(&device["advertisedRoutes"]))),
        ("Routes approved", or_none(texts(&device["enabledRoutes"]))),
    ];
    let lines = lines.map(|(name, value)| format!("{name:17}{value}").trim_end().to_owned());
    lines.join("\n")
}

fn owner(device: &Value) -> String {
    match texts(&device["tags"]) {
        tags if tags.is_empty() => text(device, "user").to_owned(),
        tags => tags.join(","),
    }
}

fn state(device: &Value) -> String {
    if device["authorized"] == false {
        "waits for approval".to_owned()
    } else if device["connectedToControl"] == true {
        "online".to_owned()
    } else {
        format!("offline since {}", moment(text(device, "lastSeen")))
    }
}
