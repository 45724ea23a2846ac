//! Items, priorities and wakers that re-enter the queue, or panic.

use std::cell::Cell;
use std::cmp::Ordering as Order;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, Weak};
use std::task::{Poll, Waker};

use stanchion::{Closed, Key, Pop, PriorityQueue, Push, TryPopError};

use crate::common::hostile::Hostile;
use crate::common::{self, Check, Counter, Log, Task, assert_numbers, ends, panic_of, poll, poll_with, ready};
use crate::ranked::{FUSE, Ledger, Ranked, compared, id_of, with_fuse};
use crate::{Queue, counts, fill, items, logged_pop, pop_all};

// ---------------------------------------------------------------------------------------------------------------------
// Re-entering
// ---------------------------------------------------------------------------------------------------------------------

thread_local! {
    /// Whether a hook runs: what it drops and wakes runs none.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs the hook of foreign code, unless that hook led here.
fn once_inside(hook: impl FnOnce()) {
    if !INSIDE.replace(true) {
        // A fuse is not for what a hook compares, and a hook that panics is over, too.
        let fuse = FUSE.take();
        let outcome = catch_unwind(AssertUnwindSafe(hook));
        FUSE.set(fuse);
        INSIDE.set(false);
        if let Err(payload) = outcome {
            resume_unwind(payload);
        }
    }
}

/// A priority, or an item, that does something when it is dropped.
#[derive(Default)]
struct Tricky {
    level: u32,
    on_drop: Option<Box<dyn Fn() + Send>>,
}

type Wild = PriorityQueue<Tricky, Tricky>;

impl Tricky {
    fn plain(level: u32) -> Self {
        Self { level, on_drop: None }
    }

    fn new(level: u32, hook: impl Fn() + Send + 'static) -> Self {
        Self { level, on_drop: Some(Box::new(hook)) }
    }
}

impl Drop for Tricky {
    fn drop(&mut self) {
        if let Some(hook) = &self.on_drop {
            once_inside(hook);
        }
    }
}

impl PartialEq for Tricky {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Tricky {}

impl PartialOrd for Tricky {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Tricky {
    fn cmp(&self, other: &Self) -> Order {
        compared();
        self.level.cmp(&other.level)
    }
}

/// What may happen whenever foreign code runs: anything.
fn call_everything(queue: &Wild) {
    let plain = |level| (Tricky::plain(level), Tricky::plain(level));
    let _ = (queue.len(), queue.is_empty(), queue.capacity(), queue.is_closed());
    let _ = (queue.waiting_pops(), queue.waiting_pushes(), format!("{queue:?}"));
    queue.check();
    let push = |level| {
        let (priority, item) = plain(level);
        queue.try_push(priority, item)
    };
    if let Ok(key) = push(5) {
        queue.set_priority(key, Tricky::plain(1));
        drop(queue.remove(key));
    }
    let (priority, item) = plain(2);
    drop(queue.force_push(priority, item));
    let (priority, item) = plain(3);
    let mut pushing = queue.push(priority, item);
    let _ = poll(&mut pushing);
    drop(pushing);
    let mut pop = queue.pop();
    let _ = poll(&mut pop);
    drop(pop);
    let mut into = Vec::new();
    let _ = poll(&mut queue.pop_many(&mut into, 1)).is_ready();
    drop(into);
    drop(queue.try_pop());
    drop(queue.drain());
    queue.check();
}

/// Makes hooks for the foreign code around a queue, which do `act` with it and are counted.
struct Hooks {
    queue: Arc<Wild>,
    runs: Arc<AtomicUsize>,
    act: fn(&Wild),
}

impl Hooks {
    fn new(capacity: usize, act: fn(&Wild)) -> Self {
        Self { queue: Arc::new(Wild::bounded(capacity)), runs: Arc::default(), act }
    }

    fn hook(&self) -> impl Fn() + Send + Sync + 'static {
        let (queue, runs, act): (Weak<Wild>, _, _) = (Arc::downgrade(&self.queue), self.runs.clone(), self.act);
        move || {
            runs.fetch_add(1, Ordering::Relaxed);
            // Without a queue it is the queue that drops.
            if let Some(queue) = queue.upgrade() {
                act(&queue);
            }
        }
    }

    fn tricky(&self, level: u32) -> Tricky {
        Tricky::new(level, self.hook())
    }

    /// How often a hook ran since the last call.
    fn runs(&self) -> usize {
        self.queue.check();
        self.runs.swap(0, Ordering::Relaxed)
    }
}

/// What foreign code may do that the queue must be ready for.
const ACTS: [fn(&Wild); 3] = [call_everything, |queue| queue.close(), |queue| drop(queue.drain())];

#[test]
fn items_and_priorities_may_re_enter_when_they_are_dropped() {
    ends(|| {
        for act in ACTS {
            // A parked push is dropped.
            let hooks = Hooks::new(1, act);
            let queue = &*hooks.queue;
            queue.try_push(Tricky::plain(1), Tricky::plain(1)).ok().unwrap();
            let mut push = queue.push(hooks.tricky(1), hooks.tricky(1));
            assert!(poll(&mut push).is_pending());
            drop(push);
            assert_eq!(hooks.runs(), 2);

            // One that was turned away is dropped.
            let hooks = Hooks::new(1, act);
            let queue = &*hooks.queue;
            queue.try_push(Tricky::plain(1), Tricky::plain(1)).ok().unwrap();
            let mut push = queue.push(hooks.tricky(1), hooks.tricky(1));
            assert!(poll(&mut push).is_pending());
            queue.close();
            drop(push);
            assert_eq!(hooks.runs(), 2);

            // A priority is replaced; and one is not needed.
            let hooks = Hooks::new(1, act);
            let queue = &*hooks.queue;
            let key = queue.try_push(hooks.tricky(1), Tricky::plain(1)).ok().unwrap();
            assert!(queue.set_priority(key, Tricky::plain(2)));
            assert_eq!(hooks.runs(), 1);
            drop(queue.remove(key));
            assert!(!queue.set_priority(key, hooks.tricky(1)));
            assert_eq!(hooks.runs(), 1);

            // What nobody has taken goes with the queue.
            let hooks = Hooks::new(1, act);
            hooks.queue.try_push(hooks.tricky(1), hooks.tricky(1)).ok().unwrap();
            let Hooks { queue, runs, .. } = hooks;
            drop(queue);
            assert_eq!(runs.load(Ordering::Relaxed), 2);
        }
    });
}

#[test]
fn items_may_re_enter_after_a_comparison_panicked() {
    let deeds: [fn(&Hooks, Key); 4] = [
        |hooks, _| drop(hooks.queue.try_push(hooks.tricky(2), hooks.tricky(2))),
        |hooks, _| drop(hooks.queue.force_push(hooks.tricky(2), hooks.tricky(2))),
        |hooks, key| {
            hooks.queue.set_priority(key, hooks.tricky(2));
        },
        |hooks, _| {
            let mut push = hooks.queue.push(hooks.tricky(2), hooks.tricky(2));
            let _ = poll(&mut push).is_ready();
        },
    ];
    ends(move || {
        let mut blown = 0;
        for deed in deeds {
            for capacity in [3, 4] {
                for fuse in 0.. {
                    let hooks = Hooks::new(capacity, call_everything);
                    let keys = [1, 3, 5]
                        .map(|level| hooks.queue.try_push(Tricky::plain(level), Tricky::plain(level)).ok().unwrap());
                    let (priority, item) = (Tricky::plain(4), Tricky::plain(4));
                    let mut parked = (capacity == 3).then(|| hooks.queue.push(priority, item));
                    assert!(parked.as_mut().is_none_or(|push| poll(push).is_pending()));
                    let done = with_fuse(fuse, || deed(&hooks, keys[1])).is_some();
                    hooks.queue.check();
                    if done {
                        break;
                    }
                    assert!(hooks.runs() > 0, "what was refused was dropped");
                    blown += 1;
                    drop(hooks.queue.drain());
                }
            }
        }
        assert!(blown > 8, "{blown}");
    });
}

/// A way to make one wait with a certain waker, and to end its wait; and whether that hands out items, which a panic of
/// the waker would lose, and so must not pass.
type Site = (&'static str, bool, fn(&Arc<Wild>, &Waker));

fn put(queue: &Wild, level: u32) -> Key {
    queue.try_push(Tricky::plain(level), Tricky::plain(level)).ok().unwrap()
}

/// A pop that waits with `waker`, for as long as `end` runs.
fn with_waiting_pop(queue: &Wild, waker: &Waker, end: impl FnOnce()) {
    let mut pop = queue.pop();
    assert!(poll_with(&mut pop, waker).is_pending());
    end();
}

/// A push that is parked with `waker`, for as long as `end` runs; another item is in the queue.
fn with_parked_push(queue: &Wild, waker: &Waker, end: impl FnOnce(Key)) {
    let key = put(queue, 3);
    let mut push = queue.push(Tricky::plain(2), Tricky::plain(2));
    assert!(poll_with(&mut push, waker).is_pending());
    end(key);
}

/// A pop that waits with `waker` on a closed queue whose last item is reserved by another, for as long as `end` runs.
fn with_pop_after_close(queue: &Wild, waker: &Waker, end: impl FnOnce(Key, Pop<'_, Tricky, Tricky>)) {
    let mut reserved = queue.pop();
    assert!(poll(&mut reserved).is_pending());
    let key = put(queue, 1);
    queue.close();
    with_waiting_pop(queue, waker, || end(key, reserved));
}

/// All the places where a waker is woken, in a queue of capacity 1.
const WAKES: [Site; 19] = [
    ("try_push", false, |queue, waker| {
        with_waiting_pop(queue, waker, || {
            put(queue, 1);
        })
    }),
    ("push", false, |queue, waker| {
        with_waiting_pop(queue, waker, || drop(poll(&mut queue.push(Tricky::plain(1), Tricky::plain(1)))))
    }),
    ("force_push", false, |queue, waker| {
        with_waiting_pop(queue, waker, || drop(queue.force_push(Tricky::plain(1), Tricky::plain(1))))
    }),
    ("push for a pop_many", false, |queue, waker| {
        let mut into = Vec::new();
        let mut many = queue.pop_many(&mut into, 3);
        assert!(poll_with(&mut many, waker).is_pending());
        put(queue, 1);
    }),
    ("close for a pop", false, |queue, waker| with_waiting_pop(queue, waker, || queue.close())),
    ("the drop of a reserved pop", false, |queue, waker| {
        let mut reserved = queue.pop();
        assert!(poll(&mut reserved).is_pending());
        put(queue, 1);
        with_waiting_pop(queue, waker, || drop(reserved));
    }),
    ("the drop of a reserved pop_many", false, |queue, waker| {
        let mut into = Vec::new();
        let mut reserved = queue.pop_many(&mut into, 3);
        assert!(poll(&mut reserved).is_pending());
        put(queue, 1);
        with_waiting_pop(queue, waker, || drop(reserved));
    }),
    ("the pop of another, after the close", true, |queue, waker| {
        with_pop_after_close(queue, waker, |_, mut reserved| drop(poll(&mut reserved)));
    }),
    ("a removal after the close", true, |queue, waker| {
        with_pop_after_close(queue, waker, |key, _reserved| drop(queue.remove(key)));
    }),
    ("a drain after the close", true, |queue, waker| {
        with_pop_after_close(queue, waker, |_, _reserved| drop(queue.drain()));
    }),
    ("a push that parks", false, |queue, waker| {
        let mut reserved = queue.pop();
        assert!(poll(&mut reserved).is_pending());
        put(queue, 1);
        with_waiting_pop(queue, waker, || drop(poll(&mut queue.push(Tricky::plain(2), Tricky::plain(2)))));
    }),
    ("try_pop", true, |queue, waker| with_parked_push(queue, waker, |_| drop(queue.try_pop()))),
    ("pop", true, |queue, waker| with_parked_push(queue, waker, |_| drop(poll(&mut queue.pop())))),
    ("pop_many", true, |queue, waker| {
        with_parked_push(queue, waker, |_| {
            let _ = poll(&mut queue.pop_many(&mut Vec::new(), 1));
        });
    }),
    ("a pop of the parked item", true, |queue, waker| {
        let key = put(queue, 1);
        let mut push = queue.push(Tricky::plain(2), Tricky::plain(2));
        assert!(poll_with(&mut push, waker).is_pending());
        drop(queue.try_pop());
        drop(queue.remove(key));
    }),
    ("a reserved pop", true, |queue, waker| {
        let mut reserved = queue.pop();
        assert!(poll(&mut reserved).is_pending());
        with_parked_push(queue, waker, |_| drop(poll(&mut reserved)));
    }),
    ("remove", true, |queue, waker| with_parked_push(queue, waker, |key| drop(queue.remove(key)))),
    ("drain", true, |queue, waker| with_parked_push(queue, waker, |_| drop(queue.drain()))),
    ("close for a push", false, |queue, waker| with_parked_push(queue, waker, |_| queue.close())),
];

#[test]
fn a_waker_may_re_enter_from_wherever_it_is_woken() {
    ends(|| {
        for act in ACTS {
            for (name, _, site) in WAKES {
                let hooks = Hooks::new(1, act);
                let hook = hooks.hook();
                let waker = Hostile::new().on_wake(move || once_inside(&hook)).waker();
                site(&hooks.queue, &waker);
                assert_eq!(hooks.runs(), 1, "{name}");
                assert_eq!((hooks.queue.waiting_pops(), hooks.queue.waiting_pushes()), (0, 0), "{name}");
                assert_eq!(Arc::strong_count(&hooks.queue), 1);
            }
        }
    });
}

/// Runs the body for each kind of future that can wait, on a fresh queue where it would.
macro_rules! each_kind {
    (|$hooks:ident = $new:expr, $future:ident| $body:block) => {{
        {
            let $hooks = $new;
            let mut $future = $hooks.queue.pop();
            $body
        }
        {
            let ($hooks, mut into) = ($new, Vec::new());
            let mut $future = $hooks.queue.pop_many(&mut into, 3);
            $body
        }
        {
            let $hooks = $new;
            put(&$hooks.queue, 3);
            let mut $future = $hooks.queue.push(Tricky::plain(2), Tricky::plain(2));
            $body
        }
    }};
}

#[test]
fn a_waker_may_re_enter_when_it_is_cloned() {
    ends(|| {
        for act in ACTS {
            for waits_already in [false, true] {
                each_kind!(|hooks = Hooks::new(1, act), future| {
                    let hook = hooks.hook();
                    let waker = Hostile::new().on_clone(move || once_inside(&hook)).waker();
                    assert!(!waits_already || poll(&mut future).is_pending());
                    let _ = poll_with(&mut future, &waker).is_ready();
                    assert!(hooks.runs() > 0);
                    drop(future);
                    assert_eq!((hooks.queue.waiting_pops(), hooks.queue.waiting_pushes()), (0, 0));
                });
            }
        }
    });
}

#[test]
fn a_waker_may_re_enter_when_it_is_dropped() {
    let ways = ["replaced", "left", "served by its own clone"];
    ends(move || {
        for act in ACTS {
            for way in ways {
                each_kind!(|hooks = Hooks::new(1, act), future| {
                    let hook = hooks.hook();
                    let mut waker = Hostile::new().on_drop(move || once_inside(&hook));
                    if way == "served by its own clone" {
                        let queue = hooks.queue.clone();
                        waker = waker.on_clone(move || drop(queue.try_pop().map_err(|_| put(&queue, 1))));
                        assert!(poll(&mut future).is_pending());
                    }
                    let waker = waker.waker();
                    let is_ready = poll_with(&mut future, &waker).is_ready();
                    assert_eq!(is_ready, way == "served by its own clone");
                    match way {
                        "replaced" => drop(poll(&mut future)),
                        _ => drop(future),
                    }
                    assert_eq!(hooks.runs(), 1, "{way}");
                });
            }
        }
    });
}

#[test]
fn a_waker_may_end_the_wait_while_it_is_cloned() {
    for waits_already in [false, true] {
        let queue: &'static Queue = Box::leak(Box::new(Queue::bounded(1)));
        let serves = || {
            Hostile::new()
                .on_clone(|| {
                    queue.try_push(1, 1).unwrap();
                })
                .waker()
        };
        let mut pop = Task::new(queue.pop());
        assert!(!waits_already || pop.is_pending());
        assert_eq!(poll_with(pop.future_mut(), &serves()), Poll::Ready(Some((1, 1))), "it was there before the waker");
        let mut into = Vec::new();
        let mut many = Task::new(queue.pop_many(&mut into, 2));
        assert!(!waits_already || many.is_pending());
        assert_eq!(poll_with(many.future_mut(), &serves()), Poll::Ready(1));
        drop(many);
        assert_eq!(into, [(1, 1)]);

        queue.try_push(5, 5).unwrap();
        let makes_room = Hostile::new().on_clone(|| assert!(queue.try_pop().is_ok())).waker();
        let mut push = Task::new(queue.push(3, 3));
        assert!(!waits_already || push.is_pending());
        assert!(poll_with(push.future_mut(), &makes_room).is_ready());
        assert_eq!((counts(queue), queue.try_pop()), ((1, 0, 0), Ok((3, 3))));

        queue.try_push(5, 5).unwrap();
        let closes = Hostile::new().on_clone(|| queue.close()).waker();
        let mut push = Task::new(queue.push(3, 3));
        assert!(!waits_already || push.is_pending());
        assert_eq!(poll_with(push.future_mut(), &closes), Poll::Ready(Err(Closed((3, 3)))));
        assert_eq!((counts(queue), queue.try_pop()), ((1, 0, 0), Ok((5, 5))));
    }
    let queue: &'static Queue = Box::leak(Box::new(Queue::unbounded()));
    let closes = Hostile::new().on_clone(|| queue.close()).waker();
    assert_eq!(poll_with(&mut queue.pop(), &closes), Poll::Ready(None));
}

/// Parked pushes that wakers can get at.
type Slots = Arc<StdMutex<Vec<Option<Push<'static, u32, u32>>>>>;

fn take(slots: &Slots, index: usize) -> Push<'static, u32, u32> {
    slots.lock().unwrap()[index].take().unwrap()
}

/// Drains a full queue of ten where twelve pushes are parked, the waker of the first of whom does `act`.
///
/// Ten are admitted all at once, but not woken all at once. Returns who was woken.
fn at_the_first_wake(
    act: impl Fn(&'static Queue, &Slots) + Send + Sync + 'static,
) -> (&'static Queue, Slots, Vec<usize>) {
    let queue: &'static Queue = Box::leak(Box::new(Queue::bounded(10)));
    fill(queue, &[5; 10]);
    let (slots, log) = (Slots::default(), Arc::new(Log::default()));
    let (slots_of_first, log_of_first) = (slots.clone(), log.clone());
    let first = Hostile::new().on_wake(move || {
        log_of_first.push(0);
        assert_eq!(counts(queue), (10, 0, 2));
        act(queue, &slots_of_first);
        queue.check();
    });
    let first = first.waker();
    for index in 0..12 {
        let mut push = queue.push(1, index as u32);
        let waker = if index == 0 { first.clone() } else { log.waker(index) };
        assert!(poll_with(&mut push, &waker).is_pending());
        slots.lock().unwrap().push(Some(push));
    }
    assert_eq!(queue.drain().len(), 10);
    let mut woken = log.take();
    woken.sort_unstable();
    (queue, slots, woken)
}

#[test]
fn an_admitted_push_may_be_polled_or_dropped_before_it_is_woken() {
    let (queue, slots, woken) = at_the_first_wake(|queue, slots| {
        let key = ready(&mut take(slots, 9)).unwrap();
        assert!(queue.set_priority(key, 7));
        drop(take(slots, 8));
        drop(take(slots, 7));
        drop(take(slots, 11));
        assert_eq!(counts(queue), (10, 0, 1), "their items stay, but for the one that was parked");
    });
    // Some wakers may have been on their way already.
    let needed: Vec<_> = woken.into_iter().filter(|index| ![7, 8, 9].contains(index)).collect();
    assert_numbers(&needed, 0..7);
    for index in 0..7 {
        ready(&mut take(&slots, index)).unwrap();
    }
    assert_eq!(items(pop_all(queue)), [9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10]);
    assert!(ready(&mut take(&slots, 10)).is_ok());
}

#[test]
fn more_may_leave_while_the_first_is_woken() {
    let (queue, slots, woken) = at_the_first_wake(|queue, _| assert_eq!(queue.drain().len(), 10));
    assert_numbers(&woken, 0..12);
    for index in 0..12 {
        let key = ready(&mut take(&slots, index)).unwrap();
        assert_eq!(queue.remove(key).is_some(), index >= 10, "the key of a drained item is stale");
    }
    assert_eq!(counts(queue), (0, 0, 0));
}

#[test]
fn the_queue_may_be_closed_while_the_first_is_woken() {
    let (queue, slots, woken) = at_the_first_wake(|queue, _| queue.close());
    assert_numbers(&woken, 0..12);
    for index in 0..12 {
        let outcome = ready(&mut take(&slots, index));
        assert_eq!(outcome.is_ok(), index < 10, "admitted before the close, or not");
    }
    assert_eq!(items(queue.drain()), (0..10).collect::<Vec<_>>());
}

#[test]
fn one_turned_away_may_be_polled_or_dropped_before_it_is_woken() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::unbounded()));
    let log = Arc::new(Log::default());
    let slots = Arc::new(StdMutex::new(Vec::new()));
    let slots_of_first = slots.clone();
    let first = Hostile::new().on_wake(move || {
        let take = |index: usize| slots_of_first.lock().unwrap().get_mut(index).and_then(Option::take).unwrap();
        let mut pop: Pop<'static, u32, u32> = take(7);
        assert_eq!(ready(&mut pop), None);
        drop(take(8));
        queue.close();
        queue.check();
    });
    let first = first.waker();
    for index in 0..10 {
        let mut pop = queue.pop();
        assert!(poll_with(&mut pop, &if index == 0 { first.clone() } else { log.waker(index) }).is_pending());
        slots.lock().unwrap().push(Some(pop));
    }
    queue.close();
    // Some wakers may have been on their way already.
    let mut needed = log.take();
    needed.retain(|index| ![7, 8].contains(index));
    needed.sort_unstable();
    assert_numbers(&needed, [1, 2, 3, 4, 5, 6, 9]);
    assert_eq!(counts(queue), (0, 0, 0));
}

#[test]
fn a_dropped_queue_drops_the_wakers_of_those_forgotten() {
    let counter = Arc::new(Counter::default());
    let ledger = Ledger::default();
    let queue = Ranked::bounded(1);
    let mut pop = queue.pop();
    assert!(poll_with(&mut pop, &counter.clone().into()).is_pending());
    std::mem::forget(pop);
    let mut other = Ranked::bounded(1);
    other.try_push(ledger.rank(1, 1), ledger.item(1)).unwrap();
    let mut push = other.push(ledger.rank(1, 2), ledger.item(2));
    assert!(poll_with(&mut push, &counter.clone().into()).is_pending());
    std::mem::forget(push);
    assert_eq!((Arc::strong_count(&counter), ledger.alive()), (3, 4));
    drop(queue);
    other = Ranked::unbounded();
    assert_eq!((Arc::strong_count(&counter), counter.count(), ledger.alive()), (1, 0, 0));
    other.check();
}

// ---------------------------------------------------------------------------------------------------------------------
// Panicking
// ---------------------------------------------------------------------------------------------------------------------

fn panics_when_cloned() -> Waker {
    Hostile::new().on_clone(|| panic!("the clone")).waker()
}

fn panics_when_woken(message: &'static str) -> Waker {
    Hostile::new().on_wake(move || panic!("{message}")).waker()
}

/// A waker that panics in its drop, but only in the drop that `armed` waits for.
pub(crate) fn panics_when_dropped(armed: &Arc<AtomicUsize>) -> Hostile {
    let armed = armed.clone();
    Hostile::new().on_drop(move || assert_eq!(armed.swap(0, Ordering::Relaxed), 0, "the drop"))
}

#[test]
fn a_waker_that_panics_when_cloned_loses_nothing() {
    for waits_already in [false, true] {
        for again in [false, true] {
            let ledger = Ledger::default();
            let queue = Ranked::bounded(1);
            let mut pop = Task::new(queue.pop());
            assert!(!waits_already || pop.is_pending());
            assert_eq!(panic_of(|| poll_with(pop.future_mut(), &panics_when_cloned())), "the clone");
            assert_eq!(counts(&queue), (0, usize::from(waits_already), 0), "it keeps its place, if it had one");
            if again {
                assert!(pop.is_pending());
            }
            let waits = waits_already || again;
            queue.try_push(ledger.rank(1, 1), ledger.item(1)).unwrap();
            assert_eq!(pop.wakes(), usize::from(waits), "through the waker it had");
            drop(pop);
            assert_eq!((queue.try_pop().map(id_of), counts(&queue)), (Ok(1), (0, 0, 0)));

            queue.try_push(ledger.rank(1, 1), ledger.item(1)).unwrap();
            let mut push = Task::new(queue.push(ledger.rank(2, 2), ledger.item(2)));
            assert!(!waits_already || push.is_pending());
            assert_eq!(panic_of(|| poll_with(push.future_mut(), &panics_when_cloned()).is_ready()), "the clone");
            assert_eq!(counts(&queue), (1, 0, usize::from(waits_already)));
            if again {
                assert!(push.is_pending());
            }
            assert_eq!(queue.try_pop().map(id_of), Ok(if waits { 2 } else { 1 }));
            assert_eq!(push.wakes(), usize::from(waits));
            drop(push);
            assert_eq!(ledger.alive(), if waits { 2 } else { 0 });
            queue.check();
        }
    }
}

#[test]
fn a_waker_that_panics_when_woken_leaves_its_waiter_served() {
    let queue = Queue::bounded(1);
    let mut pop = queue.pop();
    assert!(poll_with(&mut pop, &panics_when_woken("the wake")).is_pending());
    assert_eq!(panic_of(|| queue.try_push(1, 1)), "the wake");
    assert_eq!((queue.try_pop(), counts(&queue)), (Err(TryPopError::Empty), (1, 0, 0)));
    assert_eq!(ready(&mut pop), Some((1, 1)));

    let key = queue.try_push(1, 1).unwrap();
    let mut push = queue.push(2, 2);
    assert!(poll_with(&mut push, &panics_when_woken("the wake")).is_pending());
    assert_eq!(queue.remove(key), Some((1, 1)), "an item in hand is not lost to a panic of somebody's waker");
    assert_eq!(counts(&queue), (1, 0, 0));
    assert_eq!(queue.remove(ready(&mut push).unwrap()), Some((2, 2)));
}

#[test]
fn wherever_a_waker_panics_the_queue_goes_on() {
    common::survives("foreign_code::wherever_a_waker_panics_the_queue_goes_on", || {
        for (name, hands_out, site) in WAKES {
            let queue = Arc::new(Wild::bounded(1));
            let outcome = catch_unwind(AssertUnwindSafe(|| site(&queue, &panics_when_woken("the wake"))));
            assert_eq!(outcome.is_ok(), hands_out, "{name}");
            let (_, pops, pushes) = counts(&queue);
            assert_eq!((pops, pushes), (0, 0), "{name}: all who waited have gone");
            drop(queue.drain());
            if !queue.is_closed() {
                let mut pop = Task::waiting(queue.pop());
                put(&queue, 1);
                assert_eq!(pop.wakes(), 1, "{name}");
                assert!(pop.ready().is_some());
            }
            assert_eq!(counts(&queue), (0, 0, 0));
        }
    });
}

#[test]
fn all_are_woken_though_some_wakers_panic() {
    let ways: [fn(&Queue); 3] = [
        Queue::close,
        |queue| drop(queue.drain()),
        |queue| {
            let _ = poll(&mut queue.pop_many(&mut Vec::new(), 10)).is_ready();
        },
    ];
    for panicking in [vec![0], vec![2], vec![3], vec![4], vec![2, 7], vec![0, 1, 2, 3, 4], (0..10).collect()] {
        for (way, act) in ways.iter().enumerate() {
            let queue = Queue::bounded(10);
            fill(&queue, &[5; 10]);
            let log = Arc::new(Log::default());
            let mut line: Vec<_> = (0..10).map(|item| queue.push(1, item)).collect();
            for (index, push) in line.iter_mut().enumerate() {
                let panics = panicking.contains(&index);
                let waker = if panics { log.panicking_waker(index) } else { log.waker(index) };
                assert!(poll_with(push, &waker).is_pending());
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| act(&queue)));
            assert_eq!(outcome.is_ok(), way > 0, "what has been taken is not lost to a panic");
            if let Err(payload) = outcome {
                assert_eq!(*payload.downcast::<String>().unwrap(), format!("waker {}", panicking[0]));
            }
            let mut woken = log.take();
            woken.sort_unstable();
            assert_numbers(&woken, 0..10);
            assert_eq!(counts(&queue), (10, 0, 0));
            for push in &mut line {
                assert_eq!(ready(push).is_ok(), way > 0);
            }
        }
    }
}

