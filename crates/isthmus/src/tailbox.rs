//! `isthmus tailbox`: a tailnet in one process, for demos and tests.

mod ask;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use isthmus_runtime::{
    Secret, Shutdown,
    log::{self, Format},
};
use isthmus_tailbox::{Config, OauthClientConfig, Tailbox, parse_derp_map, unreachable_derp_map};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Run a tailnet for demos and tests: control server and management API. Not for production.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    ask: Option<ask::Ask>,
    /// `info`, `debug`, or directives such as `info,isthmus_tailbox=debug`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    logging: String,
    /// Address for clients and API alike. Whoever reaches it can try auth keys and tokens in clear text.
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))]
    listen: SocketAddr,
    /// File to keep the state in (mode 0600, replaced as a whole); without it, nothing survives the process.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// DNS suffix of the tailnet.
    #[arg(long, value_name = "DOMAIN", default_value = "tail.internal")]
    domain: String,
    /// Relays as a JSON DERP map. Without it, clients are told of one that does not exist and reach each other only directly.
    #[arg(long, value_name = "FILE")]
    derp_map: Option<PathBuf>,
    /// Address for a relay of its own (TLS on TCP, STUN on UDP), one that nodes reach. Without it and without a DERP map,
    /// nodes reach each other only directly.
    #[arg(long, value_name = "ADDR")]
    relay: Option<SocketAddr>,
    /// Address at which authorities that issue certificates ask for the records of nodes (DNS over UDP and TCP). With it,
    /// nodes may get certificates for their names.
    #[arg(long, value_name = "ADDR")]
    dns: Option<SocketAddr>,
    /// Policy as HuJSON: who may give which tag, who may reach what. It replaces the one in the state; without any,
    /// everybody may reach everybody.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Nodes wait for approval, unless their auth key brings it.
    #[arg(long)]
    device_approval: bool,
    /// OAuth client of the API, and the file that holds its secret.
    #[arg(long, value_name = "ID:SECRET-FILE")]
    oauth_client: Option<OauthClientArg>,
    /// Where to write a generated OAuth client as JSON {client_id, client_secret} (mode 0600); an existing file is
    /// used.
    #[arg(long, value_name = "FILE", conflicts_with = "oauth_client")]
    credentials_out: Option<PathBuf>,
    /// Tag that auth keys of the OAuth client may give; may be repeated.
    #[arg(long = "oauth-tag", value_name = "TAG", default_values = ["tag:k8s-operator", "tag:k8s"])]
    oauth_tags: Vec<String>,
}

#[derive(Clone, Debug)]
struct OauthClientArg {
    id: String,
    secret_file: PathBuf,
}

impl FromStr for OauthClientArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((id, file)) if !id.is_empty() && !file.is_empty() => Ok(Self {
                id: id.to_owned(),
                secret_file: file.into(),
            }),
            _ => Err("write the client's id, a colon, and the file that holds its secret"),
        }
    }
}

/// The content of the file of generated credentials.
#[derive(Serialize, Deserialize)]
struct Credentials {
    client_id: String,
    client_secret: String,
}

/// Runs until a signal ends it, or asks the one that runs.
pub(crate) async fn run(mut args: Arguments) -> anyhow::Result<()> {
    if let Some(what) = args.ask.take() {
        return ask::ask(what).await;
    }
    log::init(&args.logging, Format::Text)?;
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().context("install the signal handlers")?;
    raise_descriptor_limit();
    let config = config(args)?;
    tracing::warn!("tailbox is for demos and tests: it is NOT a production control server");
    if !config.listen.ip().is_loopback() {
        tracing::warn!(address = %config.listen, "tailbox listens beyond this machine, without TLS");
    }
    if config.oauth_clients.is_empty() {
        tracing::warn!("no OAuth client is given: the API admits nobody; see --credentials-out");
    }
    let tailbox = Tailbox::start(config).await?;
    print_ready(&tailbox).context("print the ready line")?;
    shutdown.begun().await;
    tailbox.stop().await.context("stop")
}

