//! GPUs for systemd-nspawn machines of any distribution: what a machine is given, and how it finds it.
//!
//! ```text
//! names ─Registry─▶ ContainerEdits ─┐
//! hooks ─their words─▶ apply::Request ─┼─plan─▶ Preparation ─┬─render─▶ settings, arguments, drop-in, bundle, flat spec
//! Root of this machine ─read─▶ Sources ─┤          │         ├─prepare─▶ State: tree, manifest ─cleanup─▶ nothing
//! Root of the guest ─inspect─▶ Guest ───┴─findings─┘         └─attach─▶ State: tree, record ─detach─▶ nothing
//! ```
//!
//! nspawn knows no CDI and runs no hooks, and a file bound to where nothing was leaves an empty one behind in the
//! machine's tree. So everything goes into one tree, bound at [`TREE`]: /run is nspawn's own, fresh
//! with every start. What a spec wants elsewhere is found there by the loader ([`Loader`]), by variables, or
//! by a bind of its own where the place is nspawn's too; what can only be opened at a path of the machine's own
//! tree is told ([`Preparation::notices`]).
//!
//! [`inspect`](guest::inspect), [`read`](sources::Sources::read) and [`Machine::find`] look; [`plan`](plan::plan)
//! decides, and [`findings`] judges. These two, `options`, `preparation`, `places`, [`settings_file`] and
//! [`render::nspawn`](crate::render::nspawn) are functions of their arguments alone. [`prepare()`] and [`attach`] do, in
//! the machine's state ([`STATES`]), where it is written down before it is done.
//! The guest's tree is untrusted: it is read through its [`Root`](crate::Root), and nothing of it is executed.

pub mod attach;
mod changes;
mod cleanup;
pub mod findings;
mod groups;
pub mod guest;
mod loader;
mod machine;
mod manifest;
mod missing;
mod options;
mod places;
pub mod plan;
mod preparation;
mod prepare;
mod sandbox;
mod settings;
pub mod settings_file;
pub mod sources;
mod state;
mod tree;

pub use cleanup::cleanup;
pub use guest::Guest;
pub use machine::{Machine, MachineRoot, SettingsFile};
pub use missing::{Missing, all_there};
pub use options::{LoaderKind, Options, Refused, RootKind, UnknownLoader, Wanted};
pub(crate) use places::Places;
pub use plan::plan;
pub use preparation::{Bind, BindSource, Content, Farm, Loader, Node, NodeKind, Preparation, TreeEntry, Way};
pub use prepare::{Decided, Failed, Order, Told, prepare, preview};
pub use sandbox::Sandbox;
pub use settings::{SettingsPlace, remove_block};
pub use sources::Sources;
pub use state::{STATES, check_name, name_of_run, process_of_run, state_directory};

/// Where a machine has its tree.
pub const TREE: &str = "/run/gpuspec";
