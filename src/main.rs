//! The `batchveo` command.

fn main() {}
