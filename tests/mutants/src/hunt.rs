//! Runs, for each mutant, what may notice it, until something does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::builds::{self, Build};
use crate::lists::{List, Lists};
use crate::results::{By, Fate, How, Results};
use crate::source::{self, Mutant, Sources};
use crate::trial::{self, End, Trial};
use crate::workspace::Workspace;

/// Time for what is not broken.
const PATIENCE: Duration = Duration::from_secs(900);
/// What a model says that went well, but with hardly anything to explore. The breaking may have done that, too.
const IDLE: &str = "its threads do not contend";

/// Something that may notice a mutant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Witness {
    Model(String),
    Test(String),
}

/// What a witness says when nothing is broken.
struct Known {
    took: Duration,
    /// The tests that it runs.
    tests: BTreeSet<String>,
}

/// A layer's build, and what is known of its witnesses.
struct Ground<'h> {
    build: Build,
    logs: PathBuf,
    lists: &'h Lists,
    known: BTreeMap<Witness, Known>,
    /// By list and witness.
    catches: Mutex<BTreeMap<(String, Witness), Catches>>,
}

/// How often a witness was asked about mutants of a list, and noticed.
#[derive(Clone, Copy, Default)]
struct Catches {
    asked: u32,
    caught: u32,
}

/// Finds out the fate of each of `meant` that has none yet, layer after layer.
pub fn run(
    workspace: &Workspace,
    lists: &Lists,
    sources: &Sources,
    meant: &[&Mutant],
    hints: &BTreeMap<usize, By>,
    results: &mut Results,
    jobs: Option<usize>,
) -> Result<()> {
    let jobs = jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    // Only what is left is compiled: an entry that does not build spoils no other list's run.
    let mut left: Vec<&Mutant> = meant.iter().copied().filter(|mutant| results.get(mutant).is_none()).collect();
    // Those take longest of which nothing is known, or that everybody has to be asked about.
    left.sort_by_key(|mutant| (mutant.survives.is_some(), !hints.contains_key(&mutant.number)));
    let layers = source::layers(&left);
    // What does not compile should be told now, not in an hour.
    for layer in &layers {
        Build::check(workspace, &source::with(sources, layer))?;
    }
    for (index, layer) in layers.iter().enumerate() {
        println!("layer {} of {}: {} mutants", index + 1, layers.len(), layer.len());
        let ground = Ground::new(workspace, lists, &source::with(sources, layer), layer, jobs)?;
        let bar = progress("mutants", layer.len());
        side_by_side(
            layer,
            jobs,
            |mutant| match hints.get(&mutant.number).map(|by| ground.ask_again(mutant, by)).transpose()? {
                Some(Some(fate)) => Ok(fate),
                _ => ground.hunt(mutant),
            },
            |mutant, fate| {
                if fate == Fate::Survived && mutant.survives.is_none() {
                    bar.suspend(|| println!("{} survives: {}: {}", mutant.number, mutant.place, mutant.what));
                }
                bar.inc(1);
                results.note(mutant, fate)
            },
        )?;
        bar.finish_and_clear();
    }
    Ok(())
}

/// Whether all is as the lists say.
pub fn verdict(mutants: &[&Mutant], results: &Results) -> Result<()> {
    let (mut caught, mut explained, mut wrong) = (0, 0, Vec::new());
    for mutant in mutants {
        match (results.get(mutant), &mutant.survives) {
            (Some(Fate::Caught { .. }), None) => caught += 1,
            (Some(Fate::Survived), Some(_)) => explained += 1,
            (Some(Fate::Survived), None) => wrong.push((mutant, "survives, and nobody says why")),
            (Some(Fate::Caught { .. }), Some(_)) => wrong.push((mutant, "is said to survive, and was caught")),
            (None, _) => wrong.push((mutant, "was not run")),
        }
    }
    println!("{} mutants: {caught} caught, {explained} survive as explained", mutants.len());
    if wrong.is_empty() {
        return Ok(());
    }
    for (mutant, how) in &wrong {
        eprintln!("{}: {}: {} {how}", mutant.number, mutant.place, mutant.what);
    }
    bail!("{} mutants are not as their lists say", wrong.len());
}