#[test]
fn all_pops_of_a_drained_queue_end_though_a_waker_panics() {
    let queue = Queue::unbounded();
    let mut reserved = Task::waiting(queue.pop());
    let log = Arc::new(Log::default());
    let mut bad = queue.pop();
    assert!(poll_with(&mut bad, &panics_when_woken("the wake")).is_pending());
    let mut line: Vec<_> = (0..8).map(|entry| logged_pop(&queue, &log, entry)).collect();
    queue.try_push(1, 1).unwrap();
    queue.close();
    assert_eq!(reserved.ready(), Some((1, 1)));
    assert_numbers(&log.take(), 0..8);
    assert!(line.iter_mut().all(|pop| ready(pop).is_none()));
    assert_eq!(ready(&mut bad), None);
}

#[test]
fn a_waker_that_panics_during_an_unwinding_does_not_abort() {
    common::survives("foreign_code::a_waker_that_panics_during_an_unwinding_does_not_abort", || {
        let queue = Queue::unbounded();
        let mut next = queue.pop();
        let message = panic_of(|| {
            let _reserved = Task::waiting(queue.pop());
            queue.try_push(1, 1).unwrap();
            assert!(poll_with(&mut next, &panics_when_woken("the wake")).is_pending());
            panic!("the first");
        });
        assert_eq!((message.as_str(), ready(&mut next)), ("the first", Some((1, 1))));
        assert_eq!(counts(&queue), (0, 0, 0));
    });
}

