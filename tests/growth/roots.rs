//! Driver roots that no package installs.
