//! `isthmus operator`: reads the environment and runs the operator.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_kubernetes::{ACCOUNT_FOLDER, in_cluster};
use isthmus_operator_core::{cluster_domain, service_proxy::is_tag, settings::Settings};
use isthmus_runtime::{
    Shutdown,
    log::{self, Format},
};
use isthmus_tailnet_api as tailnet;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long one request to the tailnet's API may take.
const TAILNET_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the Services of a cluster: gives each that asks for it a proxy on the tailnet.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Namespace of the operator and its proxies; that of its Pod by default
    #[arg(long, env = "OPERATOR_NAMESPACE")]
    namespace: Option<String>,
    /// `info`, `debug`, `dev` (debug for people), or directives such as `info,isthmus_operator=debug`
    #[arg(long, env = "OPERATOR_LOGGING", default_value = "info")]
    logging: String,
    /// URL of the control server, with an IP address as its host
    #[arg(long, env = "OPERATOR_LOGIN_SERVER")]
    login_server: String,
    /// URL of the management API, with an IP address as its host; the control server's by default
    #[arg(long, env = "OPERATOR_API_URL")]
    api_url: Option<String>,
    /// What the management API speaks: `tailscale-v2`, `headscale-v1` (Headscale 0.29 and before, with an API key), or `auto` to find out
    #[arg(long, env = "OPERATOR_API", default_value = "auto")]
    api: String,
    /// File with the id of the OAuth client; read again for every request
    #[arg(long, env = "CLIENT_ID_FILE")]
    client_id_file: Option<String>,
    /// File with the secret of the OAuth client; read again for every request
    #[arg(long, env = "CLIENT_SECRET_FILE")]
    client_secret_file: Option<String>,
    /// File with an API key, used instead of an OAuth client if it exists at start; read again for every request
    #[arg(long, env = "OPERATOR_API_KEY_FILE")]
    api_key_file: Option<String>,
    /// Image of the proxies
    #[arg(long, env = "PROXY_IMAGE")]
    proxy_image: String,
    /// Pull policy of that image: `Always`, `IfNotPresent` or `Never`; the cluster's default if not given
    #[arg(long, env = "PROXY_IMAGE_PULL_POLICY")]
    proxy_image_pull_policy: Option<String>,
    /// Tags of devices whose Services name none
    #[arg(long, env = "PROXY_TAGS", default_value = "tag:k8s", value_delimiter = ',')]
    proxy_tags: Vec<String>,
    /// Whether LoadBalancer Services without a class are exposed as well: `true` or `false`
    #[arg(
        long,
        env = "OPERATOR_DEFAULT_LOAD_BALANCER",
        default_value_t = false,
        action = clap::ArgAction::Set,
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    default_load_balancer: bool,
    /// Priority class of the proxies' Pods
    #[arg(long, env = "PROXY_PRIORITY_CLASS_NAME")]
    proxy_priority_class: Option<String>,
    /// Proxy class of Services that name none
    #[arg(long, env = "PROXY_DEFAULT_CLASS")]
    proxy_default_class: Option<String>,
    /// DNS domain of the cluster; found in /etc/resolv.conf by default
    #[arg(long, env = "CLUSTER_DOMAIN")]
    cluster_domain: Option<String>,
    /// Certificate authorities to believe beside the public ones, a PEM file
    #[arg(long, env = "SSL_CERT_FILE")]
    extra_authorities: Option<PathBuf>,
    /// Where health and metrics are served
    #[arg(long, env = "OPERATOR_LISTEN", default_value = "[::]:8080")]
    listen: SocketAddr,
    /// Folder with the token, the namespace and the certificate authorities of a ServiceAccount
    #[arg(long, env = "OPERATOR_SERVICE_ACCOUNT", default_value = ACCOUNT_FOLDER)]
    service_account: PathBuf,
    /// Name of this replica
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    pod_name: String,
}

/// Runs the operator until SIGTERM or SIGINT.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    match arguments.logging.as_str() {
        "dev" => log::init("debug", Format::Text)?,
        filter => log::init(filter, Format::Json)?,
    }
    let shutdown = Shutdown::new();
    shutdown.begin_on_signals().context("cannot install signal handlers")?;
    let client = in_cluster(&arguments.service_account).context("cannot find the Kubernetes API server")?;
    let config = config(arguments)?;
    isthmus_operator::run(client, config, shutdown).await?;
    Ok(())
}

fn config(arguments: Arguments) -> Result<isthmus_operator::Config> {
    let login_server = arguments.login_server.trim_end_matches('/').to_owned();
    Ok(isthmus_operator::Config {
        tailnet: tailnet_client(
            &arguments,
            non_empty(arguments.api_url.clone()).as_ref().unwrap_or(&login_server),
        )?,
        listen: arguments.listen,
        instance: arguments.pod_name.clone(),
        settings: settings(arguments, login_server)?,
    })
}

