//! Everything that can be done with a cache, for foreign code to interfere with.

use std::cell::RefCell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::Poll;

use super::world::{Blown, Cache, Call, Caller, Config, Key, Plan, Probe, Script, Value, meanwhile, quietly, watched};

/// What is done with which keys; all of it in `Stage::act`, but for what must be there before and is cleared up after.
#[derive(Clone, Copy)]
pub(crate) struct Deed {
    pub(crate) name: &'static str,
    keys: Keys,
    pub(crate) run: fn(&Stage, u32),
    /// Whether it only drops loads, and so passes on what their wakers panic with.
    pub(crate) drops: bool,
    /// Whether it goes from shard to shard asking foreign code on its way, so that a panic finds some done.
    asks_by_shard: bool,
    /// Whether something else happens meanwhile.
    pub(crate) races: bool,
}

/// The oldest, which has expired if it can; one that is there; one that is not.
const OLDEST: u32 = 1;
const PRESENT: u32 = 2;
const ABSENT: u32 = 50;

/// The keys that a deed is done with.
#[derive(Clone, Copy)]
pub(crate) enum Keys {
    None,
    Each,
    /// What there is no value of.
    Gone,
}

impl Deed {
    pub(crate) fn keys(self, config: Config) -> &'static [u32] {
        match self.keys {
            Keys::None => &[0],
            Keys::Each => &[OLDEST, PRESENT, ABSENT],
            Keys::Gone if config.lives => &[OLDEST, ABSENT],
            Keys::Gone => &[ABSENT],
        }
    }

    /// Whether all is as before or as after it when this panics.
    pub(crate) fn is_whole(self, config: Config, call: Call) -> bool {
        !(self.races || self.asks_by_shard && config.shards > 1 && call.is_inside())
    }
}

const fn deed(name: &'static str, keys: Keys, run: fn(&Stage, u32)) -> Deed {
    Deed { name, keys, run, drops: false, asks_by_shard: false, races: false }
}

const fn drops(name: &'static str, run: fn(&Stage, u32)) -> Deed {
    Deed { drops: true, ..deed(name, Keys::Gone, run) }
}

const fn races(name: &'static str, run: fn(&Stage, u32)) -> Deed {
    Deed { races: true, ..deed(name, Keys::Gone, run) }
}

const fn asks(name: &'static str, run: fn(&Stage, u32)) -> Deed {
    Deed { asks_by_shard: true, ..deed(name, Keys::None, run) }
}

/// A cache with which something is done.
pub(crate) struct Stage {
    pub(crate) cache: Arc<Cache>,
    plan: Plan,
    pub(crate) acted: RefCell<Option<Acted>>,
    /// What the callers got.
    pub(crate) got: RefCell<Vec<String>>,
}

/// Does something when it is dropped.
struct AtEnd<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|act| act());
    }
}

/// What came of it.
pub(crate) struct Acted {
    pub(crate) outcome: std::thread::Result<String>,
    pub(crate) trace: Vec<Call>,
}

impl Stage {
    pub(crate) fn new(cache: Arc<Cache>, plan: Plan) -> Self {
        Self { cache, plan, acted: RefCell::default(), got: RefCell::default() }
    }

    /// Does it while foreign code follows the plan.
    fn act<'s, R: Debug>(&'s self, deed: impl FnOnce(&'s Cache) -> R) {
        let (outcome, trace) = match self.plan {
            Plan::Skip => (Ok(None), Vec::new()),
            Plan::Unwind(_) => watched(self.plan, &self.cache, || {
                catch_unwind(AssertUnwindSafe(|| {
                    let _deed = AtEnd(Some(|| drop(deed(&self.cache))));
                    resume_unwind(Box::new(Blown(usize::MAX)))
                }))
            }),
            plan => watched(plan, &self.cache, || catch_unwind(AssertUnwindSafe(|| Some(deed(&self.cache))))),
        };
        // What it returned is not dropped before nobody watches.
        let outcome = outcome.map(|output| format!("{output:?}"));
        *self.acted.borrow_mut() = Some(Acted { outcome, trace });
    }

