//! Relays.

use std::collections::BTreeMap;

use crate::object::wire_struct;

wire_struct! {
    /// All relay regions. A Go client stays below the state "Running" while there is none.
    pub struct DerpMap {
        /// How clients choose their home region.
        omit "HomeParams" => home_params: Option<DerpHomeParams>,
        /// Regions by number.
        always "Regions" => regions: BTreeMap<i64, DerpRegion>,
        /// Whether the public relays shall be left out, for servers that merge maps.
        omit "omitDefaultRegions" => omit_default_regions: bool,
    }
}

wire_struct! {
    /// How clients choose their home region.
    pub struct DerpHomeParams {
        /// Factor on the measured latency by region number; below 1 makes a region more likely.
        omit "RegionScore" => region_score: BTreeMap<i64, f64>,
    }
}

wire_struct! {
    /// A relay region: nodes that forward among themselves.
    pub struct DerpRegion {
        /// The region's number, from 1 to 65535.
        always "RegionID" => region_id: i64,
        /// Short name.
        always "RegionCode" => region_code: String,
        /// Name for people.
        always "RegionName" => region_name: String,
        /// Whether no client shall choose it as its home.
        omit "Avoid" => avoid: bool,
        /// Whether clients shall neither measure it nor choose it as their home.
        omit "NoMeasureNoHome" => no_measure_no_home: bool,
        /// The nodes, in the order in which to try them.
        always "Nodes" => nodes: Vec<DerpNode>,
    }
}

wire_struct! {
    /// A relay.
    pub struct DerpNode {
        /// Unique name.
        always "Name" => name: String,
        /// Number of its region.
        always "RegionID" => region_id: i64,
        /// Name or address to dial, and the name in its certificate.
        always "HostName" => host_name: String,
        /// The name in its certificate where it differs, or `sha256-raw:<hex>`, the hash of the one certificate.
        omit "CertName" => cert_name: String,
        /// Address to dial; empty to resolve, `none` for no IPv4.
        omit "IPv4" => ipv4: String,
        /// Address to dial; empty to resolve, `none` for no IPv6.
        omit "IPv6" => ipv6: String,
        /// UDP port of STUN: 0 is 3478, -1 is none.
        omit "STUNPort" => stun_port: i32,
        /// Whether it answers only STUN.
        omit "STUNOnly" => stun_only: bool,
        /// TCP port of the relay: 0 is 443.
        omit "DERPPort" => derp_port: u16,
        /// Whether its certificate is not verified.
        omit "InsecureForTests" => insecure_for_tests: bool,
        /// Address for STUN in tests.
        omit "STUNTestIP" => stun_test_ip: String,
        /// Whether port 80 answers for the detection of captive portals.
        omit "CanPort80" => can_port80: bool,
    }
}
