//! Runs, against each mutant, the tests and models that reach it, until one of them notices.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::builds::{Built, Copy};
use crate::cover;
use crate::derive::Mutant;
use crate::switch::{self, REACHED, RECORD};
use crate::trial::{self, End, Trial};

/// The files that are changed in any case.
const ROOT: &str = "src/lib.rs";
const MODEL_TESTS: &str = "tests/model/main.rs";

/// The limit for a run without a mutant.
const PATIENCE: Duration = Duration::from_secs(900);
/// The complaint of a model that passed with hardly anything to explore. The mutant may be the cause, and is not caught.
const IDLE: &str = "its threads do not contend";

#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    Caught {
        by: By,
        how: String,
    },
    Survived {
        is_reached: bool,
    },
    /// The compiler refuses it.
    Invalid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    Test,
    Model,
}

type Numbered<'m> = (usize, &'m Mutant);
type Name = (By, String);

/// A test target or a model, as it is without a mutant.
struct Witness {
    name: Name,
    took: Duration,
    /// The mutants that it reaches, unless it does not pass while they are recorded.
    reached: Option<HashSet<usize>>,
    asked: AtomicU32,
    caught: AtomicU32,
}

impl Witness {
    /// The time that it is expected to take for a mutant that it catches, by what it has caught so far. To ask in this
    /// order takes the least time.
    fn price(&self) -> Duration {
        self.took * (self.asked.load(Relaxed) + 2) / (self.caught.load(Relaxed) + 1)
    }

    fn may_reach(&self, mutant: usize) -> bool {
        self.reached.as_ref().is_none_or(|reached| reached.contains(&mutant))
    }
}

pub struct Hunt<'m> {
    copy: Copy,
    jobs: usize,
    /// A model that takes longer is not asked.
    longest: Duration,
    /// By file.
    covers: BTreeMap<&'m str, Vec<Name>>,
    texts: BTreeMap<&'m str, String>,
    /// Of [`ROOT`] and [`MODEL_TESTS`].
    frame: [String; 2],
}