    /// A load that goes as in `script`, the first to ask.
    fn leading(&self, key: u32, script: Script) -> Caller<'_> {
        Caller::new(&self.cache, key, script.held()).waiting()
    }

    /// So many loads that wait for another, and have values of their own.
    fn waiting(&self, key: u32, count: u32) -> Vec<Caller<'_>> {
        (0..count).map(|number| Caller::new(&self.cache, key, Script::new(1_000 + number)).waiting()).collect()
    }

    /// A load and two that wait for it.
    fn flight(&self, key: u32, script: Script) -> (Caller<'_>, Vec<Caller<'_>>) {
        let leader = self.leading(key, script);
        (leader, self.waiting(key, 2))
    }

    /// Two that wait, and whose leader has left.
    fn leaderless(&self, key: u32) -> Vec<Caller<'_>> {
        let (leader, line) = self.flight(key, Script::new(100));
        drop(leader);
        line
    }

    /// Polls those who are woken until all have got something.
    fn finish<'c>(&self, line: impl IntoIterator<Item = Caller<'c>>) {
        let mut line: Vec<_> = line.into_iter().map(|caller| (caller, 0)).collect();
        while !line.is_empty() {
            let before = line.len();
            let mut moved = false;
            line.retain_mut(|(caller, seen)| {
                if caller.wakes() == *seen {
                    return true;
                }
                (*seen, moved) = (caller.wakes(), true);
                match caller.poll() {
                    Poll::Ready(outcome) => self.got.borrow_mut().push(format!("{outcome:?}")),
                    Poll::Pending => return true,
                }
                false
            });
            assert!(moved, "{before} wait for ever; the others got {:?}", self.got.borrow());
        }
    }
}

fn value(weight: u64) -> Value {
    Value::new(200, weight)
}

