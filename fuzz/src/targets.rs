//! The targets, one per reader.

mod addressed;
mod datagrams;
mod documents;
mod names;
mod packets;
mod streams;
mod wishes;

/// A reader, with what has to hold of all that it reads.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its corpus as well.
    pub name: &'static str,
    /// Reads an input. Panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All targets by name.
pub const TARGETS: &[Target] = &[
    Target {
        name: "annotations",
        run: wishes::annotations,
    },
    Target {
        name: "api_answers",
        run: wishes::api_answers,
    },
    Target {
        name: "c2n",
        run: streams::requests_of_control,
    },
    Target {
        name: "checksum",
        run: packets::checksum,
    },
    Target {
        name: "derp",
        run: streams::derp_frames,
    },
    Target {
        name: "device_config",
        run: documents::device_config,
    },
    Target {
        name: "disco",
        run: datagrams::disco,
    },
    Target {
        name: "dns_forward",
        run: names::forwarded_answer,
    },
    Target {
        name: "dns_node",
        run: names::question_to_the_node,
    },
    Target {
        name: "dns_tailbox",
        run: names::question_to_tailbox,
    },
    Target {
        name: "early",
        run: streams::early_payload,
    },
    Target {
        name: "filter",
        run: packets::filter,
    },
    Target {
        name: "identity",
        run: documents::identity,
    },
    Target {
        name: "ip",
        run: packets::header,
    },
    Target {
        name: "map_frames",
        run: streams::map_frames,
    },
    Target {
        name: "map_request",
        run: documents::map_request,
    },
    Target {
        name: "map_response",
        run: documents::map_response,
    },
    Target {
        name: "netmap",
        run: addressed::netmap,
    },
    Target {
        name: "noise",
        run: streams::noise,
    },
    Target {
        name: "peer_file",
        run: documents::peer_file,
    },
    Target {
        name: "policy",
        run: documents::policy,
    },
    Target {
        name: "proxy_config",
        run: documents::proxy_config,
    },
    Target {
        name: "proxy_status",
        run: documents::proxy_status,
    },
    Target {
        name: "records",
        run: streams::records,
    },
    Target {
        name: "register",
        run: documents::register,
    },
    Target {
        name: "segments",
        run: packets::segments,
    },
    Target {
        name: "snapshot",
        run: documents::snapshot,
    },
    Target {
        name: "stun",
        run: datagrams::stun,
    },
    Target {
        name: "tsmp",
        run: packets::tsmp,
    },
];

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use crate::corpus;

    #[test]
    fn every_target_has_a_corpus() {
        for target in TARGETS {
            let inputs = corpus::read(&corpus::folder(target.name)).unwrap();
            assert!(!inputs.is_empty(), "{}", target.name);
        }
    }
}