#[test]
fn a_waker_dropped_in_an_unwinding_may_panic() {
    common::survives("foreign_code::a_waker_dropped_in_an_unwinding_may_panic", || {
        for pop in [false, true] {
            let queue = Queue::bounded(1);
            let armed = Arc::new(AtomicUsize::new(0));
            let waker = panics_when_dropped(&armed).waker();
            let message = panic_of(|| {
                let (mut popping, mut pushing) = (queue.pop(), queue.push(2, 2));
                if pop {
                    assert!(poll_with(&mut popping, &waker).is_pending());
                } else {
                    queue.try_push(1, 1).unwrap();
                    assert!(poll_with(&mut pushing, &waker).is_pending());
                }
                armed.store(1, Ordering::Relaxed);
                panic!("the first");
            });
            assert_eq!(message, "the first");
            assert_eq!(counts(&queue), (usize::from(!pop), 0, 0));
        }
    });
}

#[test]
fn a_replaced_waker_that_panics_when_dropped_loses_nothing() {
    let queue = Queue::bounded(1);
    let armed = Arc::new(AtomicUsize::new(0));
    let old = panics_when_dropped(&armed).waker();
    let mut pop = Task::new(queue.pop());
    assert!(poll_with(pop.future_mut(), &old).is_pending());
    armed.store(1, Ordering::Relaxed);
    assert!(pop.poll().is_pending(), "the panic is discarded");
    assert_eq!((counts(&queue), armed.load(Ordering::Relaxed)), ((0, 1, 0), 0));
    queue.try_push(1, 1).unwrap();
    assert_eq!(pop.wakes(), 1, "the new waker was stored");

    let mut push = Task::new(queue.push(2, 2));
    assert!(poll_with(push.future_mut(), &old).is_pending());
    armed.store(1, Ordering::Relaxed);
    assert!(push.poll().is_pending());
    assert_eq!(counts(&queue), (1, 0, 1));
    assert_eq!((pop.ready(), push.wakes()), (Some((2, 2)), 1));
    assert!(push.ready().is_ok());
}

