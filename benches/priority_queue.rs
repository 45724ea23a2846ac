//! `PriorityQueue` beside async-priority-channel, beside queues that applications build (a binary heap behind a mutex, a
//! `BTreeMap`, crossbeam's skip list), and beside tokio's channels, which have no priorities: the difference is their price.
//!
//! A contender's name begins with the crate it is from, where the report looks for its version. All of them pop equal
//! priorities in the order of arrival, except async-priority-channel, which pops them in any.

mod common;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::{Future, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use common::figures;
use common::gate::{claim, counting_waker, now, two_workers, wait};
use common::threads::{COUNTS, contend};
use common::{Dice, Group, compare, testing};
use criterion::{SamplingMode, Throughput};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

fn main() {
    let criterion = &mut common::criterion_measuring_for(Duration::from_millis(200));

    for (spread_name, spread) in [("16 priorities", Spread::Sixteen), ("all distinct", Spread::Distinct)] {
        let depths = [("0", 0), ("100", 100), ("1,000", 1_000), ("10,000", 10_000)];
        for (depth_name, depth) in depths.into_iter().chain([("100,000", 100_000), ("1,000,000", 1_000_000)]) {
            let backlog = Backlog { spread, depth: if testing() { depth.min(1_000) } else { depth } };
            compare!(
                criterion,
                format!("priority_queue/push_pop/{spread_name}, depth {depth_name}"),
                [
                    Polled<Stanchion>,
                    Polled<Mpsc>,
                    Polled<UnboundedMpsc>,
                    Polled<NotifyingHeap>,
                    Polled<PriorityChannel>,
                    LockedHeap,
                    LockedMap,
                    SkipMap,
                ],
                |group, Q| push_pop::<Q>(group, backlog)
            );
            if let 1_000 | 100_000 = depth {
                // Between the others, to see how push_pop grows.
                continue;
            }
            compare!(
                criterion,
                format!("priority_queue/push_remove/{spread_name}, depth {depth_name}"),
                [Stanchion, LockedMap, SkipMap],
                |group, K| push_remove::<K>(group, backlog)
            );
            if depth > 0 {
                compare!(
                    criterion,
                    format!("priority_queue/set_priority/{spread_name}, depth {depth_name}"),
                    [Stanchion, LockedMap, SkipMap],
                    |group, K| set_priority::<K>(group, backlog)
                );
            }
        }
    }

    let runtime = &two_workers().build().expect("the runtime starts");
    for (producers, consumers) in [(1, 1), (1, 4), (2, 2), (4, 1), (4, 4)] {
        let plural = |count| if count == 1 { "" } else { "s" };
        let name = format!(
            "priority_queue/runtime/{producers} producer{}, {consumers} consumer{}",
            plural(producers),
            plural(consumers)
        );
        if consumers == 1 {
            compare!(criterion, name, [Stanchion, Mpsc, UnboundedMpsc, NotifyingHeap, PriorityChannel], |group, C| {
                crowd::<C>(group, runtime, producers)
            });
        } else {
            compare!(criterion, name, [Stanchion, NotifyingHeap, PriorityChannel], |group, C| {
                shared_crowd::<C>(group, runtime, producers, consumers)
            });
        }
    }

    for (count, threads) in COUNTS {
        let name = format!("priority_queue/threads/push + pop, {count}");
        compare!(criterion, name, [Stanchion, NotifyingHeap, PriorityChannel], |group, C| {
            push_pop_together::<C>(group, threads)
        });
    }

    for (name, spread) in [
        ("priority_queue/drain/16 priorities, 1,000,000 items", Spread::Sixteen),
        ("priority_queue/drain/all distinct, 1,000,000 items", Spread::Distinct),
    ] {
        tell_drain::<Polled<Stanchion>>(name, spread);
        tell_drain::<Polled<Mpsc>>(name, spread);
        tell_drain::<Polled<PriorityChannel>>(name, spread);
        tell_drain::<LockedHeap>(name, spread);
        tell_drain::<LockedMap>(name, spread);
        tell_drain::<StdMpsc>(name, spread);
    }

    let waker = &counting_waker();
    compare!(
        criterion,
        "priority_queue/wait/a pop for a push",
        [Stanchion, Mpsc, UnboundedMpsc, NotifyingHeap, PriorityChannel],
        |group, C| pop_waits::<C>(group, waker)
    );
    compare!(criterion, "priority_queue/wait/a push for a pop", [Stanchion, Mpsc, PriorityChannel], |group, C| {
        push_waits::<C>(group, waker)
    });

    criterion.final_summary();
}

/// The items of a queue while others are pushed and popped.
#[derive(Clone, Copy)]
struct Backlog {
    spread: Spread,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Spread {
    /// Each of a fixed set of 16, drawn at random.
    Sixteen,
    /// Deadlines, as of timers or requests: each a random time after the last one popped, counted down.
    Distinct,
}

impl Spread {
    /// The next item's priority, when the item popped last had this one.
    fn next(self, popped: u64, dice: &mut Dice) -> u64 {
        match self {
            Self::Sixteen => u64::from(dice.roll() >> 28),
            Self::Distinct => popped.wrapping_sub((u64::from(dice.roll()) << 8) | u64::from(dice.roll() >> 24)),
        }
    }

