//! The one binary `pmon`: `pmon daemon` and every client verb.

mod core;

fn main() {}