/// Lets as many nodes be connected as the system permits: many shells permit 1,024 unless asked.
fn raise_descriptor_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "limit of open files not raised: fewer nodes can be connected");
    }
}

/// The one line on standard output: programs wait for it.
fn print_ready(tailbox: &Tailbox) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "tailbox listens on {} (for demos and tests only)", tailbox.url())?;
    out.flush()
}

fn config(args: Arguments) -> anyhow::Result<Config> {
    let domain = args.domain.trim_matches('.').to_ascii_lowercase();
    anyhow::ensure!(!domain.is_empty(), "--domain must not be empty");
    let derp_map = match &args.derp_map {
        Some(path) => {
            let json = fs::read(path).with_context(|| format!("read DERP map {}", path.display()))?;
            parse_derp_map(&json).with_context(|| format!("read DERP map {}", path.display()))?
        }
        None => unreachable_derp_map(),
    };
    let policy = args
        .policy
        .as_deref()
        .map(|path| fs::read_to_string(path).with_context(|| format!("read policy {}", path.display())));
    let tags: BTreeSet<String> = args.oauth_tags.into_iter().collect();
    let client = match (&args.oauth_client, &args.credentials_out) {
        (Some(given), _) => Some(given_client(given)?),
        (None, Some(path)) => Some(generated_client(path)?),
        (None, None) => None,
    };
    let oauth_clients = client.into_iter().map(|(id, secret)| OauthClientConfig {
        id,
        secret,
        tags: tags.clone(),
    });
    Ok(Config {
        listen: args.listen,
        domain,
        state_file: args.state,
        derp_map,
        relay: args.relay,
        dns: args.dns,
        policy: policy.transpose()?,
        device_approval: args.device_approval,
        oauth_clients: oauth_clients.collect(),
        ..Config::default()
    })
}

fn given_client(given: &OauthClientArg) -> anyhow::Result<(String, Secret)> {
    let path = given.secret_file.display();
    let content = fs::read_to_string(&given.secret_file).with_context(|| format!("read OAuth secret {path}"))?;
    let secret = Secret::from_file_content(&content);
    anyhow::ensure!(!secret.is_empty(), "OAuth secret {path} is empty");
    Ok((given.id.clone(), secret))
}

fn generated_client(path: &Path) -> anyhow::Result<(String, Secret)> {
    match fs::read(path) {
        Ok(content) => {
            // The cause could repeat the secret, so it stays out of the message.
            let credentials: Credentials = serde_json::from_slice(&content).map_err(|_| {
                anyhow::anyhow!(
                    "read credentials {}: not JSON with client_id and client_secret",
                    path.display()
                )
            })?;
            Ok((credentials.client_id, Secret::new(credentials.client_secret)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (id, secret) = isthmus_tailbox::generate_oauth_client();
            write_credentials(path, &id, &secret).with_context(|| format!("write credentials {}", path.display()))?;
            Ok((id, secret))
        }
        Err(error) => Err(error).with_context(|| format!("read credentials {}", path.display())),
    }
}

fn write_credentials(path: &Path, id: &str, secret: &Secret) -> io::Result<()> {
    let credentials = Credentials {
        client_id: id.to_owned(),
        client_secret: secret.expose().to_owned(),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(&credentials)?)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn generated_client_is_written_once_and_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.json");
        let first = generated_client(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(generated_client(&path).unwrap() == first);
    }

    #[test]
    fn oauth_client_is_an_id_and_a_file() {
        let client: OauthClientArg = "operator:/run/secret".parse().unwrap();
        assert_eq!(
            (client.id.as_str(), client.secret_file.as_path()),
            ("operator", Path::new("/run/secret"))
        );
        assert!("operator".parse::<OauthClientArg>().is_err());
    }
}