fn tailnet_client(arguments: &Arguments, base_url: &str) -> Result<tailnet::Client> {
    let authorities = arguments.extra_authorities.as_ref().map(|path| {
        fs::read(path).with_context(|| format!("cannot read certificate authorities from {}", path.display()))
    });
    let config = tailnet::Config {
        base_url: base_url.to_owned(),
        credentials: credentials(arguments)?,
        user_agent: concat!("isthmus-operator/", env!("CARGO_PKG_VERSION")).to_owned(),
        timeout: TAILNET_TIMEOUT,
        tls: tailnet::client_config(authorities.transpose()?.as_deref())?,
    };
    let has_oauth = !matches!(config.credentials, tailnet::Credentials::ApiKeyFile(_));
    let client = tailnet::Client::new(config)?;
    Ok(match dialect(&arguments.api, has_oauth)? {
        Some(dialect) => client.speaking(dialect),
        None => client,
    })
}

/// What the tailnet's API speaks; nothing where the operator has to find out.
fn dialect(api: &str, has_oauth: bool) -> Result<Option<tailnet::Dialect>> {
    match api {
        "" | "auto" => Ok(None),
        "tailscale-v2" => Ok(Some(tailnet::Dialect::TailscaleV2)),
        "headscale-v1" => {
            ensure!(
                !has_oauth,
                "OPERATOR_API is headscale-v1, which has no OAuth clients: put an API key into the Secret as `api_key`"
            );
            Ok(Some(tailnet::Dialect::HeadscaleV1))
        }
        other => bail!("OPERATOR_API is `{other}`: write auto, tailscale-v2 or headscale-v1"),
    }
}

fn credentials(arguments: &Arguments) -> Result<tailnet::Credentials> {
    let path = |argument: &Option<String>| non_empty(argument.clone()).map(PathBuf::from);
    let client = path(&arguments.client_id_file).zip(path(&arguments.client_secret_file));
    if let Some(path) = path(&arguments.api_key_file)
        && (path.exists() || client.is_none())
    {
        return Ok(tailnet::Credentials::ApiKeyFile(path));
    }
    let (client_id, client_secret) = client.context(
        "no credentials for the tailnet: set CLIENT_ID_FILE and CLIENT_SECRET_FILE, or OPERATOR_API_KEY_FILE",
    )?;
    Ok(tailnet::Credentials::Files {
        client_id,
        client_secret,
    })
}

fn settings(arguments: Arguments, login_server: String) -> Result<Settings> {
    let namespace = match arguments.namespace {
        Some(namespace) => namespace,
        None => fs::read_to_string(arguments.service_account.join("namespace"))
            .context("cannot tell the operator's namespace: set OPERATOR_NAMESPACE")?
            .trim()
            .to_owned(),
    };
    let proxy_tags: Vec<String> = arguments.proxy_tags.iter().map(|tag| tag.trim().to_owned()).collect();
    for tag in &proxy_tags {
        ensure!(
            is_tag(tag),
            "PROXY_TAGS has `{tag}`, which is not a tag: write tag: and a name, such as tag:k8s"
        );
    }
    let found = || cluster_domain::from_resolv_conf(&fs::read_to_string(RESOLV_CONF).unwrap_or_default(), &namespace);
    let cluster_domain = non_empty(arguments.cluster_domain).or_else(found);
    Ok(Settings {
        proxy_image: arguments.proxy_image,
        proxy_image_pull_policy: non_empty(arguments.proxy_image_pull_policy),
        proxy_priority_class: non_empty(arguments.proxy_priority_class),
        proxy_default_class: non_empty(arguments.proxy_default_class),
        proxy_tags,
        default_load_balancer: arguments.default_load_balancer,
        login_server,
        cluster_domain: cluster_domain.unwrap_or_else(|| cluster_domain::DEFAULT.to_owned()),
        cluster_id: String::new(),
        namespace,
    })
}

/// An environment variable that is set to nothing counts as not set.
fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use isthmus_tailnet_api::Dialect;

    use super::dialect;

    #[test]
    fn language_of_the_api_is_found_out_unless_it_is_set_and_fits_the_credentials() {
        assert_eq!(dialect("auto", true).unwrap(), None);
        assert_eq!(dialect("", false).unwrap(), None);
        assert_eq!(dialect("tailscale-v2", true).unwrap(), Some(Dialect::TailscaleV2));
        assert_eq!(dialect("headscale-v1", false).unwrap(), Some(Dialect::HeadscaleV1));
        assert!(dialect("headscale-v1", true).is_err() && dialect("v3", false).is_err());
    }
}