impl<'h> Ground<'h> {
    /// Builds a layer, and sees that with none of its mutants chosen all goes well.
    fn new(
        workspace: &Workspace,
        lists: &'h Lists,
        sources: &Sources,
        mutants: &[&Mutant],
        jobs: usize,
    ) -> Result<Self> {
        let mut witnesses = BTreeSet::new();
        for mutant in mutants {
            let list = lists.of(mutant);
            for file in &list.models {
                witnesses.extend(models(&workspace.root, file)?.into_iter().map(Witness::Model));
            }
            witnesses.extend(list.tests.iter().cloned().map(Witness::Test));
        }
        let witnesses: Vec<Witness> = witnesses.into_iter().collect();
        let targets = witnesses.iter().filter_map(|witness| match witness {
            Witness::Model(_) => None,
            Witness::Test(test) => Some(builds::split(test).0),
        });
        let targets: BTreeSet<&str> = targets.collect();
        let has_models = witnesses.iter().any(|witness| matches!(witness, Witness::Model(_)));
        let logs = workspace.work().join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot make the folder {}", logs.display()))?;
        let build = Build::new(workspace, sources, has_models, &targets)?;
        let mut ground = Self { build, logs, lists, known: BTreeMap::new(), catches: Mutex::default() };

        let bar = progress("without a mutant", witnesses.len());
        let mut known = BTreeMap::new();
        let sound = |witness: &Witness| ground.ask(witness, 0, PATIENCE);
        side_by_side(&witnesses, jobs, sound, |witness, Trial { end, took, printed }| {
            if end != End::Passed {
                bail!("{witness:?} does not pass, though no mutant was chosen:\n{}", tail(&printed));
            }
            let tests = trial::tests(&printed).map(|(name, _)| name.to_owned()).collect();
            known.insert(witness.clone(), Known { took, tests });
            bar.inc(1);
            Ok(())
        })?;
        bar.finish_and_clear();
        ground.known = known;
        Ok(ground)
    }

    fn ask(&self, witness: &Witness, number: usize, limit: Duration) -> Result<Trial> {
        let (command, name) = match witness {
            Witness::Model(name) => (self.build.model(name)?, name),
            Witness::Test(name) => (self.build.test(name)?, name),
        };
        trial::run(command, number, limit, &self.logs.join(format!("{number}-{}.txt", name.replace(':', "-"))))
    }

    /// Asks those who have noticed a mutant before, and nobody else.
    fn ask_again(&self, mutant: &Mutant, by: &By) -> Result<Option<Fate>> {
        let name = format!("{}-again.txt", mutant.number);
        let ask = |command| trial::run(command, mutant.number, Duration::from_secs(60), &self.logs.join(name));
        let (trial, names) = match by {
            By::Model(model) if self.known.contains_key(&Witness::Model(model.clone())) => {
                (ask(self.build.model(model)?)?, BTreeSet::new())
            }
            By::Tests(target, names) => {
                let is_there = |name: &&String| self.known.values().any(|known| known.tests.contains(*name));
                let names: BTreeSet<String> = names.iter().filter(is_there).cloned().collect();
                let (false, Ok(mut command)) = (names.is_empty(), self.build.test(target)) else { return Ok(None) };
                command.arg("--exact").args(&names);
                (ask(command)?, names)
            }
            By::Model(_) => return Ok(None),
        };
        let how = match trial.end {
            End::Failed if !trial.printed.contains(IDLE) => How::Failed,
            End::Aborted => How::Aborted,
            // Who only takes long is asked again beside the others.
            _ => return Ok(None),
        };
        let by = match by {
            By::Model(_) => by.clone(),
            By::Tests(target, _) => By::Tests(target.clone(), blamed(&trial.printed, how, &names)),
        };
        Ok(Some(Fate::Caught { by, how }))
    }

    fn hunt(&self, mutant: &Mutant) -> Result<Fate> {
        let mut slow = None;
        let list = self.lists.of(mutant);
        for witness in self.witnesses(list) {
            let known = &self.known[&witness];
            // Generous: what it does while it is broken may take longer, and other mutants run beside it.
            let limit = Duration::from_secs(30) + 4 * known.took;
            let Trial { end, printed, .. } = self.ask(&witness, mutant.number, limit)?;
            let note = |caught: bool| {
                let mut catches = self.catches.lock().expect("nobody panics with it");
                let of_list = catches.entry((list.name.clone(), witness.clone())).or_default();
                of_list.asked += u32::from(!caught);
                of_list.caught += u32::from(caught);
            };
            note(false);
            let how = match end {
                End::Passed => continue,
                End::Failed => How::Failed,
                End::Aborted => How::Aborted,
                End::Hung => How::Hung,
            };
            let by = match &witness {
                Witness::Model(_) if printed.contains(IDLE) => continue,
                // Models notice who waits for ever. One that takes too long may only have more to explore.
                Witness::Model(name) if how == How::Hung => {
                    slow = slow.or(Some(By::Model(name.clone())));
                    continue;
                }
                Witness::Model(name) => By::Model(name.clone()),
                Witness::Test(name) => By::Tests(builds::split(name).0.to_owned(), blamed(&printed, how, &known.tests)),
            };
            note(true);
            return Ok(Fate::Caught { by, how });
        }
        Ok(slow.map_or(Fate::Survived, |by| Fate::Caught { by, how: How::Hung }))
    }