#[test]
fn a_cancelled_waiter_may_have_a_waker_that_panics_when_dropped() {
    let ledger = Ledger::default();
    let queue = Ranked::bounded(1);
    let armed = Arc::new(AtomicUsize::new(0));
    let waker = panics_when_dropped(&armed).waker();
    let mut leaver = queue.pop();
    assert!(poll_with(&mut leaver, &waker).is_pending());
    let mut next = Task::waiting(queue.pop());
    armed.store(1, Ordering::Relaxed);
    assert!(panic_of(|| drop(leaver)).contains("the drop"));
    assert_eq!(counts(&queue), (0, 1, 0));
    queue.try_push(ledger.rank(1, 1), ledger.item(1)).unwrap();
    let mut leaver = queue.push(ledger.rank(2, 2), ledger.item(2));
    assert!(poll_with(&mut leaver, &waker).is_pending());
    armed.store(1, Ordering::Relaxed);
    assert!(panic_of(|| drop(leaver)).contains("the drop"));
    assert_eq!((counts(&queue), ledger.alive()), ((1, 0, 0), 2), "its item is dropped all the same");
    assert_eq!(next.ready().map(id_of), Some(1));
}

/// The waker that is not needed any more panics when it is dropped; the item must not be lost with it.
#[test]
fn a_waker_that_panics_when_dropped_by_a_pop_costs_no_item() {
    common::survives("foreign_code::a_waker_that_panics_when_dropped_by_a_pop_costs_no_item", || {
        for waits_already in [false, true] {
            let queue: &'static Queue = Box::leak(Box::new(Queue::bounded(1)));
            let armed = Arc::new(AtomicUsize::new(0));
            // Cloning it serves, so the clone is not needed; dropping the clone panics.
            let serves = || {
                panics_when_dropped(&armed)
                    .on_clone(|| {
                        queue.try_push(1, 1).unwrap();
                    })
                    .waker()
            };
            let waker = serves();
            let mut pop = Task::new(queue.pop());
            assert!(!waits_already || pop.is_pending());
            armed.store(1, Ordering::Relaxed);
            assert_eq!(poll_with(pop.future_mut(), &waker), Poll::Ready(Some((1, 1))));
            assert_eq!((armed.load(Ordering::Relaxed), counts(queue)), (0, (0, 0, 0)), "a clone was dropped");

            let mut into = Vec::new();
            let mut many = Task::new(queue.pop_many(&mut into, 3));
            assert!(!waits_already || many.is_pending());
            armed.store(1, Ordering::Relaxed);
            assert_eq!(poll_with(many.future_mut(), &waker), Poll::Ready(1));
            drop(many);
            assert_eq!((into, counts(queue)), (vec![(1, 1)], (0, 0, 0)));

            queue.try_push(3, 3).unwrap();
            let makes_room = panics_when_dropped(&armed).on_clone(|| assert!(queue.try_pop().is_ok())).waker();
            let mut push = Task::new(queue.push(2, 2));
            assert!(!waits_already || push.is_pending());
            armed.store(1, Ordering::Relaxed);
            let _ = catch_unwind(AssertUnwindSafe(|| poll_with(push.future_mut(), &makes_room).is_ready()));
            drop(push);
            assert_eq!((pop_all(queue), counts(queue)), (vec![(2, 2)], (0, 0, 0)), "it was admitted");
        }
    });
}

