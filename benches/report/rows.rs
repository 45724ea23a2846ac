//! The rows of the page, primitive by primitive. They and their peers are what is measured by default.

use crate::OURS;

/// A table of the page.
pub struct Primitive {
    pub name: &'static str,
    /// The columns after ours.
    pub peers: &'static [&'static str],
    pub rows: &'static [Row],
    /// What a reader has to know to judge the rows.
    pub note: &'static str,
}

/// A line of a table.
#[derive(Clone, Copy)]
pub struct Row {
    primitive: &'static str,
    /// `kind/work`, as the bench names it.
    work: &'static str,
    /// Which figure, if the bench measures other things than time.
    figure: Option<&'static str>,
    pub label: &'static str,
}

impl Row {
    /// The criterion group, or the name of the figures.
    pub fn group(&self) -> String {
        format!("{}/{}", self.primitive, self.work)
    }

    /// The name of the result.
    pub fn name(&self) -> String {
        self.figure.map_or(self.group(), |figure| format!("{}: {figure}", self.group()))
    }

    /// A regular expression for `group/contender`.
    pub fn pattern(&self) -> String {
        let primitive = PRIMITIVES.iter().find(|primitive| primitive.name == self.primitive);
        let peers = primitive.map_or(&[][..], |primitive| primitive.peers);
        let contenders: Vec<String> = [OURS].iter().chain(peers).map(|name| regex::escape(name)).collect();
        format!("{}/({})", regex::escape(&self.group()), contenders.join("|"))
    }
}

/// All rows of all tables.
pub fn all() -> impl Iterator<Item = &'static Row> {
    PRIMITIVES.iter().flat_map(|primitive| primitive.rows)
}

/// `rows!("primitive": "kind/work" => "label", "kind/work", "figure" => "label", ..)`
macro_rules! rows {
    ($primitive:literal: $($work:literal $(, $figure:literal)? => $label:literal;)+) => {
        &[$(Row { primitive: $primitive, work: $work, figure: rows!(@ $($figure)?), label: $label }),+]
    };
    (@ $figure:literal) => { Some($figure) };
    (@) => { None };
}

