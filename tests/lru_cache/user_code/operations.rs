//! All operations of a cache, each in the situations in which it calls user code.

use std::cell::RefCell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::Poll;

use super::traced::{
    self, Cache, Call, Caller, Config, Key, Panicked, Plan, Probe, Script, Value, called, meanwhile, quietly, watched,
};

/// An operation and its keys. It runs in `Setup::act`, and only that is watched.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    keys: Keys,
    pub(crate) run: fn(&Setup, u32),
    /// It only drops loads, and so passes on the panics of their wakers.
    pub(crate) drops: bool,
    /// It calls user code for one shard after the other, so that a panic may find some of them done.
    runs_by_shard: bool,
    /// Another operation runs within it.
    pub(crate) races: bool,
}

// The least recently used entry, which has expired if entries expire; one that has not; a key without an entry.
const OLDEST: u32 = 1;
const PRESENT: u32 = 2;
const ABSENT: u32 = 50;

/// The keys of an operation.
#[derive(Clone, Copy)]
pub(crate) enum Keys {
    None,
    Each,
    /// Those that miss.
    Absent,
}

impl Operation {
    pub(crate) fn keys(self, config: Config) -> &'static [u32] {
        match self.keys {
            Keys::None => &[0],
            Keys::Each => &[OLDEST, PRESENT, ABSENT],
            Keys::Absent if config.expires => &[OLDEST, ABSENT],
            Keys::Absent => &[ABSENT],
        }
    }

    /// Returns true if a panic of this call leaves the state from before the operation or from after it.
    pub(crate) fn is_whole(self, config: Config, call: Call) -> bool {
        !(self.races || self.runs_by_shard && config.shards > 1 && call.is_inside())
    }
}

const fn operation(name: &'static str, keys: Keys, run: fn(&Setup, u32)) -> Operation {
    Operation { name, keys, run, drops: false, runs_by_shard: false, races: false }
}

const fn drops(name: &'static str, run: fn(&Setup, u32)) -> Operation {
    Operation { drops: true, ..operation(name, Keys::Absent, run) }
}

const fn races(name: &'static str, run: fn(&Setup, u32)) -> Operation {
    Operation { races: true, ..operation(name, Keys::Absent, run) }
}

const fn by_shard(name: &'static str, run: fn(&Setup, u32)) -> Operation {
    Operation { runs_by_shard: true, ..operation(name, Keys::None, run) }
}

/// A cache on which an operation runs.
pub(crate) struct Setup {
    pub(crate) cache: Arc<Cache>,
    plan: Plan,
    pub(crate) done: RefCell<Option<Done>>,
    /// The results of the callers.
    pub(crate) got: RefCell<Vec<String>>,
}

/// Runs a closure when it is dropped.
struct AtEnd<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|act| act());
    }
}

/// The outcome of an operation, and its calls of user code.
pub(crate) struct Done {
    pub(crate) outcome: std::thread::Result<String>,
    pub(crate) trace: Vec<Call>,
}

impl Setup {
    pub(crate) fn new(cache: Arc<Cache>, plan: Plan) -> Self {
        Self { cache, plan, done: RefCell::default(), got: RefCell::default() }
    }

    /// Runs the operation while user code follows the plan.
    fn act<'s, R: Debug>(&'s self, operation: impl FnOnce(&'s Cache) -> R) {
        let (outcome, trace) = match self.plan {
            Plan::Skip => (Ok(None), Vec::new()),
            Plan::Unwind(_) => watched(self.plan, &self.cache, || {
                catch_unwind(AssertUnwindSafe(|| {
                    let _operation = AtEnd(Some(|| drop(operation(&self.cache))));
                    resume_unwind(Box::new(Panicked(usize::MAX)))
                }))
            }),
            plan => watched(plan, &self.cache, || catch_unwind(AssertUnwindSafe(|| Some(operation(&self.cache))))),
        };
        // The output is dropped after the watch.
        let outcome = outcome.map(|output| format!("{output:?}"));
        *self.done.borrow_mut() = Some(Done { outcome, trace });
    }

