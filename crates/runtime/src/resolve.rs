//! Names to addresses, without the C library: a static binary would load code at run time for that.
//!
//! The servers, search domains and `ndots` are those of `/etc/resolv.conf`, read again at each question, and `/etc/hosts`
//! is respected. An address written as text never leads to a question.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one of several addresses may take to answer before the next is tried.
const TURN: Duration = Duration::from_secs(4);

/// Asks the name servers of a `resolv.conf`. Keeps nothing between questions.
#[derive(Debug, Clone)]
pub struct Resolver {
    conf: PathBuf,
}

/// What a name leads to, in one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses; none when the name does not exist or has none of the family.
    pub addresses: BTreeSet<IpAddr>,
    /// How long the servers vouch for it. Zero when there are no addresses.
    pub valid_for: Duration,
}

/// Answers of both families. One may fail without the other.
#[derive(Debug)]
pub struct Answers {
    /// Addresses of IPv4.
    pub v4: Result<Answer, ResolveError>,
    /// Addresses of IPv6.
    pub v6: Result<Answer, ResolveError>,
}

/// Why a name could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name servers are not known.
    #[error("cannot read the name servers from {path}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The servers did not answer, or with an error.
    #[error("cannot resolve {name}")]
    Lookup {
        /// The name.
        name: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The servers know no address of the name.
    #[error("cannot resolve {name}: it has no address")]
    NoAddress {
        /// The name.
        name: String,
    },
}

/// Why there is no connection to a host.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its name has no address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// None of its addresses takes the connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address that was tried last.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Default for Resolver {
    /// The resolver of this machine or container.
    fn default() -> Self {
        Self::new("/etc/resolv.conf")
    }
}

impl Resolver {
    /// A resolver with the name servers of another file of that form.
    pub fn new(conf: impl Into<PathBuf>) -> Self {
        Self { conf: conf.into() }
    }

    /// All addresses of a host, in the order in which they should be tried; at least one. Search domains apply.
    ///
    /// # Errors
    /// [`ResolveError`] when there is none.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let found = match self.open()?.lookup_ip(host).await {
            Ok(found) => found.iter().collect(),
            Err(error) if error.is_no_records_found() => Vec::new(),
            Err(error) => return Err(failed(host)(error)),
        };
        if found.is_empty() {
            return Err(ResolveError::NoAddress { name: host.to_owned() });
        }
        Ok(found)
    }

    /// What a name leads to now. It is taken as it is: no search domain is added.
    pub async fn lookup(&self, name: &str) -> Answers {
        if let Ok(address) = name.parse() {
            return Answers::of_literal(address);
        }
        let name = format!("{}.", name.trim_end_matches('.'));
        let (v4, v6) = tokio::join!(
            self.lookup_one(&name, RecordType::A),
            self.lookup_one(&name, RecordType::AAAA)
        );
        Answers { v4, v6 }
    }

    async fn lookup_one(&self, name: &str, kind: RecordType) -> Result<Answer, ResolveError> {
        match self.open()?.lookup(name, kind).await {
            Ok(found) => Ok(Answer {
                addresses: found
                    .answers()
                    .iter()
                    .filter_map(|record| record.data.ip_addr())
                    .collect(),
                valid_for: found.valid_until().saturating_duration_since(Instant::now()),
            }),
            Err(error) if error.is_no_records_found() => Ok(Answer::default()),
            Err(error) => Err(failed(name)(error)),
        }
    }

    /// Connects by TCP; several addresses are tried in turn. The caller limits the time.
    ///
    /// # Errors
    /// [`ConnectError`] of the last address, or when there is none.
    ///
    /// # Cancel safety
    /// Dropping the future gives the connection up.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let addresses = self.addresses(host).await?;
        let (last, others) = addresses.split_last().expect("a resolved host has an address");
        for address in others {
            let attempt = TcpStream::connect(SocketAddr::new(*address, port));
            if let Ok(Ok(stream)) = timeout(TURN, attempt).await {
                return Ok(stream);
            }
        }
        let address = SocketAddr::new(*last, port);
        let attempt = TcpStream::connect(address).await;
        attempt.map_err(|source| ConnectError::Connect { address, source })
    }

    fn open(&self) -> Result<TokioResolver, ResolveError> {
        let error = |source: Box<dyn std::error::Error + Send + Sync>| ResolveError::Configuration {
            path: self.conf.clone(),
            source,
        };
        let text = std::fs::read(&self.conf).map_err(|source| error(source.into()))?;
        let (mut config, mut options) = parse_resolv_conf(text).map_err(|source| error(source.into()))?;
        // It would come from the machine's own name, which no Pod means.
        config.domain = None;
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build().map_err(|source| error(source.into()))
    }
}

impl Answers {
    fn of_literal(address: IpAddr) -> Self {
        let mut answers = Self {
            v4: Ok(Answer::default()),
            v6: Ok(Answer::default()),
        };
        let own = if address.is_ipv4() {
            &mut answers.v4
        } else {
            &mut answers.v6
        };
        *own = Ok(Answer {
            addresses: BTreeSet::from([address]),
            valid_for: Duration::MAX,
        });
        answers
    }
}

fn failed(name: &str) -> impl FnOnce(NetError) -> ResolveError {
    let name = name.trim_end_matches('.').to_owned();
    move |source| ResolveError::Lookup {
        name,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::{ConnectError, ResolveError, Resolver};

    /// Without name servers: a question would fail.
    fn without_servers() -> Resolver {
        Resolver::new("/nonexistent/resolv.conf")
    }

    #[tokio::test]
    async fn address_as_text_leads_to_no_question() {
        let resolver = without_servers();
        assert_eq!(
            resolver.addresses("192.0.2.7").await.unwrap(),
            ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]
        );
        let answers = resolver.lookup("2001:db8::7").await;
        assert!(answers.v4.unwrap().addresses.is_empty());
        assert_eq!(answers.v6.unwrap().addresses.len(), 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        resolver.connect("127.0.0.1", port).await.unwrap();
    }

    #[tokio::test]
    async fn missing_configuration_is_named() {
        let error = without_servers().connect("db.example.com", 1).await.unwrap_err();
        assert!(matches!(
            error,
            ConnectError::Resolve(ResolveError::Configuration { .. })
        ));
        assert!(error.to_string().contains("/nonexistent/resolv.conf"));
    }
}