    /// Those of a list: first who is quick, and often right.
    fn witnesses(&self, list: &List) -> Vec<Witness> {
        let models = |file: &String| models(&self.build.root, file).unwrap_or_default().into_iter().map(Witness::Model);
        let mut witnesses: Vec<Witness> = list.models.iter().flat_map(models).collect();
        witnesses.extend(list.tests.iter().cloned().map(Witness::Test));
        let catches = self.catches.lock().expect("nobody panics with it");
        witnesses.sort_by_cached_key(|witness| {
            let Catches { asked, caught } =
                catches.get(&(list.name.clone(), witness.clone())).copied().unwrap_or_default();
            // Of models only a few concern any mutant, of tests many do.
            let guess = if matches!(witness, Witness::Model(_)) { 20 } else { 2 };
            self.known[witness].took * (asked + guess) / (caught + 1)
        });
        witnesses
    }
}

/// The tests that failed, or were still running.
fn blamed(printed: &str, how: How, all: &BTreeSet<String>) -> Vec<String> {
    // A test that runs itself again in a process of its own fails twice.
    let failed: BTreeSet<&str> = trial::tests(printed).filter(|(_, passed)| !passed).map(|(name, _)| name).collect();
    if how == How::Failed || !failed.is_empty() {
        return failed.into_iter().map(str::to_owned).collect();
    }
    let ended: BTreeSet<&str> = trial::tests(printed).map(|(name, _)| name).collect();
    all.iter().filter(|name| !ended.contains(name.as_str())).cloned().collect()
}

/// The models of a file of `tests/loom`: what stands in its `models![2: name, ..]`.
fn models(root: &Path, file: &str) -> Result<Vec<String>> {
    let path = root.join("tests/loom").join(file).with_extension("rs");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let models = names_of_models(&text);
    if models.is_empty() {
        bail!("{} lists no models", path.display());
    }
    Ok(models)
}

fn names_of_models(text: &str) -> Vec<String> {
    let list = text.split_once("models![").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    let entries = list.lines().flat_map(|line| line.split("//").next().unwrap_or_default().split(','));
    entries.filter_map(|entry| Some(entry.split_once(':')?.1.trim().to_owned())).collect()
}

/// Does `work` on all items, `jobs` at a time, and hands over what comes of each as it comes.
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
                let next = || queue.lock().expect("nobody panics with it").next();
                // Nobody listens any more once something went wrong.
                while let Some(item) = next() {
                    if sender.send((item, work(item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        // Moved in, so that it is dropped, and everybody stops, at the first error.
        let mut receiver = receiver.into_iter();
        receiver.try_for_each(|(item, result)| done(item, result?))
    })
}

fn progress(what: &str, length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} {elapsed}").expect("a template");
    ProgressBar::new(length as u64).with_style(style).with_message(what.to_owned())
}

fn tail(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_a_file() {
        let text = "use x;\nmodels![\n    2: a_b,\n    // 3: no,\n    3: c, 2: d,\n];\nfn a_b() { [1]; }";
        assert_eq!(names_of_models(text), ["a_b", "c", "d"]);
        assert_eq!(names_of_models("fn f() {}"), [""; 0]);
    }

    #[test]
    fn who_is_to_blame() {
        let all = ["a", "b", "c"].map(str::to_owned).into();
        let printed = "test a ... ok\ntest b ... FAILED\n";
        assert_eq!(blamed(printed, How::Failed, &all), ["b"]);
        assert_eq!(blamed(printed, How::Hung, &all), ["b"]);
        assert_eq!(blamed("test a ... ok\n", How::Hung, &all), ["b", "c"]);
        assert_eq!(blamed("", How::Failed, &all), [""; 0]);
    }

    #[test]
    fn all_is_done_or_an_error_told() {
        let items: Vec<u32> = (0..100).collect();
        let mut sum = 0;
        let add = |_: &u32, doubled| {
            sum += doubled;
            Ok(())
        };
        side_by_side(&items, 7, |item| Ok(item * 2), add).unwrap();
        assert_eq!(sum, 9_900);
        let error = side_by_side(&items, 3, |_| bail!("no"), |_, ()| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "no");
    }
}