    /// A leader whose load follows `script`.
    fn leading(&self, key: u32, script: Script) -> Caller<'_> {
        Caller::new(&self.cache, key, script.held()).following()
    }

    /// Followers, whose own loads would have values of their own.
    fn followers(&self, key: u32, count: u32) -> Vec<Caller<'_>> {
        (0..count).map(|number| Caller::new(&self.cache, key, Script::new(1_000 + number)).following()).collect()
    }

    /// A leader and two followers.
    fn load_in_flight(&self, key: u32, script: Script) -> (Caller<'_>, Vec<Caller<'_>>) {
        let leader = self.leading(key, script);
        (leader, self.followers(key, 2))
    }

    /// Two followers without a leader.
    fn leaderless(&self, key: u32) -> Vec<Caller<'_>> {
        let (leader, followers) = self.load_in_flight(key, Script::new(100));
        drop(leader);
        followers
    }

    /// Polls woken callers until all have results.
    fn finish<'c>(&self, followers: impl IntoIterator<Item = Caller<'c>>) {
        let mut followers: Vec<_> = followers.into_iter().map(|caller| (caller, 0)).collect();
        while !followers.is_empty() {
            let before = followers.len();
            let mut was_woken = false;
            followers.retain_mut(|(caller, seen)| {
                if caller.wakes() == *seen {
                    return true;
                }
                (*seen, was_woken) = (caller.wakes(), true);
                match caller.poll() {
                    Poll::Ready(outcome) => self.got.borrow_mut().push(format!("{outcome:?}")),
                    Poll::Pending => return true,
                }
                false
            });
            assert!(was_woken, "{before} are not woken; the others got {:?}", self.got.borrow());
        }
    }
}

fn value(weight: u64) -> Value {
    Value::new(200, weight)
}

