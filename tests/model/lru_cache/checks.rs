//! The comparison of cache and model after each step.

use std::mem;

use super::loads::{Caller, Part};
use super::operations::Op;
use super::test::Test;
use super::user_code::{What, lock, seen};

impl<I: Iterator<Item = Op>> Test<'_, I> {
    pub(super) fn check(&mut self) {
        self.cache.validate();
        assert_eq!(self.cache.flights(), self.model.loads.len(), "loads with members");
        self.check_entries();
        let woken = mem::take(&mut *self.log.lock().expect("nothing panics under this lock"));
        assert_eq!(woken, mem::take(&mut self.model.woken), "wakes");
        self.check_environment();
        self.check_wakers();
    }

    /// Compares the entries, expired ones included, and all counts.
    fn check_entries(&mut self) {
        let mut environment = lock(&self.environment);
        assert!(self.model.limits.need_a_clock() || environment.clock_reads == 0, "no clock is read in vain");
        // At the time before all insertions nothing has expired.
        environment.seconds = 0;
        drop(environment);
        let mut entries = Vec::new();
        self.cache.for_each(|key, value| entries.push(seen(key, value)));
        let expected = self.model.entries().map(|entry| (entry.key, entry.serial, entry.value));
        assert_eq!(entries, expected.collect::<Vec<_>>(), "entries in their order");
        assert_eq!(self.cache.len(), entries.len(), "len");
        assert_eq!(self.cache.is_empty(), entries.is_empty(), "is_empty");
        assert_eq!(u128::from(self.cache.weight()), self.model.weight(), "weight");
        assert_eq!(self.cache.capacity(), self.model.capacity, "capacity");
        assert_eq!(self.cache.stats(), self.model.stats, "stats");
        lock(&self.environment).seconds = self.model.now;
    }

    /// Compares reports, loaders, and the numbers of keys, values and errors.
    fn check_environment(&mut self) {
        let mut environment = lock(&self.environment);
        assert_eq!(mem::take(&mut environment.reports), mem::take(&mut self.model.reports), "reports");
        assert_eq!(mem::take(&mut environment.calls), mem::take(&mut self.model.calls), "loaders that were begun");
        let callers = &self.model.callers;
        let leads = |name: &usize| callers.get(name).is_some_and(|caller| matches!(caller.part, Part::Leads(_)));
        for (name, job) in &environment.jobs {
            assert_eq!(job.is_running, leads(name), "the loader of caller {name} runs");
        }
        environment.jobs.retain(|name, _| callers.contains_key(name));
        let loads = self.model.loads.values();
        let mut alive = [self.model.entries().count(); 3];
        alive[What::Key as usize] += loads.clone().filter(|load| load.registered).count();
        alive[What::Value as usize] += loads.filter(|load| load.carries).count();
        let error = |caller: &Caller| if let Part::HasError(_, error) = caller.part { Some(error) } else { None };
        let mut errors: Vec<_> = callers.values().filter_map(error).collect();
        errors.sort_unstable();
        errors.dedup();
        alive[What::Error as usize] = errors.len();
        assert_eq!(environment.alive, alive, "numbers of keys, values and errors");
    }

    fn check_wakers(&mut self) {
        let callers = &self.model.callers;
        for (name, alarms) in &self.alarms {
            let held = callers.get(name).map_or([None; 2], |caller| [caller.waker, caller.job_waker]);
            let expected = [0, 1].map(|which| held.iter().filter(|&&held| held == Some(which)).count());
            assert_eq!(alarms.clones(), expected, "wakers are kept only for callers that wait");
        }
        self.alarms.retain(|name, _| callers.contains_key(name));
    }
}
