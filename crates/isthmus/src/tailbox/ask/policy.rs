//! The policy.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;
use isthmus_tailnet_api::{Method, Reply};
use serde_json::{Value, json};

use super::Common;
use super::api::{Api, text};

const POLICY: &str = "tailnet/-/acl";

/// What to do with the policy.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Prints the policy as its author wrote it
    Show(Common),
    /// Says what is wrong with a policy, and changes nothing
    Check {
        #[command(flatten)]
        common: Common,
        /// The policy as HuJSON
        file: PathBuf,
    },
    /// Replaces the policy
    Set {
        #[command(flatten)]
        common: Common,
        /// The policy as HuJSON
        file: PathBuf,
        /// Only if the present policy has this ETag, as `show --json` prints it; the one of this moment by default
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
}

pub(super) async fn answer(ask: Ask) -> anyhow::Result<String> {
    match ask {
        Ask::Show(common) => {
            let reply = present(&Api::open(&common)?).await?;
            let policy = String::from_utf8_lossy(&reply.body).into_owned();
            Ok(if common.json {
                json!({"etag": reply.etag, "policy": policy}).to_string()
            } else {
                policy
            })
        }
        Ask::Check { common, file } => {
            let (api, policy) = (Api::open(&common)?, read(&file)?);
            let path = format!("{POLICY}/validate");
            let reply = api.send("check the policy", Method::POST, &path, policy, None).await?;
            let found: Value = serde_json::from_slice(&reply.body).context("understand the tailbox's answer")?;
            match text(&found, "message") {
                "" if common.json => Ok(json!({"valid": true}).to_string()),
                "" => Ok(format!("{} is a policy", file.display())),
                problem => bail!("{} is no policy: {problem}", file.display()),
            }
        }
        Ask::Set { common, file, if_match } => {
            let (api, policy) = (Api::open(&common)?, read(&file)?);
            let etag = match if_match {
                Some(etag) => Some(etag),
                None => present(&api).await?.etag,
            };
            let action = format!("replace the policy by {}", file.display());
            let reply = api.send(&action, Method::POST, POLICY, policy, etag).await?;
            Ok(if common.json {
                json!({"etag": reply.etag}).to_string()
            } else {
                format!("{} is the policy now", file.display())
            })
        }
    }
}

async fn present(api: &Api) -> anyhow::Result<Reply> {
    api.send("read the policy", Method::GET, POLICY, Vec::new(), None).await
}

fn read(file: &PathBuf) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read the policy {}", file.display()))
}