pub const PRIMITIVES: [Primitive; 6] = [
    Primitive {
        name: "semaphore",
        peers: &["tokio", "async-lock", "futures-intrusive", "mea"],
        rows: rows!("semaphore":
            "free/acquire" => "acquire + release";
            "free/acquire_owned" => "acquire_owned + release";
            "free/try_acquire" => "try_acquire + release";
            "queue/hand-off, counted waker" => "hand-off";
            "queue/wait + cancel, counted waker" => "wait + cancel";
            "storm/100,000 waiters" => "100,000 waiters, served at once; for each";
            "runtime/current thread, held across a yield, 64 tasks" => "1 worker, 16 permits, 64 tasks, held over a yield";
            "runtime/two workers, held across a yield, 4 permits, 64 tasks" => "2 workers, 4 permits, 64 tasks, held over a yield";
            "runtime/two workers, held across a yield, 10 permits, 1,000 tasks" => "2 workers, 10 permits, 1,000 tasks, held over a yield";
            "runtime/two workers, held across a yield, 100 permits, 1,000 tasks" => "2 workers, 100 permits, 1,000 tasks, held over a yield";
            "runtime/two workers, no yield, 16 tasks" => "2 workers, 1 permit, 16 tasks, never yielding";
            "threads/as many permits, 2 threads" => "2 threads, 2 permits";
        ),
        note: "async-lock lets a running task overtake all waiters, which saves most wake-ups where tasks contend. \
            futures-intrusive links waiters by pointers, in `unsafe` code, and grants one after the other.",
    },
    Primitive {
        name: "mutex",
        peers: &["tokio", "async-lock", "futures", "futures-intrusive", "mea", "parking_lot"],
        rows: rows!("mutex":
            "free/lock" => "lock + unlock";
            "free/try_lock" => "try_lock + unlock";
            "queue/hand-off, counted waker" => "hand-off";
            "queue/wait + cancel, counted waker" => "wait + cancel";
            "runtime/two workers, held across a yield, 2 tasks" => "2 workers, 2 tasks, held over a yield";
            "runtime/two workers, held across a yield, 16 tasks" => "2 workers, 16 tasks, held over a yield";
            "runtime/two workers, no yield, 16 tasks" => "2 workers, 16 tasks, never yielding";
            "threads/one lock, 2 threads" => "2 threads, blocking_lock";
        ),
        note: "async-lock, futures and parking_lot let the running task or thread take the lock again; a fair mutex \
            hands it to a waiter that sleeps.",
    },
    Primitive {
        name: "priority_queue",
        peers: &["tokio mpsc", "async-priority-channel", "parking_lot BinaryHeap", "parking_lot BTreeMap", "std mpsc"],
        rows: rows!("priority_queue":
            "push_pop/16 priorities, depth 0" => "push + pop, 16 priorities, depth 0";
            "push_pop/16 priorities, depth 100" => "push + pop, 16 priorities, depth 100";
            "push_pop/16 priorities, depth 10,000" => "push + pop, 16 priorities, depth 10,000";
            "push_pop/all distinct, depth 10,000" => "push + pop, all distinct, depth 10,000";
            "push_pop/all distinct, depth 1,000,000" => "push + pop, all distinct, depth 1,000,000";
            "push_remove/all distinct, depth 10,000" => "push + remove by key, depth 10,000";
            "set_priority/all distinct, depth 10,000" => "set_priority, depth 10,000";
            "wait/a pop for a push" => "a pop waits for a push";
            "runtime/4 producers, 4 consumers" => "2 workers, 4 producers, 4 consumers";
            "drain/16 priorities, 1,000,000 items", "slowest pop, ns" => "slowest pop of 1,000,000, 16 priorities";
            "drain/all distinct, 1,000,000 items", "slowest pop, ns" => "slowest pop of 1,000,000, all distinct";
        ),
        note: "Channels have no priorities: their columns are the price of having some. A heap and a map behind a lock \
            have no waiters, and the heap has no keys. async-priority-channel keeps no order among equals.",
    },
    Primitive {
        name: "task_queue",
        peers: &["tokio spawn"],
        rows: rows!("task_queue":
            "round_trip/current thread, ready at once" => "1 worker, one task and its handle";
            "round_trip/two workers, yields once" => "2 workers, one task that yields, and its handle";
            "burst/current thread, ready at once, 1,000 tasks" => "1 worker, 1,000 tasks; for each";
            "burst/two workers, yields once, 1,000 tasks" => "2 workers, 1,000 tasks that yield; for each";
        ),
        note: "`tokio::spawn` runs tasks in no order that a caller chooses, so it needs no queue that all workers share.",
    },
    Primitive {
        name: "pool",
        peers: &["deadpool", "deadpool unmanaged", "bb8", "tokio Semaphore + Vec"],
        rows: rows!("pool":
            "free/get" => "get + return";
            "free/get, own recycle" => "get + return, with a check";
            "free/get, with lifetimes" => "get + return, with lifetimes";
            "free/get, fixed" => "get + return, fixed objects";
            "queue/hand-off" => "hand-off";
            "queue/wait + cancel" => "wait + cancel";
            "storm/100,000 give up" => "100,000 waiters give up; for each";
            "runtime/two workers, held across a yield, 8 tasks, 2 objects" => "2 workers, 2 objects, 8 tasks, held over a yield";
            "runtime/two workers, held across a yield, 100 tasks, 10 objects" => "2 workers, 10 objects, 100 tasks, held over a yield";
            "spike/of 50, none idle", "connections begun" => "50 getters, none idle: objects begun";
            "spike/of 50, none idle", "ms until all are done" => "50 getters, none idle: ms until all are done";
            "wait/100 tasks, 10 objects, held for 1 ms", "longest ms" => "10 objects, 100 tasks: longest wait, ms";
            "overload/1.3x, check 2 ms, create 100 ms", "capacity / served" => "1.3x load, check 2 ms, create 100 ms: capacity / served";
            "overload/2x, check 5 ms, create 200 ms", "capacity / served" => "2x load, check 5 ms, create 200 ms: capacity / served";
            "overload/3x, check 10 ms, create 1000 ms", "capacity / served" => "3x load, check 10 ms, create 1 s: capacity / served";
            "overload/1.3x, check 2 ms, create 100 ms", "creations begun" => "1.3x load, check 2 ms, create 100 ms: creations begun";
        ),
        note: "bb8 wakes a waiter but does not reserve the object for it. A getter can be served by an object or by a \
            slot, so that its wait costs more than a semaphore's, which is all that deadpool and the `Vec` wait in. \
            Under load callers arrive at random, for a minute of paused time; each waits for 500 ms at most, and uses one of \
            10 objects for 20 ms. At 1.0 all that 10 objects can serve is served.",
    },
    Primitive {
        name: "lru_cache",
        peers: &["quick_cache", "moka", "lru + parking_lot", "schnellru + parking_lot", "hashlink + parking_lot"],
        rows: rows!("lru_cache":
            "free/hit" => "hit";
            "free/miss" => "miss";
            "free/insert + evict" => "insert + evict";
            "load/miss" => "load of an absent key";
            "size/hit, 1,000,000" => "hit, 1,000,000 entries";
            "threads/zipf, 1 thread" => "zipf 0.99, 16 shards, 1 thread";
            "threads/zipf, 2 threads" => "zipf 0.99, 16 shards, 2 threads";
            "threads/zipf, 4 threads" => "zipf 0.99, 16 shards, 4 threads";
            "hits/zipf, room for 10 %", "% misses" => "zipf 0.99, room for 10 % of the keys: % misses";
            "hits/zipf and scans, room for 1 %", "% misses" => "zipf 0.99 and scans, room for 1 %: % misses";
        ),
        note: "All hash with rustc-hash. In an exact LRU a hit is a write; quick_cache only marks the entry, and moka notes \
            the read for later. Both also count uses, which no LRU does, and so miss less.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_names_and_patterns() {
        let drain = all().find(|row| row.work.starts_with("drain/16")).unwrap();
        assert_eq!(drain.name(), "priority_queue/drain/16 priorities, 1,000,000 items: slowest pop, ns");
        let pattern = regex::Regex::new(&format!("^{}$", drain.pattern())).unwrap();
        assert!(pattern.is_match("priority_queue/drain/16 priorities, 1,000,000 items/std mpsc"));
        assert!(!pattern.is_match("priority_queue/drain/16 priorities, 1,000,000 items/flume"));
    }
}
