//! Protocols and ports of a policy.

use isthmus_tailnet_wire::control::PortRange;

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ParseError(String);

impl ParseError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Ports of some protocols.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Service {
    /// IP protocol numbers; empty means TCP, UDP and ICMP, as in a filter rule.
    pub(super) protocols: Vec<i64>,
    /// The ports.
    pub(super) ports: PortRange,
}

/// Every port.
pub(super) const ALL_PORTS: PortRange = PortRange {
    first: 0,
    last: u16::MAX,
};

impl Service {
    /// All ports of TCP and UDP, and ICMP.
    pub(super) const ALL: Self = Self {
        protocols: Vec::new(),
        ports: ALL_PORTS,
    };

    /// Reads an entry of `ip` of a grant: `*`, `80`, `80-90`, `tcp:443`, `udp:*`, `icmp`, or a protocol's number.
    pub(super) fn parse_all(text: &str) -> Result<Vec<Self>, ParseError> {
        if let Some((protocol, ports)) = text.split_once(':') {
            let protocols = protocols(protocol)?;
            let ranges = ranges(ports)?;
            return Ok(ranges
                .into_iter()
                .map(|ports| Self {
                    protocols: protocols.clone(),
                    ports,
                })
                .collect());
        }
        if let Ok(ranges) = ranges(text) {
            return Ok(ranges
                .into_iter()
                .map(|ports| Self {
                    protocols: Vec::new(),
                    ports,
                })
                .collect());
        }
        Ok(vec![Self {
            protocols: protocols(text)?,
            ports: ALL_PORTS,
        }])
    }
}

/// Reads a protocol: its name, its number, or nothing for the usual ones.
pub(super) fn protocols(text: &str) -> Result<Vec<i64>, ParseError> {
    Ok(match text {
        "" => Vec::new(),
        "tcp" => vec![6],
        "udp" => vec![17],
        "icmp" => vec![1, 58],
        "igmp" => vec![2],
        "ipv4" | "ip-in-ip" => vec![4],
        "egp" => vec![8],
        "igp" => vec![9],
        "gre" => vec![47],
        "esp" => vec![50],
        "ah" => vec![51],
        "sctp" => vec![132],
        number => {
            let number: u8 = number
                .parse()
                .map_err(|_| ParseError::new(format!("{text:?} is not a protocol")))?;
            vec![i64::from(number)]
        }
    })
}

/// Reads ports: `*`, or ports and ranges with commas between them.
pub(super) fn ranges(text: &str) -> Result<Vec<PortRange>, ParseError> {
    if text == "*" {
        return Ok(vec![ALL_PORTS]);
    }
    text.split(',')
        .map(|part| {
            let wrong = || ParseError::new(format!("{part:?} is not a port or range of ports"));
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = PortRange {
                first: first.parse().map_err(|_| wrong())?,
                last: last.parse().map_err(|_| wrong())?,
            };
            if range.first <= range.last {
                Ok(range)
            } else {
                Err(wrong())
            }
        })
        .collect()
}