    /// The priority of an item that is pushed before the measurement.
    fn first(self, dice: &mut Dice) -> u64 {
        self.next(u64::MAX, dice)
    }
}

/// A queue; one that is bounded never fills up here.
trait Queue {
    const NAME: &'static str;

    fn with_capacity(capacity: usize) -> Self;
    fn push(&mut self, priority: u64, item: u64);
    /// There is an item.
    fn pop(&mut self) -> (u64, u64);
}

/// Pushes one and pops one, beside `depth` others.
fn push_pop<Q: Queue>(group: &mut Group<'_>, Backlog { spread, depth }: Backlog) {
    let dice = &mut Dice::new();
    // Filled by the first measurement, so that one that is filtered out costs nothing, and kept for all the others.
    let mut filled = None;
    let mut popped = u64::MAX;
    group.bench_function(Q::NAME, |bencher| {
        let queue = filled.get_or_insert_with(|| {
            let mut queue = Q::with_capacity(depth + 1);
            (0..depth).for_each(|item| queue.push(spread.first(dice), item as u64));
            queue
        });
        bencher.iter(|| {
            queue.push(spread.next(popped, dice), 0);
            let (priority, item) = queue.pop();
            popped = priority;
            item
        });
    });
}

/// The slowest of all pops that empty a large queue, while its memory is freed.
fn tell_drain<Q: Queue>(name: &str, spread: Spread) {
    let items = if testing() { 1_000 } else { 1_000_000 };
    figures::tell(name, Q::NAME, || vec![("slowest pop, ns", drain::<Q>(spread, items).as_nanos() as f64)]);
}

fn drain<Q: Queue>(spread: Spread, items: usize) -> Duration {
    let dice = &mut Dice::new();
    let mut queue = Q::with_capacity(items);
    (0..items).for_each(|item| queue.push(spread.first(dice), item as u64));
    let mut last = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..items {
        black_box(queue.pop());
        let now = Instant::now();
        slowest = slowest.max(now - last);
        last = now;
    }
    slowest
}

/// A queue with a key for each item.
trait Keyed {
    const NAME: &'static str;
    type Key;