#[test]
fn a_waker_that_panics_when_dropped_by_a_push_costs_no_wake() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::bounded(1)));
    queue.try_push(5, 5).unwrap();
    let counter = Arc::new(Counter::default());
    let pop = Arc::new(StdMutex::new(queue.pop()));
    let armed = Arc::new(AtomicUsize::new(0));
    // While it is cloned there comes room, and one who waits for what is pushed.
    let waker = {
        let (counter, pop) = (counter.clone(), pop.clone());
        panics_when_dropped(&armed).on_clone(move || {
            assert!(queue.try_pop().is_ok());
            assert!(poll_with(&mut *pop.lock().unwrap(), &counter.clone().into()).is_pending());
        })
    };
    let waker = waker.waker();
    let mut push = queue.push(1, 1);
    armed.store(1, Ordering::Relaxed);
    let _ = catch_unwind(AssertUnwindSafe(|| poll_with(&mut push, &waker).is_ready()));
    assert_eq!((armed.load(Ordering::Relaxed), counter.count(), counts(queue)), (0, 1, (1, 0, 0)));
    assert_eq!(ready(&mut *pop.lock().unwrap()), Some((1, 1)));
}

#[test]
fn items_and_priorities_may_panic_when_they_are_dropped() {
    /// Arms one of the two.
    fn bomb(priority: bool, runs: &Arc<AtomicUsize>) -> (Tricky, Tricky) {
        let quiet = runs.clone();
        let quiet = Tricky::new(2, move || {
            quiet.fetch_add(1, Ordering::Relaxed);
        });
        let loud = runs.clone();
        let loud = Tricky::new(2, move || {
            loud.fetch_add(1, Ordering::Relaxed);
            panic!("the drop");
        });
        if priority { (loud, quiet) } else { (quiet, loud) }
    }

    for priority in [false, true] {
        let runs = Arc::new(AtomicUsize::new(0));
        let queue = Wild::bounded(1);
        let key = put(&queue, 3);
        let mut others = [1, 1].map(|level| Task::new(queue.push(Tricky::plain(level), Tricky::plain(level))));
        assert!(others[0].is_pending());
        let (rank, item) = bomb(priority, &runs);
        let mut push = queue.push(rank, item);
        assert!(poll(&mut push).is_pending() && others[1].is_pending());
        assert_eq!(panic_of(|| drop(push)), "the drop");
        assert_eq!((runs.swap(0, Ordering::Relaxed), counts(&queue)), (2, (1, 0, 2)));

        let (rank, item) = bomb(priority, &runs);
        let mut push = queue.push(rank, item);
        assert!(poll(&mut push).is_pending());
        // Not parked, but turned away.
        queue.close();
        assert_eq!(panic_of(|| drop(push)), "the drop");
        assert_eq!((runs.swap(0, Ordering::Relaxed), counts(&queue)), (2, (1, 0, 0)));
        assert!(others.iter_mut().all(|push| push.wakes() == 1 && push.ready().is_err()));

        let (rank, _) = bomb(true, &runs);
        assert!(queue.set_priority(key, rank));
        runs.store(0, Ordering::Relaxed);
        assert_eq!(panic_of(|| queue.set_priority(key, Tricky::plain(7))), "the drop");
        assert_eq!((runs.swap(0, Ordering::Relaxed), counts(&queue)), (1, (1, 0, 0)));
        let (rank, item) = queue.remove(key).expect("it has its new priority");
        assert_eq!((rank.level, item.level), (7, 3));
        let (rank, _) = bomb(true, &runs);
        assert_eq!(panic_of(|| queue.set_priority(key, rank)), "the drop");
        assert_eq!(counts(&queue), (0, 0, 0));

        // The others are dropped with the queue all the same.
        runs.store(0, Ordering::Relaxed);
        let queue = Wild::unbounded();
        for at in 0..9 {
            let quiet = runs.clone();
            let quiet = Tricky::new(at, move || {
                quiet.fetch_add(1, Ordering::Relaxed);
            });
            queue.try_push(quiet, Tricky::plain(at)).ok().unwrap();
            if at == 4 {
                let (rank, item) = bomb(priority, &runs);
                queue.try_push(rank, item).ok().unwrap();
            }
        }
        assert_eq!(panic_of(|| drop(queue)), "the drop");
        assert_eq!(runs.load(Ordering::Relaxed), 11);
    }
}

