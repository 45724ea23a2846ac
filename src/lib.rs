//! Stanchion.
