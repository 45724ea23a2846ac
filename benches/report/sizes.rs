//! How many bytes everything takes that a program holds: what a semaphore costs before anybody waits, what a permit
//! costs, and what a waiting task carries in its future.

/// A row: what it is, and the contenders that have it.
type Sizes = (&'static str, Vec<(&'static str, usize)>);

/// In the order of the columns.
const CONTENDERS: [&str; 6] = ["stanchion", "async-lock", "futures", "futures-intrusive", "mea", "tokio"];

pub fn table() -> String {
    let row = |name: &str, cells: Vec<String>| format!("| {name} | {} |\n", cells.join(" | "));
    let header = row("", CONTENDERS.map(str::to_owned).to_vec());
    let rule = row("---", CONTENDERS.map(|_| "--:".to_owned()).to_vec());
    let rows = semaphore().into_iter().chain(mutex()).map(|(name, sizes)| {
        let size = |contender: &str| sizes.iter().find(|(name, _)| *name == contender).map(|(_, size)| size);
        row(name, CONTENDERS.map(|contender| size(contender).map_or("–".into(), usize::to_string)).to_vec())
    });
    [header, rule].into_iter().chain(rows).collect()
}

fn semaphore() -> [Sizes; 3] {
    use futures_intrusive::sync::{Semaphore as Intrusive, SemaphoreReleaser};

    let future = vec![
        ("stanchion", size_of_val(&stanchion::Semaphore::new(1).acquire())),
        ("async-lock", size_of_val(&async_lock::Semaphore::new(1).acquire())),
        ("futures-intrusive", size_of_val(&Intrusive::new(true, 1).acquire(1))),
        ("mea", size_of_val(&mea::semaphore::Semaphore::new(1).acquire(1))),
        ("tokio", size_of_val(&tokio::sync::Semaphore::new(1).acquire())),
    ];
    let semaphore = vec![
        ("stanchion", size_of::<stanchion::Semaphore>()),
        ("async-lock", size_of::<async_lock::Semaphore>()),
        ("futures-intrusive", size_of::<Intrusive>()),
        ("mea", size_of::<mea::semaphore::Semaphore>()),
        ("tokio", size_of::<tokio::sync::Semaphore>()),
    ];
    let permit = vec![
        ("stanchion", size_of::<stanchion::SemaphorePermit<'_>>()),
        ("async-lock", size_of::<async_lock::SemaphoreGuard<'_>>()),
        ("futures-intrusive", size_of::<SemaphoreReleaser<'_>>()),
        ("mea", size_of::<mea::semaphore::SemaphorePermit<'_>>()),
        ("tokio", size_of::<tokio::sync::SemaphorePermit<'_>>()),
    ];
    [("`Semaphore`", semaphore), ("its permit", permit), ("the future of `acquire()`", future)]
}

fn mutex() -> [Sizes; 3] {
    use futures_intrusive::sync::{Mutex as Intrusive, MutexGuard as IntrusiveGuard};

    let future = vec![
        ("stanchion", size_of_val(&stanchion::Mutex::new(()).lock())),
        ("async-lock", size_of_val(&async_lock::Mutex::new(()).lock())),
        ("futures", size_of_val(&futures::lock::Mutex::new(()).lock())),
        ("futures-intrusive", size_of_val(&Intrusive::new((), true).lock())),
        ("mea", size_of_val(&mea::mutex::Mutex::new(()).lock())),
        ("tokio", size_of_val(&tokio::sync::Mutex::new(()).lock())),
    ];
    let mutex = vec![
        ("stanchion", size_of::<stanchion::Mutex<()>>()),
        ("async-lock", size_of::<async_lock::Mutex<()>>()),
        ("futures", size_of::<futures::lock::Mutex<()>>()),
        ("futures-intrusive", size_of::<Intrusive<()>>()),
        ("mea", size_of::<mea::mutex::Mutex<()>>()),
        ("tokio", size_of::<tokio::sync::Mutex<()>>()),
    ];
    let guard = vec![
        ("stanchion", size_of::<stanchion::MutexGuard<'_, ()>>()),
        ("async-lock", size_of::<async_lock::MutexGuard<'_, ()>>()),
        ("futures", size_of::<futures::lock::MutexGuard<'_, ()>>()),
        ("futures-intrusive", size_of::<IntrusiveGuard<'_, ()>>()),
        ("mea", size_of::<mea::mutex::MutexGuard<'_, ()>>()),
        ("tokio", size_of::<tokio::sync::MutexGuard<'_, ()>>()),
    ];
    [("`Mutex<()>`", mutex), ("its guard", guard), ("the future of `lock()`", future)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_has_its_column() {
        let table = table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2 + 6);
        assert_eq!(lines[0], "|  | stanchion | async-lock | futures | futures-intrusive | mea | tokio |");
        assert!(lines.iter().all(|line| line.matches('|').count() == 8), "{table}");
        assert!(lines[2].contains(&format!("| `Semaphore` | {} |", size_of::<stanchion::Semaphore>())), "{table}");
        assert_eq!(table.matches('–').count(), 3, "futures has no semaphore: {table}");
        for (_, sizes) in semaphore().iter().chain(&mutex()) {
            assert!(sizes.iter().all(|(contender, _)| CONTENDERS.contains(contender)));
        }
    }
}
