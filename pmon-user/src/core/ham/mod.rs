//! HAM's model: a tree of entities, conditions and actions, and what is to be
//! done when something happens to an entity.
//!
//! An *entity* is a process with a name, or a name that is yet to get its
//! process. A *condition* says what may happen to it, and carries *actions*,
//! which are carried out in the order in which they were added. The tree
//! belongs to the daemon; whoever registered an object may be gone.
//!
//! What happens becomes *runs*: for each condition that is true, one run of its
//! action list as it stands. Runs wait for their turn in *lanes*:
//!
//! * conditions with `HCONDNOWAIT` share one lane that nothing may delay;
//! * those with `HCONDINDEPENDENT` only have a lane each;
//! * all the others, of all entities, share one, in which a wait delays those
//!   behind it.
//!
//! Must stay true: a lane carries out one run at a time, in the order in which
//! the conditions became true; a run carries out what the list held when its
//! condition became true; nothing is done for an object that is disabled.
//!
//! `name`, `flags`, `condition`, `action` and `entity` are what the tree is made
//! of, `tree` is how it is changed, `trigger` says which conditions are true,
//! `run` and `lane` carry lists out, `heartbeat` counts missed beats. `Ham` puts
//! them together.

pub mod action;
pub mod condition;
pub mod entity;
pub mod flags;
pub mod heartbeat;
pub mod lane;
mod lifecycle;
pub mod name;
pub mod refusal;
pub mod run;
pub mod tree;
pub mod trigger;

#[cfg(test)]
mod tests;

pub use self::lifecycle::{Effect, Ham};
