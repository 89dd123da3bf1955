//! The drop-in checklist of spec/pmond.md §13, its ten lines as ten tests: what
//! must be so for pmon to be put in pmond's place on a host whose other programs
//! know nothing of it. Each asserts the essence of its line by itself; most lines
//! are tested in more depth elsewhere. That there are ten of them is checked with
//! the field stories (`no_field_story_comes_true`).
//!
//! Not here: the unit's name is a package's to give, and there is none yet.

mod commands;
mod configuration;
mod detection;
mod failures;
mod messages;
