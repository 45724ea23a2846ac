//! A panic at each call of user code, several panics in one operation, and panics during unwinding.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::operations::{OPERATIONS, Operation};
use super::traced::Call::*;
use super::traced::{Call, Config, Existing, Panicked, Plan, existing, reports, reset, watched};
use super::{Context, Outcome, State, each, outcome};
use crate::common::does_not_abort;

/// The same operation without a panic, not run at all, and with a panic when the loader is called or polled.
struct References {
    normal: Outcome,
    skipped: State,
    called: State,
    polled: State,
}

impl References {
    fn new(operation: Operation, key: u32, config: Config) -> Self {
        let state = |plan| outcome(operation, key, config, plan).state;
        let normal = outcome(operation, key, config, Plan::Normal);
        assert!(normal.result.is_ok());
        let (called, polled) = (state(Plan::PanicFirst(&[BeginLoad])), state(Plan::PanicFirst(&[PollLoad])));
        Self { normal, skipped: state(Plan::Skip), called, polled }
    }

    /// Asserts that `got` is the state that must follow if call `n` of `trace` was the first to panic.
    fn check(&self, got: &State, trace: &[Call], n: usize) {
        let Self { normal, skipped, called, polled } = self;
        let is_begun = trace[..=n].iter().any(|call| call.is_of_load());
        let to_begin = !is_begun && normal.trace[n..].iter().any(|call| call.is_of_load());
        let before = if trace[..=n].contains(&PollLoad) {
            polled
        } else if is_begun {
            called
        } else {
            skipped
        };
        match trace[n] {
            // Nothing has changed, except that a load was begun, or removed an expired entry.
            HashKey | BorrowKey | Compare | OwnKey | CloneKey | CloneValue | Predicate | Weigh | WeighAgain
            | ExpireAfter | Clock | BeginLoad | PollLoad | CloneWaker => {
                assert!(
                    got == before || to_begin && got.after_expiry() == skipped.after_expiry(),
                    "{got:?} and not {before:?}"
                );
            }
            // The key was made for the callbacks.
            DropKey if is_begun && n > 0 && [Weigh, ExpireAfter].contains(&trace[n - 1]) => assert_eq!(got, before),
            // It is not specified whether this comes before or after the value is stored.
            DropLoad if is_begun => assert!([before, &normal.state].contains(&got), "{got:?}"),
            // The expired entry is removed, and the load was not begun, or abandoned at once.
            Report | DropKey | DropValue if to_begin => {
                assert!(got.after_expiry() == skipped.after_expiry() || got == called, "{got:?}");
            }
            // If it is a waker that was replaced, the caller that the panic ends did not follow before.
            DropWaker => assert!([skipped, &normal.state].contains(&got), "{got:?}"),
            DropLoad | Report | DropKey | DropValue | DropError | Wake => assert_eq!(*got, normal.state),
        }
    }
}

#[test]
fn a_panic_of_user_code_leaves_the_state_before_or_after() {
    does_not_abort!(|| {
        let mut seen = BTreeSet::new();
        each(Config::all(), |operation, key, config| {
            let references = References::new(operation, key, config);
            let calls = &references.normal.trace;
            for (n, &call) in calls.iter().enumerate() {
                seen.insert(call);
                let _context = Context(format!("{call:?}, which is call {n} of {calls:?}"));
                let got = outcome(operation, key, config, Plan::PanicAt(n));
                assert_eq!(got.trace[..=n], calls[..=n], "each run makes the same calls");
                match call {
                    Wake if !operation.drops => {
                        assert_eq!(got.result, references.normal.result, "the result is returned")
                    }
                    DropWaker => assert!([Err(n), references.normal.result.clone()].contains(&got.result)),
                    _ => assert_eq!(got.result, Err(n), "the panic reaches the caller"),
                }
                if operation.races && call.is_before() && !calls[..=n].iter().any(|call| call.is_of_load()) {
                    let lookups = |state: &State| state.stats.hits + state.stats.misses;
                    assert_eq!(lookups(&got.state), lookups(&references.skipped), "it is not counted");
                }
                if operation.is_whole(config, call) {
                    references.check(&got.state, calls, n);
                }
            }
        });
        assert_eq!(seen.len(), DropWaker as usize + 1, "only these were ever called: {seen:?}");
    });
}

/// Calls that all panic in one operation. The first panic is resumed, and does not keep the others from running.
const TOGETHER: [&[Call]; 10] = [
    &[DropKey],
    &[DropValue],
    &[DropKey, DropValue],
    &[Report, DropKey],
    &[Report, DropValue],
    &[Wake, DropValue],
    &[Wake, DropWaker],
    &[BeginLoad, PollLoad, DropKey, Wake, DropWaker],
    &[CloneValue, DropError, Wake],
    &[DropKey, DropValue, DropError, Report, Wake, DropWaker],
];

