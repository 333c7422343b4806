//! The SDK as a crate; nexus.rs says what everything is for.
#![no_std]

mod nexus;
pub use nexus::*;