#[test]
fn a_parked_item_that_panics_during_an_unwinding_does_not_abort() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the item");
        }
    }
    let queue = PriorityQueue::bounded(1);
    queue.try_push(1, None).unwrap();
    let message = panic_of(|| {
        let mut push = queue.push(1, Some(Bomb));
        assert!(poll(&mut push).is_pending());
        panic!("the first");
    });
    assert_eq!((message.as_str(), queue.len(), queue.waiting_pushes()), ("the first", 1, 0));
}

#[test]
fn a_waker_that_closes_in_its_clone_and_panics_costs_no_item() {
    let queue = Arc::new(PriorityQueue::bounded(1));
    queue.try_push(1, "in").unwrap();
    let inside = queue.clone();
    let waker =
        Hostile::new().on_clone(move || inside.close()).on_drop(|| assert!(std::thread::panicking(), "the drop"));
    let waker = waker.waker();
    let outcome = poll_with(&mut queue.push(2, "out"), &waker);
    std::mem::forget(waker);
    assert_eq!(outcome, Poll::Ready(Err(Closed((2, "out")))));
}

/// Comparisons and drops of wakers panic as soon as it is set.
static HOSTILE: AtomicBool = AtomicBool::new(false);

#[derive(Debug, PartialEq, Eq)]
struct Touchy(u32);