#[test]
fn the_first_of_several_panics_is_resumed_without_an_abort() {
    does_not_abort!(|| {
        let mut most = 0;
        each(Config::all(), |operation, key, config| {
            let references = References::new(operation, key, config);
            for calls in TOGETHER {
                let count = references.normal.trace.iter().filter(|call| calls.contains(call)).count();
                if count == 0 {
                    continue;
                }
                most = most.max(count);
                let _context = Context(format!("{calls:?} panic among {:?}", references.normal.trace));
                let got = outcome(operation, key, config, Plan::PanicEach(calls));
                let panics = |call: &Call| calls.contains(call);
                let first = got.trace.iter().position(panics).expect("up to it each run makes the same calls");
                let loud = got.trace.iter().position(|call| panics(call) && (operation.drops || !call.is_of_waker()));
                match got.result {
                    Ok(result) => {
                        assert_eq!(Ok(&result), references.normal.result.as_ref());
                        assert!(loud.is_none(), "the panic reaches the caller");
                    }
                    Err(n) => assert!(loud == Some(n) || n == first && got.trace[n] == DropWaker, "call {n}"),
                }
                let decisive = loud.unwrap_or(first);
                if operation.is_whole(config, got.trace[decisive]) {
                    references.check(&got.state, &got.trace, decisive);
                }
            }
        });
        assert!(most > 5, "{most}");
    });
}

#[test]
fn drops_that_panic_during_unwinding_do_not_abort() {
    does_not_abort!(|| {
        let (mut deepest, mut together) = (0, BTreeSet::new());
        each(Config::all(), |operation, key, config| {
            let references = References::new(operation, key, config);
            let calls = &references.normal.trace;
            for (n, &call) in calls.iter().enumerate() {
                let _context = Context(format!("{call:?}, which is call {n} of {calls:?}"));
                let got = outcome(operation, key, config, Plan::PanicFrom(n));
                let dropped: Vec<_> = got.trace[n + 1..].iter().copied().filter(|call| call.is_drop()).collect();
                deepest = deepest.max(dropped.len());
                together.extend(dropped.into_iter().map(|dropped| (call, dropped)));
                match got.result {
                    Err(first) if !call.is_of_waker() => assert_eq!(first, n, "the first panic is resumed"),
                    Err(first) => assert!(first >= n, "the panic of a later call is resumed"),
                    Ok(_) => assert!(call.is_of_waker(), "the panic reaches the caller"),
                }
                // The panic of a drop after the change may replace that of a waker, but no change is half done.
                if operation.is_whole(config, call) && !call.is_of_waker() {
                    references.check(&got.state, &got.trace, n);
                }
            }
        });
        assert!(deepest > 5, "{deepest}");
        for pair in [(Compare, DropKey), (Compare, DropValue), (CloneValue, DropValue), (OwnKey, DropLoad)] {
            assert!(together.contains(&pair), "{pair:?} never panicked together");
        }
    });
}

#[test]
fn dropping_a_load_during_unwinding_does_not_abort() {
    does_not_abort!(|| {
        for config in Config::all() {
            for operation in OPERATIONS.iter().filter(|operation| operation.drops) {
                for &key in operation.keys(config) {
                    let _context = Context(format!("{} {key}, {config:?}", operation.name));
                    let normal = outcome(*operation, key, config, Plan::Normal);
                    let got = outcome(
                        *operation,
                        key,
                        config,
                        Plan::Unwind(&[DropKey, DropValue, DropError, Wake, DropWaker]),
                    );
                    assert_eq!(got.state, normal.state);
                    assert_eq!(got.result, Err(usize::MAX), "the first panic is resumed");
                }
            }
        }
    });
}

#[test]
fn a_cache_drops_all_entries_though_one_drop_panics() {
    for config in Config::all() {
        reset();
        let calls = 2 * config.filled().len();
        for n in 0..calls {
            let cache = config.filled();
            reports();
            // Another cache is watched, since this one is dropped.
            let (outcome, trace) = watched(Plan::PanicAt(n), &Config::FULL.empty(), || {
                catch_unwind(AssertUnwindSafe(|| drop(Arc::into_inner(cache))))
            });
            assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&Panicked(n)));
            assert_eq!((trace.len(), existing()), (calls, Existing::default()));
            assert_eq!(reports(), [], "entries of a dropped cache are not reported");
        }
    }
}
