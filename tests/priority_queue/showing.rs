//! `Debug`, `Display` and errors.

use stanchion::PriorityQueue;

use crate::common::ready;

/// Shows nothing, and cannot be compared but as a priority.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Opaque;

#[test]
fn debug_needs_nothing_of_priorities_and_items() {
    let queue = PriorityQueue::<Opaque, Opaque>::bounded(7);
    queue.try_push(Opaque, Opaque).ok().unwrap();
    let shown = format!("{queue:?}");
    assert!(shown.starts_with("PriorityQueue") && shown.contains('1') && shown.contains('7'), "{shown}");
    queue.close();
    assert_ne!(format!("{queue:?}"), shown, "it shows that it is closed");
    assert!(format!("{:?}", queue.push(Opaque, Opaque)).starts_with("Push"));
    assert!(format!("{:?}", queue.pop()).starts_with("Pop"));
    assert!(format!("{:?}", queue.pop_many(&mut Vec::new(), 1)).starts_with("PopMany"));
}

#[test]
fn errors_say_what_happened_whatever_the_item() {
    fn says<E: std::error::Error + std::fmt::Debug>(error: E) -> String {
        assert!(error.source().is_none());
        assert!(!format!("{error:?}").is_empty());
        error.to_string()
    }
    let queue = PriorityQueue::<Opaque, Opaque>::bounded(1);
    assert!(says(queue.try_pop().err().unwrap()).contains("empty"));
    queue.try_push(Opaque, Opaque).ok().unwrap();
    assert!(says(queue.try_push(Opaque, Opaque).err().unwrap()).contains("full"));
    queue.close();
    drop(queue.drain());
    assert!(says(queue.try_push(Opaque, Opaque).err().unwrap()).contains("closed"));
    assert!(says(queue.force_push(Opaque, Opaque).err().unwrap()).contains("closed"));
    assert!(says(ready(&mut queue.push(Opaque, Opaque)).err().unwrap()).contains("closed"));
    assert!(says(queue.try_pop().err().unwrap()).contains("closed"));
    assert!(format!("{:?}", queue.try_pop().err().unwrap()).contains("Closed"));
}

/// The writer of `Debug` is user code: it runs without the lock.
#[test]
fn the_writer_of_debug_may_use_the_queue() {
    struct Looks<'a>(&'a PriorityQueue<u8, u8>, usize);
    impl std::fmt::Write for Looks<'_> {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            self.1 += self.0.len();
            Ok(())
        }
    }
    let queue = PriorityQueue::unbounded();
    queue.try_push(1, 1).unwrap();
    let mut looks = Looks(&queue, 0);
    std::fmt::Write::write_fmt(&mut looks, format_args!("{queue:?}")).unwrap();
    assert!(looks.1 > 0);
}