impl PartialOrd for Touchy {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Touchy {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        assert!(!HOSTILE.load(Ordering::SeqCst), "the comparison");
        self.0.cmp(&other.0)
    }
}

#[test]
fn a_panicking_comparison_and_a_panicking_clone_do_not_abort() {
    let name = "foreign_code::a_panicking_comparison_and_a_panicking_clone_do_not_abort";
    common::survives(name, || {
        let turn = |act: Box<dyn Fn() + Send + Sync>| {
            let waker = Hostile::new().on_clone(move || {
                act();
                HOSTILE.store(true, Ordering::SeqCst);
            });
            waker.on_drop(|| assert!(!HOSTILE.load(Ordering::SeqCst), "the drop")).waker()
        };
        // A push that finds room when it has brought its waker.
        let queue = Arc::new(PriorityQueue::<Touchy, ()>::bounded(2));
        for priority in [1, 2] {
            queue.try_push(Touchy(priority), ()).unwrap();
        }
        let of_clone = queue.clone();
        let waker = turn(Box::new(move || drop(of_clone.try_pop())));
        let mut push = queue.push(Touchy(3), ());
        assert_eq!(panic_of(|| poll_with(&mut push, &waker).is_ready()), "the comparison");
        HOSTILE.store(false, Ordering::SeqCst);
        assert!(ready(&mut push).is_ok() && queue.len() == 2);

        // A pop that finds an item, and one that is parked.
        let queue: &PriorityQueue<Touchy, ()> = Box::leak(Box::new(PriorityQueue::bounded(1)));
        let parked = StdMutex::new(None);
        let waker = turn(Box::new(move || {
            queue.try_push(Touchy(1), ()).unwrap();
            let mut push = queue.push(Touchy(2), ());
            assert!(poll(&mut push).is_pending());
            *parked.lock().unwrap() = Some(push);
        }));
        let mut pop = queue.pop();
        assert_eq!(panic_of(|| poll_with(&mut pop, &waker).is_ready()), "the comparison");
        HOSTILE.store(false, Ordering::SeqCst);
        assert!(ready(&mut pop).is_some_and(|(priority, ())| priority.0 == 2));
    });
}

#[test]
fn a_push_admitted_at_its_second_look_passes_on_a_wake_panic() {
    let queue: &PriorityQueue<u32, ()> = Box::leak(Box::new(PriorityQueue::bounded(1)));
    let (mut first, mut second) = (queue.pop(), queue.pop());
    assert!(poll(&mut first).is_pending());
    assert!(poll_with(&mut second, &Hostile::new().on_wake(|| panic!("the wake")).waker()).is_pending());
    queue.try_push(1, ()).unwrap();
    // The first one makes room while the push brings its waker.
    let first = StdMutex::new(Some(first));
    let waker = Hostile::new().on_clone(move || _ = first.lock().unwrap().take().map(|mut first| ready(&mut first)));
    let mut push = queue.push(2, ());
    assert_eq!(panic_of(|| poll_with(&mut push, &waker.waker()).is_ready()), "the wake");
    assert_eq!(ready(&mut second), Some((2, ())));
}