pub(crate) const OPERATIONS: [Operation; 76] = [
    operation("get", Keys::Each, |setup, key| setup.act(|cache| cache.get(&Probe(key)))),
    operation("peek", Keys::Each, |setup, key| setup.act(|cache| cache.peek(&Probe(key)))),
    operation("contains_key", Keys::Each, |setup, key| setup.act(|cache| cache.contains_key(&Probe(key)))),
    operation("insert", Keys::Each, |setup, key| insert(setup, key, 2)),
    operation("insert of weight zero", Keys::Each, |setup, key| insert(setup, key, 0)),
    operation("insert that evicts several", Keys::Each, |setup, key| insert(setup, key, 5)),
    operation("insert of too heavy a value", Keys::Each, |setup, key| insert(setup, key, 100)),
    operation("insert at capacity zero", Keys::Each, |setup, key| {
        setup.cache.set_capacity(0);
        insert(setup, key, 0);
    }),
    operation("remove", Keys::Each, |setup, key| setup.act(|cache| cache.remove(&Probe(key)))),
    operation("remove_entry", Keys::Each, |setup, key| setup.act(|cache| cache.remove_entry(&Probe(key)))),
    operation("remove_if, true", Keys::Each, |setup, key| remove_if(setup, key, true)),
    operation("remove_if, false", Keys::Each, |setup, key| remove_if(setup, key, false)),
    operation("update", Keys::Each, |setup, key| update(setup, key, 2)),
    operation("update that evicts another entry", Keys::Each, |setup, key| update(setup, key, 3)),
    operation("update to too heavy a value", Keys::Each, |setup, key| update(setup, key, 100)),
    by_shard("for_each", |setup, _| setup.act(|cache| cache.for_each(|_, _| called(Call::Predicate)))),
    operation("pop_lru", Keys::None, |setup, _| setup.act(Cache::pop_lru)),
    operation("clear", Keys::None, |setup, _| setup.act(Cache::clear)),
    operation("set_capacity to zero", Keys::None, |setup, _| setup.act(|cache| cache.set_capacity(0))),
    operation("set_capacity to less", Keys::None, |setup, _| setup.act(|cache| cache.set_capacity(3))),
    operation("set_capacity to more", Keys::None, |setup, _| setup.act(|cache| cache.set_capacity(100))),
    by_shard("retain all", |setup, _| retain(setup, |_| true)),
    by_shard("retain some", |setup, _| retain(setup, |id| id % 2 == 1)),
    by_shard("retain none", |setup, _| retain(setup, |_| false)),
    by_shard("entries", |setup, _| setup.act(Cache::entries)),
    operation("calls without user code", Keys::None, |setup, _| {
        setup.act(|cache| {
            let counts = (cache.len(), cache.is_empty(), cache.weight(), cache.capacity(), cache.stats());
            format!("{counts:?} {cache:?}")
        });
        let done = setup.done.borrow();
        assert_eq!(done.as_ref().unwrap().trace, [], "it calls no user code");
    }),
    // Loads on this thread.
    operation("get_or_insert_with", Keys::Each, |setup, key| run(setup, key, Script::new(100).infallible())),
    operation("try_get_or_insert_with", Keys::Each, |setup, key| run(setup, key, Script::new(100))),
    operation("try_get_or_insert_with that evicts several", Keys::Each, |setup, key| {
        run(setup, key, Script::new(100).weighing(5));
    }),
    operation("try_get_or_insert_with of too heavy a value", Keys::Each, |setup, key| {
        run(setup, key, Script::new(100).weighing(100));
    }),
    operation("try_get_or_insert_with that fails", Keys::Each, |setup, key| {
        run(setup, key, Script::new(100).failing())
    }),
    operation("a sync load with two followers", Keys::Absent, |setup, key| run_and_join(setup, key, Script::new(100))),
    operation("a sync load of too heavy a value with two followers", Keys::Absent, |setup, key| {
        run_and_join(setup, key, Script::new(100).weighing(100));
    }),
    operation("a sync load that fails with two followers", Keys::Absent, |setup, key| {
        run_and_join(setup, key, Script::new(100).failing());
    }),
    // Loads that end at their first poll.
    operation("get_or_load", Keys::Each, |setup, key| load(setup, key, Script::new(100).infallible())),
    operation("try_get_or_load", Keys::Each, |setup, key| load(setup, key, Script::new(100))),
    operation("try_get_or_load that evicts several", Keys::Each, |setup, key| {
        load(setup, key, Script::new(100).weighing(5));
    }),
    operation("try_get_or_load of too heavy a value", Keys::Each, |setup, key| {
        load(setup, key, Script::new(100).weighing(100))
    }),
    operation("try_get_or_load that fails", Keys::Each, |setup, key| load(setup, key, Script::new(100).failing())),
    operation("the first poll of a load", Keys::Each, |setup, key| load(setup, key, Script::new(100).held())),
    // Loads that end at a later poll.
    operation("the end of a load", Keys::Absent, |setup, key| {
        let mut leader = setup.leading(key, Script::new(100));
        leader.open();
        setup.act(|_| leader.poll());
    }),
    operation("the end of a load with two followers", Keys::Absent, |setup, key| ends(setup, key, Script::new(100))),
    operation("the end of a load with more followers than a batch has wakers", Keys::Absent, |setup, key| {
        let leader = setup.leading(key, Script::new(100));
        end(setup, leader, setup.followers(key, 7));
    }),
    operation("the end of a load that evicts several, with two followers", Keys::Absent, |setup, key| {
        ends(setup, key, Script::new(100).weighing(5));
    }),
    operation("the end of a load of too heavy a value", Keys::Absent, |setup, key| {
        ends(setup, key, Script::new(100).weighing(100));
    }),
    operation("the end of a load whose key has a value", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        drop(setup.cache.remove(&Probe(key)));
        // Another load, which ends first.
        drop(Script::new(300).run(&setup.cache, key, || {}));
        end(setup, leader, followers);
    }),
    operation("the error of a load with two followers", Keys::Absent, |setup, key| {
        ends(setup, key, Script::new(100).failing())
    }),
    operation("the error of a load with two followers that cannot fail", Keys::Absent, |setup, key| {
        let leader = setup.leading(key, Script::new(100).failing());
        let followers = [1_000, 1_001].map(|value| Caller::new(&setup.cache, key, Script::new(value).infallible()));
        end(setup, leader, followers.map(Caller::following).into());
    }),
    operation("the end of a load whose key was rewas_woken", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        drop(setup.cache.remove(&Probe(key)));
        end(setup, leader, followers);
    }),
    operation("the error of a load whose key was rewas_woken", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100).failing());
        drop(setup.cache.remove(&Probe(key)));
        end(setup, leader, followers);
    }),
    operation("the end of a load that an insert has superseded", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        drop(setup.cache.insert(Key::new(key), value(2)));
        end(setup, leader, followers);
    }),
    operation("insert during a load", Keys::Absent, |setup, key| insert_in_flight(setup, key, 2)),
    operation("insert of too heavy a value during a load", Keys::Absent, |setup, key| {
        insert_in_flight(setup, key, 100)
    }),
    operation("insert during a leaderless load", Keys::Absent, |setup, key| {
        let followers = setup.leaderless(key);
        insert(setup, key, 2);
        setup.finish(followers);
    }),
    operation("insert during a load of another key", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        insert(setup, OLDEST, 2);
        finish_all(setup, leader, followers);
    }),
    operation("remove during a load of another key", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        setup.act(|cache| cache.remove(&Probe(OLDEST)));
        finish_all(setup, leader, followers);
    }),
    operation("remove during a load", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        setup.act(|cache| cache.remove(&Probe(key)));
        finish_all(setup, leader, followers);
    }),
    operation("retain during a load", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        setup.act(|cache| cache.retain(|_, _| true));
        finish_all(setup, leader, followers);
    }),
    operation("clear during a load", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        setup.act(Cache::clear);
        finish_all(setup, leader, followers);
    }),
    // The cache changes while user code runs.
    races("get_or_insert_with of a key that is inserted meanwhile", |setup, key| {
        meanwhile(Call::OwnKey, insert_both);
        run(setup, key, Script::new(100));
    }),
    races("get_or_load of a key that is inserted meanwhile", |setup, key| {
        meanwhile(Call::OwnKey, insert_both);
        load(setup, key, Script::new(100));
    }),
    races("following a load while the key is inserted", |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        let mut late = Caller::new(&setup.cache, key, Script::new(2_000));
        meanwhile(Call::CloneWaker, insert_both);
        setup.act(|_| late.poll());
        drop(late);
        finish_all(setup, leader, followers);
    }),
    races("following a load while the key is rewas_woken", |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        let mut late = Caller::new(&setup.cache, key, Script::new(2_000));
        meanwhile(Call::CloneWaker, |cache| [OLDEST, ABSENT].into_iter().for_each(|id| drop(cache.remove(&Probe(id)))));
        setup.act(|_| late.poll());
        drop(late);
        finish_all(setup, leader, followers);
    }),
    races("polling a follower while the key is inserted", |setup, key| {
        let (leader, mut followers) = setup.load_in_flight(key, Script::new(100));
        followers[0].replace_waker();
        meanwhile(Call::CloneWaker, insert_both);
        setup.act(|_| followers[0].poll());
        drop(followers.remove(0));
        finish_all(setup, leader, followers);
    }),
    // Followers.
    operation("following a load", Keys::Absent, |setup, key| {
        let (leader, followers) = setup.load_in_flight(key, Script::new(100));
        let mut late = Caller::new(&setup.cache, key, Script::new(2_000));
        setup.act(|_| late.poll());
        drop(late);
        finish_all(setup, leader, followers);
    }),
    operation("polling a follower with another waker", Keys::Absent, |setup, key| {
        let (leader, mut followers) = setup.load_in_flight(key, Script::new(100));
        followers[0].replace_waker();
        setup.act(|_| followers[0].poll());
        drop(followers.remove(0));
        finish_all(setup, leader, followers);
    }),
    operation("collecting the value of a load", Keys::Absent, |setup, key| {
        let (mut leader, followers) = setup.load_in_flight(key, Script::new(100));
        leader.open();
        drop(leader.poll());
        serve(setup, followers);
    }),
    operation("collecting the value of a load as the last follower", Keys::Absent, |setup, key| {
        let (mut leader, mut followers) = setup.load_in_flight(key, Script::new(100));
        leader.open();
        drop((leader.poll(), followers.pop()));
        serve(setup, followers);
    }),
    operation("collecting the error of a load", Keys::Absent, |setup, key| {
        let (mut leader, followers) = setup.load_in_flight(key, Script::new(100).failing());
        leader.open();
        drop(leader.poll());
        serve(setup, followers);
    }),
    operation("taking over a load", Keys::Absent, |setup, key| serve(setup, setup.leaderless(key))),
    drops("the drop of a leader without followers", |setup, key| {
        let mut leader = setup.leading(key, Script::new(100));
        setup.act(|_| leader.cancel());
    }),
    drops("the drop of a leader with two followers", |setup, key| {
        let (mut leader, followers) = setup.load_in_flight(key, Script::new(100));
        setup.act(|_| leader.cancel());
        drop(leader);
        setup.finish(followers);
    }),
    drops("the drop of a follower", |setup, key| {
        let (leader, mut followers) = setup.load_in_flight(key, Script::new(100));
        setup.act(|_| followers[0].cancel());
        drop(followers.remove(0));
        finish_all(setup, leader, followers);
    }),
    drops("the drop of a follower that was granted the lead", |setup, key| {
        let mut followers = setup.leaderless(key);
        setup.act(|_| followers[0].cancel());
        drop(followers.remove(0));
        setup.finish(followers);
    }),
    drops("the drop of the last follower with a value", |setup, key| {
        drop_last(setup, key, Script::new(100));
    }),
    drops("the drop of the last follower with an error", |setup, key| {
        drop_last(setup, key, Script::new(100).failing())
    }),
];

