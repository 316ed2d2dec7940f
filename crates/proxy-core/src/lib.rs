//! What a proxy does with its configuration: rule plan, route plan, and what a change requires. Pure.
//!
//! The way of the data: the configuration comes from [`Settings`] (environment, read once) or a document. With what its
//! names lead to now it gives a [`Mode`]; the mode and what the tailnet node says of itself give a [`Plan`]; the plan
//! gives the whole [`RulePlan`] and [`RoutePlan`] and says of any tracked flow whether it may live on
//! ([`Plan::admits`]). Nothing here is patched: every change derives everything anew.

mod documents;
mod flow;
mod mode;
mod names;
mod plan;
mod publication;
mod relay;
mod routes;
mod rules;
mod settings;
mod versioned_config;

pub use documents::{Configuration, DocumentError, Documents, Sources};
pub use flow::{Flow, FlowEnd};
pub use mode::{Egress, Ingress, IngressPorts, Mode, ModeError, TargetName};
pub use names::{Guard, KnownName, Reply};
pub use plan::{Path, Paths, Plan, ReservedPorts, TUN_NAME, TailnetAddresses, Tun, Way};
pub use publication::{Device, Publication};
pub use relay::{RelayListeners, RelayPlan, RelayPorts, RelayRoute, RelayedPorts};
pub use routes::{
    DeviceSetting, Family, PolicyRule, RoutePlan, Selector, Setting, TABLE, TableRoute, TableRouteKind, WhichDevice,
};
pub use rules::{
    Action, BaseChain, Chain, ChainType, Direction, Hook, MARK_FROM_TAILNET, MARK_TO_TAILNET, Match, PortSet, Protocol,
    Rule, RulePlan, TABLE_NAME, TRACK, TRACK_EGRESS, TRACK_INGRESS, TRACK_MASK, TRACK_RELAYED,
};
pub use settings::{Login, LoginSource, PathSetting, PodIdentity, Settings, SettingsError, SettingsProblem};
pub use versioned_config::{
    CAPABILITY_VERSION, VersionedConfig, VersionedConfigError, parse_versioned_config, select_versioned_config,
};