pub(crate) const DEEDS: [Deed; 76] = [
    deed("get", Keys::Each, |stage, key| stage.act(|cache| cache.get(&Probe(key)))),
    deed("peek", Keys::Each, |stage, key| stage.act(|cache| cache.peek(&Probe(key)))),
    deed("contains_key", Keys::Each, |stage, key| stage.act(|cache| cache.contains_key(&Probe(key)))),
    deed("insert", Keys::Each, |stage, key| insert(stage, key, 2)),
    deed("insert one that weighs nothing", Keys::Each, |stage, key| insert(stage, key, 0)),
    deed("insert one for which several leave", Keys::Each, |stage, key| insert(stage, key, 5)),
    deed("insert one that is too heavy", Keys::Each, |stage, key| insert(stage, key, 100)),
    deed("insert into a cache that keeps nothing", Keys::Each, |stage, key| {
        stage.cache.set_capacity(0);
        insert(stage, key, 0);
    }),
    deed("remove", Keys::Each, |stage, key| stage.act(|cache| cache.remove(&Probe(key)))),
    deed("remove_entry", Keys::Each, |stage, key| stage.act(|cache| cache.remove_entry(&Probe(key)))),
    deed("remove_if it is so", Keys::Each, |stage, key| remove_if(stage, key, true)),
    deed("remove_if it is not so", Keys::Each, |stage, key| remove_if(stage, key, false)),
    deed("update", Keys::Each, |stage, key| update(stage, key, 2)),
    deed("update for which another leaves", Keys::Each, |stage, key| update(stage, key, 3)),
    deed("update to what is too heavy", Keys::Each, |stage, key| update(stage, key, 100)),
    asks("for_each", |stage, _| stage.act(|cache| cache.for_each(|_, _| super::world::called(Call::Predicate)))),
    deed("pop_lru", Keys::None, |stage, _| stage.act(Cache::pop_lru)),
    deed("clear", Keys::None, |stage, _| stage.act(Cache::clear)),
    deed("set_capacity to nothing", Keys::None, |stage, _| stage.act(|cache| cache.set_capacity(0))),
    deed("set_capacity to less", Keys::None, |stage, _| stage.act(|cache| cache.set_capacity(3))),
    deed("set_capacity to more", Keys::None, |stage, _| stage.act(|cache| cache.set_capacity(100))),
    asks("retain all", |stage, _| retain(stage, |_| true)),
    asks("retain some", |stage, _| retain(stage, |id| id % 2 == 1)),
    asks("retain none", |stage, _| retain(stage, |_| false)),
    asks("entries", |stage, _| stage.act(Cache::entries)),
    deed("what only looks", Keys::None, |stage, _| {
        stage.act(|cache| {
            let counts = (cache.len(), cache.is_empty(), cache.weight(), cache.capacity(), cache.stats());
            format!("{counts:?} {cache:?}")
        });
        let acted = stage.acted.borrow();
        assert_eq!(acted.as_ref().unwrap().trace, [], "it needs no foreign code");
    }),
    // On this thread.
    deed("get_or_insert_with", Keys::Each, |stage, key| run(stage, key, Script::new(100).infallible())),
    deed("try_get_or_insert_with", Keys::Each, |stage, key| run(stage, key, Script::new(100))),
    deed("try_get_or_insert_with that makes several leave", Keys::Each, |stage, key| {
        run(stage, key, Script::new(100).weighing(5));
    }),
    deed("try_get_or_insert_with of what is too heavy", Keys::Each, |stage, key| {
        run(stage, key, Script::new(100).weighing(100));
    }),
    deed("try_get_or_insert_with that fails", Keys::Each, |stage, key| run(stage, key, Script::new(100).failing())),
    deed("a sync load that two wait for", Keys::Gone, |stage, key| run_and_join(stage, key, Script::new(100))),
    deed("a sync load of what is too heavy that two wait for", Keys::Gone, |stage, key| {
        run_and_join(stage, key, Script::new(100).weighing(100));
    }),
    deed("a sync load that fails and that two wait for", Keys::Gone, |stage, key| {
        run_and_join(stage, key, Script::new(100).failing());
    }),
    // At one poll.
    deed("get_or_load", Keys::Each, |stage, key| load(stage, key, Script::new(100).infallible())),
    deed("try_get_or_load", Keys::Each, |stage, key| load(stage, key, Script::new(100))),
    deed("try_get_or_load that makes several leave", Keys::Each, |stage, key| {
        load(stage, key, Script::new(100).weighing(5));
    }),
    deed("try_get_or_load of what is too heavy", Keys::Each, |stage, key| {
        load(stage, key, Script::new(100).weighing(100))
    }),
    deed("try_get_or_load that fails", Keys::Each, |stage, key| load(stage, key, Script::new(100).failing())),
    deed("the first poll of a load", Keys::Each, |stage, key| load(stage, key, Script::new(100).held())),
    // At a later one.
    deed("the end of a load", Keys::Gone, |stage, key| {
        let mut leader = stage.leading(key, Script::new(100));
        leader.open();
        stage.act(|_| leader.poll());
    }),
    deed("the end of a load that two wait for", Keys::Gone, |stage, key| ends(stage, key, Script::new(100))),
    deed("the end of a load that more wait for than wakers are taken at once", Keys::Gone, |stage, key| {
        let leader = stage.leading(key, Script::new(100));
        end(stage, leader, stage.waiting(key, 7));
    }),
    deed("the end of a load that makes several leave and two wait for", Keys::Gone, |stage, key| {
        ends(stage, key, Script::new(100).weighing(5));
    }),
    deed("the end of a load of what is too heavy", Keys::Gone, |stage, key| {
        ends(stage, key, Script::new(100).weighing(100));
    }),
    deed("the end of a load that finds something stored", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        drop(stage.cache.remove(&Probe(key)));
        // Another flight, which is over first.
        drop(Script::new(300).run(&stage.cache, key, || {}));
        end(stage, leader, line);
    }),
    deed("the failure of a load that two wait for", Keys::Gone, |stage, key| {
        ends(stage, key, Script::new(100).failing())
    }),
    deed("the failure of a load that two wait for who cannot fail", Keys::Gone, |stage, key| {
        let leader = stage.leading(key, Script::new(100).failing());
        let line = [1_000, 1_001].map(|value| Caller::new(&stage.cache, key, Script::new(value).infallible()));
        end(stage, leader, line.map(Caller::waiting).into());
    }),
    deed("the end of a load whose key was removed", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        drop(stage.cache.remove(&Probe(key)));
        end(stage, leader, line);
    }),
    deed("the failure of a load whose key was removed", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100).failing());
        drop(stage.cache.remove(&Probe(key)));
        end(stage, leader, line);
    }),
    deed("the end of a load that an insert has overtaken", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        drop(stage.cache.insert(Key::new(key), value(2)));
        end(stage, leader, line);
    }),
    deed("insert while others load", Keys::Gone, |stage, key| insert_into_flight(stage, key, 2)),
    deed("insert what is too heavy while others load", Keys::Gone, |stage, key| insert_into_flight(stage, key, 100)),
    deed("insert while nobody leads", Keys::Gone, |stage, key| {
        let line = stage.leaderless(key);
        insert(stage, key, 2);
        stage.finish(line);
    }),
    deed("insert while others load something else", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        insert(stage, OLDEST, 2);
        finish_all(stage, leader, line);
    }),
    deed("remove while others load something else", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        stage.act(|cache| cache.remove(&Probe(OLDEST)));
        finish_all(stage, leader, line);
    }),
    deed("remove while others load", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        stage.act(|cache| cache.remove(&Probe(key)));
        finish_all(stage, leader, line);
    }),
    deed("retain while others load", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        stage.act(|cache| cache.retain(|_, _| true));
        finish_all(stage, leader, line);
    }),
    deed("clear while others load", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        stage.act(Cache::clear);
        finish_all(stage, leader, line);
    }),
    // While foreign code runs, something changes.
    races("get_or_insert_with of what is inserted while its key is made", |stage, key| {
        meanwhile(Call::OwnKey, insert_both);
        run(stage, key, Script::new(100));
    }),
    races("get_or_load of what is inserted while its key is made", |stage, key| {
        meanwhile(Call::OwnKey, insert_both);
        load(stage, key, Script::new(100));
    }),
    races("joining while something is inserted", |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        let mut late = Caller::new(&stage.cache, key, Script::new(2_000));
        meanwhile(Call::CloneWaker, insert_both);
        stage.act(|_| late.poll());
        drop(late);
        finish_all(stage, leader, line);
    }),
    races("joining while the key is removed", |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        let mut late = Caller::new(&stage.cache, key, Script::new(2_000));
        meanwhile(Call::CloneWaker, |cache| [OLDEST, ABSENT].into_iter().for_each(|id| drop(cache.remove(&Probe(id)))));
        stage.act(|_| late.poll());
        drop(late);
        finish_all(stage, leader, line);
    }),
    races("asking again while something is inserted", |stage, key| {
        let (leader, mut line) = stage.flight(key, Script::new(100));
        line[0].moves();
        meanwhile(Call::CloneWaker, insert_both);
        stage.act(|_| line[0].poll());
        drop(line.remove(0));
        finish_all(stage, leader, line);
    }),
    // As one who waits.
    deed("joining", Keys::Gone, |stage, key| {
        let (leader, line) = stage.flight(key, Script::new(100));
        let mut late = Caller::new(&stage.cache, key, Script::new(2_000));
        stage.act(|_| late.poll());
        drop(late);
        finish_all(stage, leader, line);
    }),
    deed("asking again, with another waker", Keys::Gone, |stage, key| {
        let (leader, mut line) = stage.flight(key, Script::new(100));
        line[0].moves();
        stage.act(|_| line[0].poll());
        drop(line.remove(0));
        finish_all(stage, leader, line);
    }),
    deed("getting what another has loaded", Keys::Gone, |stage, key| {
        let (mut leader, line) = stage.flight(key, Script::new(100));
        leader.open();
        drop(leader.poll());
        serve(stage, line);
    }),
    deed("getting, as the last, what another has loaded", Keys::Gone, |stage, key| {
        let (mut leader, mut line) = stage.flight(key, Script::new(100));
        leader.open();
        drop((leader.poll(), line.pop()));
        serve(stage, line);
    }),
    deed("getting another's failure", Keys::Gone, |stage, key| {
        let (mut leader, line) = stage.flight(key, Script::new(100).failing());
        leader.open();
        drop(leader.poll());
        serve(stage, line);
    }),
    deed("taking over", Keys::Gone, |stage, key| serve(stage, stage.leaderless(key))),
    drops("the drop of a load that nobody waits for", |stage, key| {
        let mut leader = stage.leading(key, Script::new(100));
        stage.act(|_| leader.leave());
    }),
    drops("the drop of a load that two wait for", |stage, key| {
        let (mut leader, line) = stage.flight(key, Script::new(100));
        stage.act(|_| leader.leave());
        drop(leader);
        stage.finish(line);
    }),
    drops("the drop of one who waits", |stage, key| {
        let (leader, mut line) = stage.flight(key, Script::new(100));
        stage.act(|_| line[0].leave());
        drop(line.remove(0));
        finish_all(stage, leader, line);
    }),
    drops("the drop of one whose turn it is to lead", |stage, key| {
        let mut line = stage.leaderless(key);
        stage.act(|_| line[0].leave());
        drop(line.remove(0));
        stage.finish(line);
    }),
    drops("the drop of the last for whom something was loaded", |stage, key| {
        drop_last(stage, key, Script::new(100));
    }),
    drops("the drop of the last for whom a load failed", |stage, key| {
        drop_last(stage, key, Script::new(100).failing())
    }),
];

