//! The parts of the service, each of which can be left out.

use std::fmt;
use std::str::FromStr;

/// A primitive, with its job in the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Semaphore,
    Queue,
    Pool,
    Mutex,
    Cache,
}

impl Part {
    /// The order in which each part helps after those before it: once a semaphore admits, a queue orders the requests that
    /// wait; the pool lends a connection to each that is admitted, the mutex guards the counts of that, and the cache
    /// spares most requests all of it.
    pub const LADDER: [Self; 5] = [Self::Semaphore, Self::Queue, Self::Pool, Self::Mutex, Self::Cache];

    pub fn name(self) -> &'static str {
        match self {
            Self::Semaphore => "semaphore",
            Self::Queue => "queue",
            Self::Pool => "pool",
            Self::Mutex => "mutex",
            Self::Cache => "cache",
        }
    }
}

/// Some of the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts([bool; Part::LADDER.len()]);

impl Parts {
    pub const NONE: Self = Self([false; Part::LADDER.len()]);
    pub const ALL: Self = Self([true; Part::LADDER.len()]);

    pub fn has(self, part: Part) -> bool {
        self.0[part as usize]
    }

    pub fn with(mut self, part: Part) -> Self {
        self.0[part as usize] = true;
        self
    }

    /// In the order of the ladder.
    pub fn names(self) -> Vec<&'static str> {
        Part::LADDER.into_iter().filter(|&part| self.has(part)).map(Part::name).collect()
    }

    /// Each of the 32.
    #[cfg(test)]
    pub fn every() -> impl Iterator<Item = Self> {
        (0..1 << Part::LADDER.len()).map(|bits: u32| Self(std::array::from_fn(|part| bits >> part & 1 == 1)))
    }
}

/// Short enough for a column of a table.
impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing: Vec<_> = Part::LADDER.into_iter().filter(|&part| !self.has(part)).collect();
        match missing[..] {
            [] => f.write_str("with"),
            [part] => write!(f, "all but {}", part.name()),
            _ if *self == Self::NONE => f.write_str("without"),
            _ => f.write_str(&self.names().join(", ")),
        }
    }
}

/// From names with commas between them.
impl FromStr for Parts {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, String> {
        const NONE: &str = "none";
        let choice = || format!("choose from {}, or say {NONE}", Part::LADDER.map(Part::name).join(", "));
        let names: Vec<_> = names.split(',').map(str::trim).collect();
        if names == [NONE] {
            return Ok(Self::NONE);
        }
        names.into_iter().try_fold(Self::NONE, |parts, name| {
            match Part::LADDER.into_iter().find(|part| part.name() == name) {
                Some(part) => Ok(parts.with(part)),
                None if name == NONE => Err(format!("{NONE} stands alone: leave it out, or the parts beside it")),
                None if name.is_empty() => Err(format!("a part is missing: {}", choice())),
                None => Err(format!("there is no part {name}: {}", choice())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_their_names_in_any_order() {
        assert_eq!("none".parse(), Ok(Parts::NONE));
        assert_eq!("cache,mutex, queue,pool,semaphore".parse(), Ok(Parts::ALL));
        assert_eq!("pool".parse(), Ok(Parts::NONE.with(Part::Pool)));
        for parts in Parts::every().skip(1) {
            assert_eq!(parts.names().join(",").parse(), Ok(parts));
        }
    }

    #[test]
    fn an_unknown_part_is_an_error_with_advice() {
        let choice = "choose from semaphore, queue, pool, mutex, cache, or say none";
        for (names, why) in [
            ("", format!("a part is missing: {choice}")),
            ("pool,", format!("a part is missing: {choice}")),
            ("pool,lock", format!("there is no part lock: {choice}")),
            ("none,pool", "none stands alone: leave it out, or the parts beside it".into()),
            ("pool,none", "none stands alone: leave it out, or the parts beside it".into()),
        ] {
            assert_eq!(names.parse::<Parts>(), Err(why), "{names}");
        }
    }

    #[test]
    fn every_set_of_parts_has_a_name_of_its_own() {
        let mut names: Vec<_> = Parts::every().map(|parts| parts.to_string()).collect();
        assert!(names.iter().all(|name| name.len() <= 23), "{names:?}");
        for name in ["without", "with", "all but cache", "semaphore", "queue, pool, mutex"] {
            assert!(names.contains(&name.to_owned()), "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 32);
    }
}