    fn new() -> Self;
    fn push(&self, priority: u64, item: u64) -> Self::Key;
    fn remove(&self, key: Self::Key) -> u64;
    /// The key may become another one.
    fn set_priority(&self, key: &mut Self::Key, priority: u64);
}

fn keyed<K: Keyed>(Backlog { spread, depth }: Backlog, dice: &mut Dice) -> (K, Vec<K::Key>) {
    let queue = K::new();
    let keys = (0..depth).map(|item| queue.push(spread.first(dice), item as u64)).collect();
    (queue, keys)
}

/// Pushes one, and removes one at random, perhaps the same.
fn push_remove<K: Keyed>(group: &mut Group<'_>, backlog: Backlog) {
    let dice = &mut Dice::new();
    let mut filled = None;
    group.bench_function(K::NAME, |bencher| {
        let (queue, keys) = filled.get_or_insert_with(|| keyed::<K>(backlog, dice));
        bencher.iter(|| {
            keys.push(queue.push(backlog.spread.first(dice), 0));
            let key = keys.swap_remove(dice.below(keys.len()));
            queue.remove(key)
        });
    });
}

/// Gives one at random another priority.
fn set_priority<K: Keyed>(group: &mut Group<'_>, backlog: Backlog) {
    let dice = &mut Dice::new();
    let mut filled = None;
    group.bench_function(K::NAME, |bencher| {
        let (queue, keys) = filled.get_or_insert_with(|| keyed::<K>(backlog, dice));
        bencher.iter(|| {
            let key = dice.below(keys.len());
            queue.set_priority(&mut keys[key], backlog.spread.first(dice));
        });
    });
}

/// A queue with an end to push into and an end to pop from, where one can wait. Futures keep the type that their crate
/// gave them, except that none of them yields an error.
trait Channel: 'static {
    const NAME: &'static str;
    type Sender: Clone + Send + 'static;
    type Receiver: Send + 'static;

    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver);
    fn push(sender: &Self::Sender, priority: u64, item: u64) -> impl Future<Output = impl Sized> + Send;
    fn pop(receiver: &mut Self::Receiver) -> impl Future<Output = (u64, u64)> + Send;
}

/// A channel with futures that are ready when they are polled once by hand.
struct Polled<C: Channel>(C::Sender, C::Receiver);

impl<C: Channel> Queue for Polled<C> {
    const NAME: &'static str = C::NAME;

    fn with_capacity(capacity: usize) -> Self {
        let (sender, receiver) = C::channel(capacity);
        Self(sender, receiver)
    }

    fn push(&mut self, priority: u64, item: u64) {
        claim(pin!(C::push(&self.0, priority, item)), &mut Context::from_waker(Waker::noop()));
    }

    fn pop(&mut self) -> (u64, u64) {
        claim(pin!(C::pop(&mut self.1)), &mut Context::from_waker(Waker::noop()))
    }
}

/// A pop begins to wait, a push serves it.
fn pop_waits<C: Channel>(group: &mut Group<'_>, waker: &Waker) {
    let cx = &mut Context::from_waker(waker);
    let (sender, mut receiver) = black_box(C::channel(1));
    group.bench_function(C::NAME, |bencher| {
        bencher.iter(|| {
            let mut pop = pin!(C::pop(&mut receiver));
            wait(pop.as_mut(), cx);
            claim(pin!(C::push(&sender, 0, 0)), cx);
            claim(pop, cx)
        });
    });
}

/// A push begins to wait for room, a pop makes it.
fn push_waits<C: Channel>(group: &mut Group<'_>, waker: &Waker) {
    let cx = &mut Context::from_waker(waker);
    let (sender, mut receiver) = black_box(C::channel(1));
    claim(pin!(C::push(&sender, 0, 0)), cx);
    group.bench_function(C::NAME, |bencher| {
        bencher.iter(|| {
            let mut push = pin!(C::push(&sender, 0, 0));
            wait(push.as_mut(), cx);
            let popped = claim(pin!(C::pop(&mut receiver)), cx);
            claim(push, cx);
            popped
        });
    });
}

/// Items of an iteration, so many that each producer and each consumer has a share.
const SHARES: usize = 4;

/// Room for so many items, if a contender is bounded.
const ROOM: usize = 128;

/// Many producers, one consumer.
fn crowd<C: Channel>(group: &mut Group<'_>, runtime: &Runtime, producers: usize) {
    measure_crowd::<C>(group, runtime, producers, |receiver| vec![receiver]);
}