fn insert(stage: &Stage, key: u32, weight: u64) {
    let (key, value) = (Key::new(key), value(weight));
    stage.act(|cache| cache.insert(key, value));
}

/// Whichever it is about.
fn insert_both(cache: &Cache) {
    [OLDEST, ABSENT].into_iter().for_each(|id| drop(cache.insert(Key::new(id), value(2))));
}

fn remove_if(stage: &Stage, key: u32, answer: bool) {
    stage.act(|cache| {
        cache.remove_if(&Probe(key), |_, _| {
            super::world::called(Call::Predicate);
            answer
        })
    });
}

fn update(stage: &Stage, key: u32, weight: u64) {
    stage.act(|cache| cache.update(&Probe(key), |value| super::world::update(value, weight)));
}

fn retain(stage: &Stage, keep: fn(u32) -> bool) {
    stage.act(|cache| {
        cache.retain(|key, _| {
            super::world::called(Call::Predicate);
            keep(key.id())
        });
    });
}

fn run(stage: &Stage, key: u32, script: Script) {
    stage.act(|cache| script.run(cache, key, || {}));
}

/// Two ask while it loads.
fn run_and_join(stage: &Stage, key: u32, script: Script) {
    let line = RefCell::new(Vec::new());
    stage.act(|cache| {
        script.run(cache, key, || {
            let callers = (1_000..1_002).map(|value| Caller::new(cache, key, Script::new(value)));
            // Foreign code may have inserted something.
            line.borrow_mut().extend(callers.filter_map(|mut caller| caller.poll().is_pending().then_some(caller)));
        })
    });
    stage.finish(line.into_inner());
}

