//! The Container Device Interface: its documents as values.

pub mod spec;

pub use spec::{ContainerEdits, Device, DeviceNode, Hook, IntelRdt, Mount, NetDevice, Spec};