impl<'m> Hunt<'m> {
    pub fn new(root: &'m Path, target: &Path, mutants: &[&'m Mutant], jobs: usize, longest: Duration) -> Result<Self> {
        let (mut covers, mut texts) = (BTreeMap::new(), BTreeMap::new());
        for file in mutants.iter().map(|mutant| &mutant.file[..]) {
            if !texts.contains_key(file) {
                texts.insert(file, fs::read_to_string(root.join(file))?);
                let (tests, models) = cover::of(root, file)?;
                let tests = tests.into_iter().map(|name| (By::Test, name));
                covers.insert(file, tests.chain(models.into_iter().map(|name| (By::Model, name))).collect());
            }
        }
        let frame = [fs::read_to_string(root.join(ROOT))?, fs::read_to_string(root.join(MODEL_TESTS))?];
        Ok(Self { copy: Copy::new(root, target)?, jobs, longest, covers, texts, frame })
    }

    /// Determines the fate of each of `mutants`, and hands it to `done`.
    pub fn run(&self, mutants: &[&'m Mutant], mut done: impl FnMut(&'m Mutant, Fate) -> Result<()>) -> Result<()> {
        let numbered: Vec<Numbered> = (1..).zip(mutants.iter().copied()).collect();
        let (alone, mut together): (Vec<_>, Vec<_>) = numbered.into_iter().partition(|(_, mutant)| mutant.is_const);
        for (_, invalid) in self.write(&mut together)? {
            done(invalid, Fate::Invalid)?;
        }
        let mut too_slow = Vec::new();
        if !together.is_empty() {
            let names: BTreeSet<&Name> =
                together.iter().flat_map(|(_, mutant)| &self.covers[&mutant.file[..]]).collect();
            let names: Vec<&Name> = names.into_iter().collect();
            let built = self.build(&names)?;
            let mut witnesses = self.witnesses(&names, &built)?;
            let is_slow = |witness: &mut Witness| witness.name.0 == By::Model && witness.took > self.longest;
            too_slow.extend(witnesses.extract_if(.., is_slow).map(|witness| witness.name));
            let bar = progress("mutants", together.len());
            let hunt = |&(number, mutant): &Numbered| self.ask_all(number, mutant, &witnesses, &built);
            side_by_side(&together, self.jobs, hunt, |&(_, mutant), fate| {
                bar.inc(1);
                bar.suspend(|| done(mutant, fate))
            })?;
            bar.finish_and_clear();
        }
        self.restore()?;
        let bar = progress("built alone", alone.len());
        for (_, mutant) in alone {
            let fate = self.alone(mutant, &too_slow)?;
            self.restore()?;
            bar.inc(1);
            bar.suspend(|| done(mutant, fate))?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn restore(&self) -> Result<()> {
        let frame = [ROOT, MODEL_TESTS].into_iter().zip(&self.frame);
        let texts = self.texts.iter().map(|(&file, text)| (file, text));
        frame.chain(texts).try_for_each(|(file, text)| self.copy.write(file, text))
    }

    /// Lets the source files that the model tests compile for themselves find the switches.
    fn let_model_tests_ask(&self) -> Result<()> {
        let main = &self.frame[1];
        self.copy.write(MODEL_TESTS, &format!("{main}\n#[allow(unused_imports)]\nuse stanchion::mutant;\n"))
    }

    /// Writes `mutants` into the copy. Removes and returns the ones that the compiler refuses.
    fn write(&self, mutants: &mut Vec<Numbered<'m>>) -> Result<Vec<Numbered<'m>>> {
        let mut refused = Vec::new();
        loop {
            let mut root = self.frame[0].clone();
            let mut ranges = BTreeMap::new();
            for (&file, text) in &self.texts {
                let of_file: Vec<Numbered> =
                    mutants.iter().filter(|(_, mutant)| mutant.file == file).copied().collect();
                let switched = switch::switched(text, &of_file);
                ranges.insert(file, switched.ranges);
                if file == ROOT { root = switched.text } else { self.copy.write(file, &switched.text)? }
            }
            // Appended, so that the places of errors are right.
            root += &switch::question();
            self.copy.write(ROOT, &root)?;
            self.let_model_tests_ask()?;
            let mut built = self.copy.check(false)?;
            if built.errors.is_empty() {
                built = self.copy.check(true)?;
            }
            if built.errors.is_empty() {
                return Ok(refused);
            }
            let blamed: HashSet<usize> = built.errors.iter().filter_map(|places| blamed(places, &ranges)).collect();
            if blamed.is_empty() {
                bail!("the mutants do not build, and it is not clear which:\n{}", built.rendered);
            }
            refused.extend(mutants.extract_if(.., |(number, _)| blamed.contains(number)));
        }
    }

    fn build(&self, names: &[&Name]) -> Result<Built> {
        let tests = names.iter().filter(|(by, _)| *by == By::Test).map(|(_, name)| cover::split(name).0);
        let mut built = self.copy.tests(tests)?;
        if names.iter().any(|(by, _)| *by == By::Model) && built.errors.is_empty() {
            let models = self.copy.models()?;
            built.executables.extend(models.executables);
            built.errors.extend(models.errors);
            built.rendered += &models.rendered;
        }
        if built.errors.is_empty() { Ok(built) } else { bail!("the copy does not build:\n{}", built.rendered) }
    }

    fn command(&self, (by, name): &Name, built: &Built) -> Result<Command> {
        match by {
            By::Model => self.copy.model(built, name),
            By::Test => {
                let (target, filter) = cover::split(name);
                self.copy.test(built, target, filter)
            }
        }
    }

    /// Runs each without a mutant: it must pass. Notes how long it takes and which mutants it reaches.
    fn witnesses(&self, names: &[&Name], built: &Built) -> Result<Vec<Witness>> {
        let bar = progress("without a mutant", names.len());
        let mut witnesses = Vec::new();
        let ask = |name: &&Name| {
            let mut command = self.command(name, built)?;
            let reached = self.copy.root.with_file_name(format!("reached-{}", name.1.replace(':', "-")));
            fs::remove_file(&reached).ok();
            let mut trial = trial::run(command.env(REACHED, &reached), RECORD, PATIENCE)?;
            // Recording allocates, which fails the tests that count allocations.
            if trial.end != End::Passed {
                trial = trial::run(&command, 0, PATIENCE)?;
                return Ok((trial, None));
            }
            let numbers = fs::read_to_string(&reached).unwrap_or_default();
            Ok((trial, Some(numbers.lines().filter_map(|number| number.parse().ok()).collect())))
        };
        side_by_side(names, self.jobs, ask, |name, (Trial { end, took, printed }, reached)| {
            bar.inc(1);
            if end != End::Passed {
                bail!("{} does not pass, though no mutant was chosen:\n{printed}", name.1);
            }
            let (asked, caught) = Default::default();
            witnesses.push(Witness { name: (*name).clone(), took, reached, asked, caught });
            Ok(())
        })?;
        bar.finish_and_clear();
        Ok(witnesses)
    }

    fn ask_all(&self, number: usize, mutant: &Mutant, witnesses: &[Witness], built: &Built) -> Result<Fate> {
        let names = &self.covers[&mutant.file[..]];
        let reach = |witness: &&Witness| names.contains(&witness.name) && witness.may_reach(number);
        let mut witnesses: Vec<_> = witnesses.iter().filter(reach).collect();
        witnesses.sort_by_cached_key(|witness| witness.price());
        let is_reached = witnesses.iter().any(|witness| witness.reached.is_some());
        let mut slow = None;
        for witness in witnesses {
            let noticed = self.ask(&witness.name, number, Some(witness.took), built)?;
            witness.asked.fetch_add(1, Relaxed);
            witness.caught.fetch_add(u32::from(noticed.is_some()), Relaxed);
            match noticed {
                // loom reports a deadlock by itself. A model that takes long may only have more to explore.
                Some(how) if how == "hangs" && witness.name.0 == By::Model => slow = slow.or(Some(&witness.name)),
                Some(how) => return Ok(caught(&witness.name, how)),
                None => {}
            }
        }
        Ok(slow.map_or(Fate::Survived { is_reached }, |name| caught(name, "hangs".into())))
    }

    /// How a test or a model notices a mutant, if it does.
    fn ask(&self, name: &Name, number: usize, took: Option<Duration>, built: &Built) -> Result<Option<String>> {
        // Generous: there may be more to do with the mutant, and others run beside it.
        let limit = took.map_or(Duration::from_secs(240), |took| Duration::from_secs(15) + 5 * took);
        let Trial { end, printed, .. } = trial::run(&self.command(name, built)?, number, limit)?;
        Ok(match end {
            End::Passed => None,
            End::Hung => Some("hangs".into()),
            End::Failed if name.0 == By::Model && printed.contains(IDLE) => None,
            End::Failed => Some(trial::failed(&printed).next().unwrap_or("fails").to_owned()),
        })
    }

    /// A mutant that cannot be switched: its builds are its own, the models' only if no test notices it.
    fn alone(&self, mutant: &Mutant, too_slow: &[Name]) -> Result<Fate> {
        let text = &self.texts[&mutant.file[..]];
        let changed = [&text[..mutant.range.start], &mutant.replacement(text), &text[mutant.range.end..]].concat();
        self.copy.write(&mutant.file, &changed)?;
        if !self.copy.check(false)?.errors.is_empty() || !self.copy.check(true)?.errors.is_empty() {
            return Ok(Fate::Invalid);
        }
        for by in [By::Test, By::Model] {
            let names: Vec<&Name> = self.covers[&mutant.file[..]].iter().filter(|name| name.0 == by).collect();
            let built = self.build(&names)?;
            for name in names.into_iter().filter(|name| !too_slow.contains(name)) {
                if let Some(how) = self.ask(name, 0, None, &built)? {
                    return Ok(caught(name, how));
                }
            }
        }
        Ok(Fate::Survived { is_reached: true })
    }
}

fn caught((by, name): &Name, how: String) -> Fate {
    Fate::Caught { by: *by, how: format!("{name}: {how}") }
}

/// The innermost mutant around the first place of an error that is in one.
fn blamed(places: &[(String, Range<usize>)], ranges: &BTreeMap<&str, Vec<(Range<usize>, usize)>>) -> Option<usize> {
    places.iter().find_map(|(file, place)| {
        let around = ranges.get(&file[..])?.iter();
        let around = around.filter(|(range, _)| range.start <= place.start && place.end <= range.end);
        around.min_by_key(|(range, _)| range.len()).map(|(_, number)| *number)
    })
}

/// Does `work` on all items, `jobs` at a time, and hands each result to `done` as it arrives.
fn side_by_side<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> Result<R> + Sync,
    mut done: impl FnMut(&T, R) -> Result<()>,
) -> Result<()> {
    let queue = Mutex::new(items.iter());
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, queue, work) = (sender.clone(), &queue, &work);
            scope.spawn(move || {
                let next = || queue.lock().expect("no thread panics with it").next();
                while let Some(item) = next() {
                    if sender.send((item, work(item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        // Moved in, so that it is dropped, and every thread stops, at the first error.
        let mut receiver = receiver.into_iter();
        receiver.try_for_each(|(item, result)| done(item, result?))
    })
    .context("the run was cut short")
}

fn progress(what: &str, length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} {elapsed}").expect("a template");
    ProgressBar::new(length as u64).with_style(style).with_message(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mutant_is_blamed_for_an_error() {
        let ranges = BTreeMap::from([("a.rs", vec![(0..100, 1), (10..50, 2), (60..70, 3)])]);
        let blame = |places: &[(&str, Range<usize>)]| {
            let places: Vec<_> = places.iter().map(|(file, place)| (file.to_string(), place.clone())).collect();
            blamed(&places, &ranges)
        };
        assert_eq!(blame(&[("a.rs", 12..14)]), Some(2));
        assert_eq!(blame(&[("a.rs", 45..55)]), Some(1));
        assert_eq!(blame(&[("b.rs", 12..14), ("a.rs", 60..70)]), Some(3));
        assert_eq!(blame(&[("a.rs", 90..110)]), None);
    }

    #[test]
    fn all_items_are_done_or_an_error_ends_it() {
        let mut sum = 0;
        let add = |_: &u32, it| {
            sum += it;
            Ok(())
        };
        side_by_side(&[1, 2, 3], 2, |it| Ok(it * 2), add).unwrap();
        assert_eq!(sum, 12);
        assert!(side_by_side(&[1, 2], 2, |_| -> Result<u32> { bail!("no") }, |_, _| Ok(())).is_err());
    }
}