/// One poll.
fn load(stage: &Stage, key: u32, script: Script) {
    let mut caller = Caller::new(&stage.cache, key, script);
    stage.act(|_| caller.poll());
}

/// The last poll of one that two wait for.
fn ends(stage: &Stage, key: u32, script: Script) {
    let (leader, line) = stage.flight(key, script);
    end(stage, leader, line);
}

fn end<'c>(stage: &'c Stage, mut leader: Caller<'c>, line: Vec<Caller<'c>>) {
    leader.open();
    stage.act(|_| leader.poll());
    drop(leader);
    stage.finish(line);
}

fn insert_into_flight(stage: &Stage, key: u32, weight: u64) {
    let (leader, line) = stage.flight(key, Script::new(100));
    insert(stage, key, weight);
    finish_all(stage, leader, line);
}

/// After what was done to a flight: its leader comes to its end, and so do the others.
fn finish_all<'c>(stage: &'c Stage, mut leader: Caller<'c>, line: Vec<Caller<'c>>) {
    leader.open();
    let outcome = quietly(|| leader.poll());
    stage.got.borrow_mut().push(format!("{outcome:?}"));
    drop((outcome, leader));
    stage.finish(line);
}

/// The poll of the first, who has been woken.
fn serve<'c>(stage: &'c Stage, mut line: Vec<Caller<'c>>) {
    assert!(line[0].wakes() > 0);
    stage.act(|_| line[0].poll());
    drop(line.remove(0));
    stage.finish(line);
}

/// The drop of the only one who has not yet got what the others got.
fn drop_last(stage: &Stage, key: u32, script: Script) {
    let (mut leader, mut line) = stage.flight(key, script);
    leader.open();
    drop((leader.poll(), leader, line.pop(), stage.cache.remove(&Probe(key))));
    stage.act(|_| line[0].leave());
}
