//! Items, priorities and wakers that re-enter the queue.

use std::cell::Cell;
use std::cmp::Ordering as Order;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, Weak};
use std::task::{Poll, Waker};

use stanchion::{Closed, Key, Pop, PriorityQueue, Push};

use crate::common::hooks::Hooks;
use crate::common::{Check, Counter, Log, Task, assert_numbers, ends, poll, poll_with, ready};
use crate::ranked::{Alive, PANICS_AT, Ranked, compared, with_panic_at};
use crate::{Queue, counts, fill, items, pop_all};

thread_local! {
    /// True while a hook runs: values that it drops and wakes run none.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs a hook, unless one is running.
fn once_inside(hook: impl FnOnce()) {
    if !INSIDE.replace(true) {
        // A hook may compare, and panic.
        let panics_at = PANICS_AT.take();
        let outcome = catch_unwind(AssertUnwindSafe(hook));
        PANICS_AT.set(panics_at);
        INSIDE.set(false);
        if let Err(payload) = outcome {
            resume_unwind(payload);
        }
    }
}

/// A priority, or an item, that does something when it is dropped.
#[derive(Default)]
pub(crate) struct Hooked {
    pub(crate) level: u32,
    on_drop: Option<Box<dyn Fn() + Send>>,
}

pub(crate) type HookedQueue = PriorityQueue<Hooked, Hooked>;

impl Hooked {
    pub(crate) fn plain(level: u32) -> Self {
        Self { level, on_drop: None }
    }

    pub(crate) fn new(level: u32, hook: impl Fn() + Send + 'static) -> Self {
        Self { level, on_drop: Some(Box::new(hook)) }
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        if let Some(hook) = &self.on_drop {
            once_inside(hook);
        }
    }
}

impl PartialEq for Hooked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Hooked {}

impl PartialOrd for Hooked {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Hooked {
    fn cmp(&self, other: &Self) -> Order {
        compared();
        self.level.cmp(&other.level)
    }
}

/// Calls every function, as user code may wherever it runs.
fn call_everything(queue: &HookedQueue) {
    let plain = |level| (Hooked::plain(level), Hooked::plain(level));
    let _ = (queue.len(), queue.is_empty(), queue.capacity(), queue.is_closed());
    let _ = (queue.waiting_pops(), queue.waiting_pushes(), format!("{queue:?}"));
    queue.check();
    let push = |level| {
        let (priority, item) = plain(level);
        queue.try_push(priority, item)
    };
    if let Ok(key) = push(5) {
        queue.set_priority(key, Hooked::plain(1));
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

/// Makes hooks that do `act` with a queue, and counts their runs.
struct Reentry {
    queue: Arc<HookedQueue>,
    runs: Arc<AtomicUsize>,
    act: fn(&HookedQueue),
}

impl Reentry {
    fn new(capacity: usize, act: fn(&HookedQueue)) -> Self {
        Self { queue: Arc::new(HookedQueue::bounded(capacity)), runs: Arc::default(), act }
    }

    fn hook(&self) -> impl Fn() + Send + Sync + 'static {
        let (queue, runs, act): (Weak<HookedQueue>, _, _) = (Arc::downgrade(&self.queue), self.runs.clone(), self.act);
        move || {
            runs.fetch_add(1, Ordering::Relaxed);
            // There is none while it is dropped itself.
            if let Some(queue) = queue.upgrade() {
                act(&queue);
            }
        }
    }

    fn tricky(&self, level: u32) -> Hooked {
        Hooked::new(level, self.hook())
    }

    /// Returns the number of runs since the last call.
    fn runs(&self) -> usize {
        self.queue.check();
        self.runs.swap(0, Ordering::Relaxed)
    }
}

/// Actions of user code that the queue allows at any time.
const ACTS: [fn(&HookedQueue); 3] = [call_everything, |queue| queue.close(), |queue| drop(queue.drain())];

#[test]
fn items_and_priorities_may_re_enter_when_they_are_dropped() {
    ends(|| {
        for act in ACTS {
            // A parked push is dropped.
            let reentry = Reentry::new(1, act);
            let queue = &*reentry.queue;
            queue.try_push(Hooked::plain(1), Hooked::plain(1)).ok().unwrap();
            let mut push = queue.push(reentry.tricky(1), reentry.tricky(1));
            assert!(poll(&mut push).is_pending());
            drop(push);
            assert_eq!(reentry.runs(), 2);

            // A push that was revoked is dropped.
            let reentry = Reentry::new(1, act);
            let queue = &*reentry.queue;
            queue.try_push(Hooked::plain(1), Hooked::plain(1)).ok().unwrap();
            let mut push = queue.push(reentry.tricky(1), reentry.tricky(1));
            assert!(poll(&mut push).is_pending());
            queue.close();
            drop(push);
            assert_eq!(reentry.runs(), 2);

            // A priority is replaced; and one is not needed.
            let reentry = Reentry::new(1, act);
            let queue = &*reentry.queue;
            let key = queue.try_push(reentry.tricky(1), Hooked::plain(1)).ok().unwrap();
            assert!(queue.set_priority(key, Hooked::plain(2)));
            assert_eq!(reentry.runs(), 1);
            drop(queue.remove(key));
            assert!(!queue.set_priority(key, reentry.tricky(1)));
            assert_eq!(reentry.runs(), 1);

            // An item is dropped with the queue.
            let reentry = Reentry::new(1, act);
            reentry.queue.try_push(reentry.tricky(1), reentry.tricky(1)).ok().unwrap();
            let Reentry { queue, runs, .. } = reentry;
            drop(queue);
            assert_eq!(runs.load(Ordering::Relaxed), 2);
        }
    });
}

#[test]
fn items_may_re_enter_after_a_comparison_panicked() {
    let calls: [fn(&Reentry, Key); 4] = [
        |reentry, _| drop(reentry.queue.try_push(reentry.tricky(2), reentry.tricky(2))),
        |reentry, _| drop(reentry.queue.force_push(reentry.tricky(2), reentry.tricky(2))),
        |reentry, key| {
            reentry.queue.set_priority(key, reentry.tricky(2));
        },
        |reentry, _| {
            let mut push = reentry.queue.push(reentry.tricky(2), reentry.tricky(2));
            let _ = poll(&mut push).is_ready();
        },
    ];
    ends(move || {
        let mut panics = 0;
        for call in calls {
            for capacity in [3, 4] {
                for panics_at in 0.. {
                    let reentry = Reentry::new(capacity, call_everything);
                    let keys = [1, 3, 5]
                        .map(|level| reentry.queue.try_push(Hooked::plain(level), Hooked::plain(level)).ok().unwrap());
                    let (priority, item) = (Hooked::plain(4), Hooked::plain(4));
                    let mut parked = (capacity == 3).then(|| reentry.queue.push(priority, item));
                    assert!(parked.as_mut().is_none_or(|push| poll(push).is_pending()));
                    let done = with_panic_at(panics_at, || call(&reentry, keys[1])).is_some();
                    reentry.queue.check();
                    if done {
                        break;
                    }
                    assert!(reentry.runs() > 0, "the refused item was dropped");
                    panics += 1;
                    drop(reentry.queue.drain());
                }
            }
        }
        assert!(panics > 8, "{panics}");
    });
}

/// The name of a way to wake a waiter with a certain waker; true if it returns items, which a panic of the waker would
/// lose, so that it must be discarded; and the way.
pub(crate) type Site = (&'static str, bool, fn(&Arc<HookedQueue>, &Waker));

pub(crate) fn put(queue: &HookedQueue, level: u32) -> Key {
    queue.try_push(Hooked::plain(level), Hooked::plain(level)).ok().unwrap()
}

/// A pop that waits with `waker`, for as long as `end` runs.
fn with_waiting_pop(queue: &HookedQueue, waker: &Waker, end: impl FnOnce()) {
    let mut pop = queue.pop();
    assert!(poll_with(&mut pop, waker).is_pending());
    end();
}

/// A push that is parked with `waker`, for as long as `end` runs; another item is in the queue.
fn with_parked_push(queue: &HookedQueue, waker: &Waker, end: impl FnOnce(Key)) {
    let key = put(queue, 3);
    let mut push = queue.push(Hooked::plain(2), Hooked::plain(2));
    assert!(poll_with(&mut push, waker).is_pending());
    end(key);
}

/// A pop that waits with `waker` on a closed queue while `end` runs; another pop has reserved the last item.
fn with_pop_after_close(queue: &HookedQueue, waker: &Waker, end: impl FnOnce(Key, Pop<'_, Hooked, Hooked>)) {
    let mut reserved = queue.pop();
    assert!(poll(&mut reserved).is_pending());
    let key = put(queue, 1);
    queue.close();
    with_waiting_pop(queue, waker, || end(key, reserved));
}

/// All the places where a waker is woken, in a queue of capacity 1.
pub(crate) const WAKES: [Site; 19] = [
    ("try_push", false, |queue, waker| {
        with_waiting_pop(queue, waker, || {
            put(queue, 1);
        })
    }),
    ("push", false, |queue, waker| {
        with_waiting_pop(queue, waker, || drop(poll(&mut queue.push(Hooked::plain(1), Hooked::plain(1)))))
    }),
    ("force_push", false, |queue, waker| {
        with_waiting_pop(queue, waker, || drop(queue.force_push(Hooked::plain(1), Hooked::plain(1))))
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
        with_waiting_pop(queue, waker, || drop(poll(&mut queue.push(Hooked::plain(2), Hooked::plain(2)))));
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
        let mut push = queue.push(Hooked::plain(2), Hooked::plain(2));
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
                let reentry = Reentry::new(1, act);
                let hook = reentry.hook();
                let waker = Hooks::new().on_wake(move || once_inside(&hook)).waker();
                site(&reentry.queue, &waker);
                assert_eq!(reentry.runs(), 1, "{name}");
                assert_eq!((reentry.queue.waiting_pops(), reentry.queue.waiting_pushes()), (0, 0), "{name}");
                assert_eq!(Arc::strong_count(&reentry.queue), 1);
            }
        }
    });
}

/// Runs the body for each kind of future that can wait, on a fresh queue where it would.
macro_rules! each_kind {
    (|$reentry:ident = $new:expr, $future:ident| $body:block) => {{
        {
            let $reentry = $new;
            let mut $future = $reentry.queue.pop();
            $body
        }
        {
            let ($reentry, mut into) = ($new, Vec::new());
            let mut $future = $reentry.queue.pop_many(&mut into, 3);
            $body
        }
        {
            let $reentry = $new;
            put(&$reentry.queue, 3);
            let mut $future = $reentry.queue.push(Hooked::plain(2), Hooked::plain(2));
            $body
        }
    }};
}

#[test]
fn a_waker_may_re_enter_when_it_is_cloned() {
    ends(|| {
        for act in ACTS {
            for waits_already in [false, true] {
                each_kind!(|reentry = Reentry::new(1, act), future| {
                    let hook = reentry.hook();
                    let waker = Hooks::new().on_clone(move || once_inside(&hook)).waker();
                    assert!(!waits_already || poll(&mut future).is_pending());
                    let _ = poll_with(&mut future, &waker).is_ready();
                    assert!(reentry.runs() > 0);
                    drop(future);
                    assert_eq!((reentry.queue.waiting_pops(), reentry.queue.waiting_pushes()), (0, 0));
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
                each_kind!(|reentry = Reentry::new(1, act), future| {
                    let hook = reentry.hook();
                    let mut waker = Hooks::new().on_drop(move || once_inside(&hook));
                    if way == "served by its own clone" {
                        let queue = reentry.queue.clone();
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
                    assert_eq!(reentry.runs(), 1, "{way}");
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
            Hooks::new()
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
        let makes_room = Hooks::new().on_clone(|| assert!(queue.try_pop().is_ok())).waker();
        let mut push = Task::new(queue.push(3, 3));
        assert!(!waits_already || push.is_pending());
        assert!(poll_with(push.future_mut(), &makes_room).is_ready());
        assert_eq!((counts(queue), queue.try_pop()), ((1, 0, 0), Ok((3, 3))));

        queue.try_push(5, 5).unwrap();
        let closes = Hooks::new().on_clone(|| queue.close()).waker();
        let mut push = Task::new(queue.push(3, 3));
        assert!(!waits_already || push.is_pending());
        assert_eq!(poll_with(push.future_mut(), &closes), Poll::Ready(Err(Closed((3, 3)))));
        assert_eq!((counts(queue), queue.try_pop()), ((1, 0, 0), Ok((5, 5))));
    }
    let queue: &'static Queue = Box::leak(Box::new(Queue::unbounded()));
    let closes = Hooks::new().on_clone(|| queue.close()).waker();
    assert_eq!(poll_with(&mut queue.pop(), &closes), Poll::Ready(None));
}

/// Parked pushes that wakers can get at.
type Slots = Arc<StdMutex<Vec<Option<Push<'static, u32, u32>>>>>;

fn take(slots: &Slots, index: usize) -> Push<'static, u32, u32> {
    slots.lock().unwrap()[index].take().unwrap()
}

/// Drains a full queue of ten where twelve pushes are parked, the waker of the first of which does `act`.
///
/// Ten are admitted all at once, but not woken all at once. Returns the waiters that were woken.
fn at_the_first_wake(
    act: impl Fn(&'static Queue, &Slots) + Send + Sync + 'static,
) -> (&'static Queue, Slots, Vec<usize>) {
    let queue: &'static Queue = Box::leak(Box::new(Queue::bounded(10)));
    fill(queue, &[5; 10]);
    let (slots, log) = (Slots::default(), Arc::new(Log::default()));
    let (slots_of_first, log_of_first) = (slots.clone(), log.clone());
    let first = Hooks::new().on_wake(move || {
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
fn a_revoked_pop_may_be_polled_or_dropped_before_it_is_woken() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::unbounded()));
    let log = Arc::new(Log::default());
    let slots = Arc::new(StdMutex::new(Vec::new()));
    let slots_of_first = slots.clone();
    let first = Hooks::new().on_wake(move || {
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
fn a_push_that_gives_up_while_pops_end_costs_no_wake() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::bounded(1)));
    let parked: Arc<StdMutex<Option<Push<'static, u32, u32>>>> = Arc::default();
    let (given_up, log) = (parked.clone(), Arc::new(Log::default()));
    let log_of_hook = log.clone();
    let gives_up = Hooks::new().on_wake(move || {
        log_of_hook.push(2);
        let push = given_up.lock().unwrap().take().unwrap();
        assert_eq!(push.into_inner(), Some((2, 2)));
    });
    let gives_up = gives_up.waker();
    let mut pops: Vec<_> = (0..100).map(|_| queue.pop()).collect();
    for (index, pop) in pops.iter_mut().enumerate() {
        assert!(poll_with(pop, &if index == 2 { gives_up.clone() } else { log.waker(index) }).is_pending());
    }
    queue.try_push(1, 1).unwrap();
    let mut push = queue.push(2, 2);
    assert!(poll(&mut push).is_pending());
    *parked.lock().unwrap() = Some(push);
    assert_eq!(log.take(), [0, 1], "there are two items");
    queue.close();
    assert!(poll_with(&mut pops[1], &log.waker(1)).is_pending(), "there is one item");
    assert_eq!(ready(&mut pops[0]), Some((1, 1)));
    let mut woken = log.take();
    woken.sort_unstable();
    assert_numbers(&woken, 1..100);
}

#[test]
fn a_pop_polled_before_its_wake_drops_its_waker_unlocked() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::unbounded()));
    let last: Arc<StdMutex<Option<Pop<'static, u32, u32>>>> = Arc::default();
    let dropped = Arc::new(AtomicUsize::new(0));
    let (last_of_first, seen) = (last.clone(), dropped.clone());
    let first = Hooks::new().on_wake(move || {
        let taken = last_of_first.lock().unwrap().take();
        if let Some(mut pop) = taken {
            assert_eq!((ready(&mut pop), seen.load(Ordering::Relaxed)), (None, 1));
        }
    });
    let first = first.waker();
    let counting = dropped.clone();
    let counts_drops = Hooks::new().on_drop(move || {
        assert_eq!(queue.len(), 0, "the queue may be used");
        counting.fetch_add(1, Ordering::Relaxed);
    });
    let counts_drops = counts_drops.waker();
    let mut pops: Vec<_> = (0..100).map(|_| queue.pop()).collect();
    assert!(pops.iter_mut().all(|pop| poll_with(pop, &first).is_pending()));
    let mut pop = queue.pop();
    assert!(poll_with(&mut pop, &counts_drops).is_pending());
    *last.lock().unwrap() = Some(pop);
    queue.close();
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[test]
fn a_dropped_queue_drops_the_wakers_of_forgotten_futures() {
    let counter = Arc::new(Counter::default());
    let alive = Alive::default();
    let queue = Ranked::bounded(1);
    let mut pop = queue.pop();
    assert!(poll_with(&mut pop, &counter.clone().into()).is_pending());
    std::mem::forget(pop);
    let mut other = Ranked::bounded(1);
    other.try_push(alive.rank(1, 1), alive.item(1)).unwrap();
    let mut push = other.push(alive.rank(1, 2), alive.item(2));
    assert!(poll_with(&mut push, &counter.clone().into()).is_pending());
    std::mem::forget(push);
    assert_eq!((Arc::strong_count(&counter), alive.count()), (3, 4));
    drop(queue);
    other = Ranked::unbounded();
    assert_eq!((Arc::strong_count(&counter), counter.count(), alive.count()), (1, 0, 0));
    other.check();
}
