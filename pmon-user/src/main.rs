//! The one binary `pmon`; everything is in the library beside it.

fn main() {}
