//! A Service with a proxy of its own: exposed to the tailnet, or leading to a device of the tailnet.

pub mod cleanup;
pub mod desired;
mod families;
mod input;
mod intent;
mod load_balancer;
mod name;
mod ownership;
mod plan;
mod status;
mod tags;
#[cfg(test)]
pub(crate) mod test_objects;
mod user_spec;

pub use desired::tag_list;
pub use input::{Child, Children, ControlProblem, Input, MintedKey};
pub use intent::{Direction, Intent, Problem, Wanted, concerns, is_tag};
pub use name::{possible_names, usual_name};
pub use ownership::{belongs, is_for_metrics};
pub use plan::{Action, AuthKeyWanted, Note, NoteKind, OwnStatus, Plan, key_description_prefix, plan};
pub use status::ready_condition;
pub use user_spec::{SpecPatch, is_redirected};