/// Many producers, many consumers.
fn shared_crowd<C: Channel<Receiver: Clone>>(
    group: &mut Group<'_>,
    runtime: &Runtime,
    producers: usize,
    consumers: usize,
) {
    measure_crowd::<C>(group, runtime, producers, |receiver| vec![receiver; consumers]);
}

/// Spawning is inside the measured time, spread over all items of a sample.
fn measure_crowd<C: Channel>(
    group: &mut Group<'_>,
    runtime: &Runtime,
    producers: usize,
    share: impl Fn(C::Receiver) -> Vec<C::Receiver>,
) {
    group.throughput(Throughput::Elements(SHARES as u64)).sampling_mode(SamplingMode::Flat);
    group.bench_function(C::NAME, |bencher| {
        bencher.iter_custom(|rounds| {
            let (sender, receiver) = C::channel(ROOM);
            runtime.block_on(pass_through::<C>(vec![sender; producers], share(receiver), rounds as usize * SHARES))
        });
    });
}

async fn pass_through<C: Channel>(senders: Vec<C::Sender>, receivers: Vec<C::Receiver>, items: usize) -> Duration {
    let (pushes, pops) = (items / senders.len(), items / receivers.len());
    let start = Instant::now();
    let mut tasks = Vec::new();
    for mut receiver in receivers {
        tasks.push(tokio::spawn(async move {
            for _ in 0..pops {
                black_box(C::pop(&mut receiver).await);
            }
        }));
    }
    for sender in senders {
        tasks.push(tokio::spawn(async move {
            let mut dice = Dice::new();
            for item in 0..pushes {
                C::push(&sender, Spread::Sixteen.first(&mut dice), item as u64).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("a task panicked");
    }
    start.elapsed()
}

/// Each thread pushes one and pops one, over and over, so that none waits for an item.
fn push_pop_together<C: Channel<Sender: Sync, Receiver: Clone + Sync>>(group: &mut Group<'_>, threads: usize) {
    let (sender, receiver) = C::channel(ROOM);
    contend(group, C::NAME, threads, |_, times| {
        let (mut receiver, mut dice) = (receiver.clone(), Dice::new());
        for item in 0..times {
            now(C::push(&sender, Spread::Sixteen.first(&mut dice), item));
            black_box(now(C::pop(&mut receiver)));
        }
    });
}

type Stanchion = stanchion::PriorityQueue<u64, u64>;

impl Channel for Stanchion {
    const NAME: &'static str = "stanchion";
    type Sender = Arc<Self>;
    type Receiver = Arc<Self>;

    fn channel(capacity: usize) -> (Arc<Self>, Arc<Self>) {
        let queue = Arc::new(Self::bounded(capacity));
        (Arc::clone(&queue), queue)
    }

    fn push(sender: &Arc<Self>, priority: u64, item: u64) -> impl Future<Output = impl Sized> + Send {
        stanchion::PriorityQueue::push(sender, priority, item)
    }

    async fn pop(receiver: &mut Arc<Self>) -> (u64, u64) {
        stanchion::PriorityQueue::pop(receiver).await.expect("it is open")
    }
}

impl Keyed for Stanchion {
    const NAME: &'static str = "stanchion";
    type Key = stanchion::Key;

    fn new() -> Self {
        Self::unbounded()
    }

    fn push(&self, priority: u64, item: u64) -> stanchion::Key {
        self.try_push(priority, item).expect("it is unbounded")
    }

    fn remove(&self, key: stanchion::Key) -> u64 {
        self.remove(key).expect("it is there").1
    }

    fn set_priority(&self, key: &mut stanchion::Key, priority: u64) {
        assert!(self.set_priority(*key, priority));
    }
}

/// First in, first out.
struct Mpsc;

impl Channel for Mpsc {
    const NAME: &'static str = "tokio mpsc";
    type Sender = mpsc::Sender<(u64, u64)>;
    type Receiver = mpsc::Receiver<(u64, u64)>;

    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver) {
        mpsc::channel(capacity)
    }

    fn push(sender: &Self::Sender, priority: u64, item: u64) -> impl Future<Output = impl Sized> + Send {
        sender.send((priority, item))
    }

    async fn pop(receiver: &mut Self::Receiver) -> (u64, u64) {
        receiver.recv().await.expect("it is open")
    }
}

/// std's channel: first in, first out.
struct StdMpsc(std::sync::mpsc::Sender<(u64, u64)>, std::sync::mpsc::Receiver<(u64, u64)>);

impl Queue for StdMpsc {
    const NAME: &'static str = "std mpsc";

    fn with_capacity(_: usize) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        Self(sender, receiver)
    }

    fn push(&mut self, priority: u64, item: u64) {
        self.0.send((priority, item)).expect("it is open");
    }

    fn pop(&mut self) -> (u64, u64) {
        self.1.try_recv().expect("there is one")
    }
}

/// First in, first out, and no limit: sending needs no future.
struct UnboundedMpsc;

impl Channel for UnboundedMpsc {
    const NAME: &'static str = "tokio unbounded mpsc";
    type Sender = mpsc::UnboundedSender<(u64, u64)>;
    type Receiver = mpsc::UnboundedReceiver<(u64, u64)>;

    fn channel(_: usize) -> (Self::Sender, Self::Receiver) {
        mpsc::unbounded_channel()
    }

    fn push(sender: &Self::Sender, priority: u64, item: u64) -> impl Future<Output = impl Sized> + Send {
        ready(sender.send((priority, item)))
    }

    async fn pop(receiver: &mut Self::Receiver) -> (u64, u64) {
        receiver.recv().await.expect("it is open")
    }
}

struct PriorityChannel;

impl Channel for PriorityChannel {
    const NAME: &'static str = "async-priority-channel";
    type Sender = async_priority_channel::Sender<u64, u64>;
    type Receiver = async_priority_channel::Receiver<u64, u64>;

    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver) {
        async_priority_channel::bounded(capacity as u64)
    }

    fn push(sender: &Self::Sender, priority: u64, item: u64) -> impl Future<Output = impl Sized> + Send {
        sender.send(item, priority)
    }

    async fn pop(receiver: &mut Self::Receiver) -> (u64, u64) {
        let (item, priority) = receiver.recv().await.expect("it is open");
        (priority, item)
    }
}

/// A binary heap in which the older of two equals is the greater.
#[derive(Default)]
struct Heap {
    items: BinaryHeap<(u64, Reverse<u64>, u64)>,
    arrivals: u64,
}

impl Heap {
    fn push(&mut self, priority: u64, item: u64) {
        self.arrivals += 1;
        self.items.push((priority, Reverse(self.arrivals), item));
    }

    fn pop(&mut self) -> Option<(u64, u64)> {
        let (priority, _, item) = self.items.pop()?;
        Some((priority, item))
    }
}

/// What applications write to wait for the item of the highest priority; unbounded.
#[derive(Default)]
struct NotifyingHeap {
    heap: tokio::sync::Mutex<Heap>,
    pushed: Notify,
}

impl Channel for NotifyingHeap {
    const NAME: &'static str = "tokio BinaryHeap + Notify";
    type Sender = Arc<Self>;
    type Receiver = Arc<Self>;

    fn channel(_: usize) -> (Arc<Self>, Arc<Self>) {
        let queue = Arc::new(Self::default());
        (Arc::clone(&queue), queue)
    }

    async fn push(sender: &Arc<Self>, priority: u64, item: u64) -> impl Sized {
        sender.heap.lock().await.push(priority, item);
        sender.pushed.notify_one();
    }

    async fn pop(receiver: &mut Arc<Self>) -> (u64, u64) {
        if let Some(popped) = receiver.heap.lock().await.pop() {
            return popped;
        }
        let mut pushed = pin!(receiver.pushed.notified());
        loop {
            // Enqueued before looking again, or one of two pushes at once might be lost.
            pushed.as_mut().enable();
            if let Some(popped) = receiver.heap.lock().await.pop() {
                return popped;
            }
            pushed.as_mut().await;
            pushed.set(receiver.pushed.notified());
        }
    }
}

/// A heap without waiters.
struct LockedHeap(parking_lot::Mutex<Heap>);

impl Queue for LockedHeap {
    const NAME: &'static str = "parking_lot BinaryHeap";

    fn with_capacity(_: usize) -> Self {
        Self(parking_lot::Mutex::default())
    }

    fn push(&mut self, priority: u64, item: u64) {
        let queue = black_box(&*self);
        queue.0.lock().push(priority, item);
    }

    fn pop(&mut self) -> (u64, u64) {
        let queue = black_box(&*self);
        queue.0.lock().pop().expect("there is one")
    }
}

/// The greatest priority first, then the oldest.
type Place = (Reverse<u64>, u64);

/// A map by priority and number of arrival, without waiters.
#[derive(Default)]
struct LockedMap(parking_lot::Mutex<Map>);

#[derive(Default)]
struct Map {
    items: BTreeMap<Place, u64>,
    arrivals: u64,
}

impl Map {
    fn push(&mut self, priority: u64, item: u64) -> Place {
        self.arrivals += 1;
        let place = (Reverse(priority), self.arrivals);
        self.items.insert(place, item);
        place
    }
}

impl Queue for LockedMap {
    const NAME: &'static str = "parking_lot BTreeMap";

    fn with_capacity(_: usize) -> Self {
        Self::default()
    }

    fn push(&mut self, priority: u64, item: u64) {
        Keyed::push(black_box(&*self), priority, item);
    }

    fn pop(&mut self) -> (u64, u64) {
        let queue = black_box(&*self);
        let ((Reverse(priority), _), item) = queue.0.lock().items.pop_first().expect("there is one");
        (priority, item)
    }
}

impl Keyed for LockedMap {
    const NAME: &'static str = "parking_lot BTreeMap";
    type Key = Place;

    fn new() -> Self {
        Self::default()
    }

    fn push(&self, priority: u64, item: u64) -> Place {
        self.0.lock().push(priority, item)
    }

    fn remove(&self, key: Place) -> u64 {
        self.0.lock().items.remove(&key).expect("it is there")
    }

    fn set_priority(&self, key: &mut Place, priority: u64) {
        let mut map = self.0.lock();
        let item = map.items.remove(key).expect("it is there");
        *key = map.push(priority, item);
    }
}

/// The same without a lock.
#[derive(Default)]
struct SkipMap {
    items: crossbeam_skiplist::SkipMap<Place, u64>,
    arrivals: AtomicU64,
}

impl Queue for SkipMap {
    const NAME: &'static str = "crossbeam-skiplist";

    fn with_capacity(_: usize) -> Self {
        Self::default()
    }

    fn push(&mut self, priority: u64, item: u64) {
        Keyed::push(black_box(&*self), priority, item);
    }

    fn pop(&mut self) -> (u64, u64) {
        let queue = black_box(&*self);
        let popped = queue.items.pop_front().expect("there is one");
        let (Reverse(priority), _) = *popped.key();
        (priority, *popped.value())
    }
}

impl Keyed for SkipMap {
    const NAME: &'static str = "crossbeam-skiplist";
    type Key = Place;

    fn new() -> Self {
        Self::default()
    }

    fn push(&self, priority: u64, item: u64) -> Place {
        let place = (Reverse(priority), self.arrivals.fetch_add(1, Ordering::Relaxed));
        self.items.insert(place, item);
        place
    }

    fn remove(&self, key: Place) -> u64 {
        *self.items.remove(&key).expect("it is there").value()
    }

    fn set_priority(&self, key: &mut Place, priority: u64) {
        let item = self.remove(*key);
        *key = Keyed::push(self, priority, item);
    }
}
