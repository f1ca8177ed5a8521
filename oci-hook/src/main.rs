//! oci-hook: makes the driver usable inside a container that a runtime is about to start.

fn main() {}