fn insert(setup: &Setup, key: u32, weight: u64) {
    let (key, value) = (Key::new(key), value(weight));
    setup.act(|cache| cache.insert(key, value));
}

/// Inserts both keys that may miss.
fn insert_both(cache: &Cache) {
    [OLDEST, ABSENT].into_iter().for_each(|id| drop(cache.insert(Key::new(id), value(2))));
}

fn remove_if(setup: &Setup, key: u32, answer: bool) {
    setup.act(|cache| {
        cache.remove_if(&Probe(key), |_, _| {
            called(Call::Predicate);
            answer
        })
    });
}

fn update(setup: &Setup, key: u32, weight: u64) {
    setup.act(|cache| cache.update(&Probe(key), |value| traced::update(value, weight)));
}

fn retain(setup: &Setup, keep: fn(u32) -> bool) {
    setup.act(|cache| {
        cache.retain(|key, _| {
            called(Call::Predicate);
            keep(key.id())
        });
    });
}

fn run(setup: &Setup, key: u32, script: Script) {
    setup.act(|cache| script.run(cache, key, || {}));
}

/// Two callers follow the load.
fn run_and_join(setup: &Setup, key: u32, script: Script) {
    let followers = RefCell::new(Vec::new());
    setup.act(|cache| {
        script.run(cache, key, || {
            let callers = (1_000..1_002).map(|value| Caller::new(cache, key, Script::new(value)));
            // User code may have inserted the key.
            followers
                .borrow_mut()
                .extend(callers.filter_map(|mut caller| caller.poll().is_pending().then_some(caller)));
        })
    });
    setup.finish(followers.into_inner());
}

