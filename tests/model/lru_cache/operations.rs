//! The operations and the settings of a cache, as they are decoded from bytes.

use std::hash::{BuildHasher, Hasher};

use arbitrary::Arbitrary;

/// An operation on the cache or on its callers.
#[derive(Debug, Arbitrary)]
pub(super) enum Op {
    Get { key: u8 },
    Peek { key: u8 },
    Contains { key: u8 },
    Insert { key: u8, weight: u8 },
    Remove { key: u8 },
    RemoveEntry { key: u8 },
    PopLru,
    Clear { sure: u8 },
    Retain { mask: u16, panics: u8 },
    RemoveIf { key: u8, answer: u8 },
    Update { key: u8, byte: u8, panics: u8 },
    ForEach { panics: u8 },
    SetCapacity { to: u8 },
    Entries,
    Advance { seconds: u8 },
    Load { key: u8, kind: Kind, waker: bool, later: u8 },
    LoadMany { key: u8, kinds: [Kind; 4], waker: bool },
    Poll { which: u8, waker: bool },
    PollAll { waker: bool },
    Cancel { which: u8 },
    Finish { which: u8, how: Ending },
    FinishAll { how: Ending },
    Block { key: u8, kind: Kind, how: Ending, inside: u8 },
    Print,
    ClonePanics,
    ReportPanics,
}

/// The errors of a caller's loader.
#[derive(Clone, Copy, Debug, PartialEq, Arbitrary)]
pub(super) enum Kind {
    Never,
    A,
    B,
}

/// The end of a loader.
#[derive(Clone, Copy, Debug, PartialEq, Arbitrary)]
pub(super) enum Ending {
    Good(u8),
    Failure,
    Panic,
}

impl Ending {
    pub(super) fn of(self, kind: Kind) -> Self {
        if (self, kind) == (Self::Failure, Kind::Never) { Self::Good(1) } else { self }
    }
}

/// Returns the weight of a value, or `None` if the weigher panics.
pub(super) fn weight(byte: u8) -> Option<u64> {
    match byte {
        0..224 => Some(u64::from(byte % 6)),
        224..248 => Some(u64::MAX - u64::from(byte % 2)),
        248.. => None,
    }
}

/// Returns the value's own time to live in seconds, if it has one.
pub(super) fn own_ttl(byte: u8) -> Option<u64> {
    Some(u64::from(byte / 6 % 5)).filter(|&ttl| ttl < 4)
}

/// The settings of a cache.
#[derive(Clone, Debug, Default, Arbitrary)]
pub(super) struct Settings {
    pub(super) capacity: u8,
    pub(super) shards: u8,
    pub(super) weighs: bool,
    pub(super) listens: bool,
    /// In seconds, if they are limited.
    pub(super) ttl: u8,
    pub(super) idle: u8,
    /// Values may have a time to live of their own.
    pub(super) expire_after: bool,
    pub(super) mix: Mix,
}

/// The limits of an entry's time, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) ttl: Option<u64>,
    pub(super) idle: Option<u64>,
    pub(super) expire_after: bool,
}

impl Settings {
    pub(super) fn limits(&self) -> Limits {
        let limit = |byte| match byte {
            255 => Some(u64::MAX / 2),
            byte => Some(u64::from(byte % 12)).filter(|&limit| limit < 5),
        };
        Limits { ttl: limit(self.ttl), idle: limit(self.idle), expire_after: self.expire_after }
    }
}

impl Limits {
    pub(super) fn need_a_clock(self) -> bool {
        self.ttl.is_some() || self.idle.is_some() || self.expire_after
    }
}

pub(super) fn after(now: u64, limit: Option<u64>) -> u64 {
    limit.map_or(u64::MAX, |limit| now + limit)
}

pub(super) fn capacity(byte: u8) -> usize {
    if byte == 255 { usize::MAX } else { usize::from(byte % 9) }
}

/// A hasher of keys.
#[derive(Clone, Copy, Debug, Default, Arbitrary)]
pub(super) enum Mix {
    #[default]
    Well,
    /// To three values.
    Few,
    /// Not at all.
    Plain,
}

pub(super) struct Mixed(Mix, u64);

impl BuildHasher for Mix {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(*self, 0)
    }
}

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.1 = match self.0 {
                Mix::Well => (self.1 ^ u64::from(byte)).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                Mix::Few => u64::from(byte % 3).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                Mix::Plain => byte.into(),
            }
        }
    }

    fn finish(&self) -> u64 {
        self.1
    }
}
