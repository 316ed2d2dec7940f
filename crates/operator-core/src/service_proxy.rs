//! A Service with a proxy of its own: exposed to the tailnet, or leading to a device of the tailnet.

pub mod cleanup;
pub mod desired;
mod input;
mod intent;
mod name;
mod plan;
mod status;
#[cfg(test)]
pub(crate) mod test_objects;
mod user_spec;

pub use input::{Child, Children, ControlProblem, Input, MintedKey};
pub use intent::{Direction, Intent, Problem, Wanted, concerns, is_tag};
pub use plan::{Action, AuthKeyWanted, Note, NoteKind, Plan, key_description_prefix, plan};
pub use user_spec::{SpecPatch, is_redirected};