/// The first poll of a load.
fn load(setup: &Setup, key: u32, script: Script) {
    let mut caller = Caller::new(&setup.cache, key, script);
    setup.act(|_| caller.poll());
}

/// The last poll of a leader with two followers.
fn ends(setup: &Setup, key: u32, script: Script) {
    let (leader, followers) = setup.load_in_flight(key, script);
    end(setup, leader, followers);
}

fn end<'c>(setup: &'c Setup, mut leader: Caller<'c>, followers: Vec<Caller<'c>>) {
    leader.open();
    setup.act(|_| leader.poll());
    drop(leader);
    setup.finish(followers);
}

fn insert_in_flight(setup: &Setup, key: u32, weight: u64) {
    let (leader, followers) = setup.load_in_flight(key, Script::new(100));
    insert(setup, key, weight);
    finish_all(setup, leader, followers);
}

/// Ends the load after the operation, and serves its followers.
fn finish_all<'c>(setup: &'c Setup, mut leader: Caller<'c>, followers: Vec<Caller<'c>>) {
    leader.open();
    let outcome = quietly(|| leader.poll());
    setup.got.borrow_mut().push(format!("{outcome:?}"));
    drop((outcome, leader));
    setup.finish(followers);
}

/// The poll of the first follower, which was woken.
fn serve<'c>(setup: &'c Setup, mut followers: Vec<Caller<'c>>) {
    assert!(followers[0].wakes() > 0);
    setup.act(|_| followers[0].poll());
    drop(followers.remove(0));
    setup.finish(followers);
}

/// The drop of the only follower that has not collected its result.
fn drop_last(setup: &Setup, key: u32, script: Script) {
    let (mut leader, mut followers) = setup.load_in_flight(key, script);
    leader.open();
    drop((leader.poll(), leader, followers.pop(), setup.cache.remove(&Probe(key))));
    setup.act(|_| followers[0].cancel());
}
