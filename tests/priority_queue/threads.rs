//! Pushes, pops and cancellations on several threads.

use std::collections::HashSet;
use std::task::Poll;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stanchion::blocking;

use crate::common::{ends, poll};
use crate::{Queue, counts, items};

#[test]
fn nothing_is_lost_between_threads_that_push_pop_and_give_up() {
    ends(|| {
        const ITEMS: u32 = 1_500;
        let queue = Queue::bounded(4);
        let (accepted, given_up, mut popped) = std::thread::scope(|scope| {
            let queue = &queue;
            let pushers = [0, 1].map(|pusher| {
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(u64::from(pusher));
                    let (mut accepted, mut given_up) = (Vec::new(), Vec::new());
                    for item in pusher * ITEMS..(pusher + 1) * ITEMS {
                        let mut push = queue.push(random.random_range(0..5), item);
                        let patient = random.random_bool(0.7);
                        match poll(&mut push) {
                            Poll::Pending if patient => blocking::wait(push).map(|_| accepted.push(item)).unwrap(),
                            Poll::Pending => given_up.push(item),
                            Poll::Ready(outcome) => outcome.map(|_| accepted.push(item)).unwrap(),
                        }
                    }
                    (accepted, given_up)
                })
            });
            let poppers = [0, 1].map(|popper| {
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(10 + popper);
                    let mut popped = Vec::new();
                    loop {
                        let mut pop = queue.pop();
                        match random.random_range(0..3) {
                            0 => popped.extend(match poll(&mut pop) {
                                Poll::Ready(pair) => pair,
                                Poll::Pending => None,
                            }),
                            1 if blocking::wait(queue.pop_many(&mut popped, 3)) == 0 => return popped,
                            2 => match blocking::wait(pop) {
                                Some(pair) => popped.push(pair),
                                None => return popped,
                            },
                            _ => {}
                        }
                    }
                })
            });
            let (mut accepted, mut given_up) = (HashSet::new(), HashSet::new());
            for thread in pushers {
                let (yes, perhaps) = thread.join().unwrap();
                accepted.extend(yes);
                given_up.extend(perhaps);
            }
            queue.close();
            (
                accepted,
                given_up,
                poppers.into_iter().flat_map(|thread| items(thread.join().unwrap())).collect::<Vec<_>>(),
            )
        });
        popped.sort_unstable();
        assert!(popped.is_sorted_by(|one, next| one < next), "something came twice");
        let popped: HashSet<u32> = popped.into_iter().collect();
        assert!(popped.is_superset(&accepted), "something was lost");
        assert!(popped.iter().all(|item| accepted.contains(item) || given_up.contains(item)));
        assert_eq!((accepted.len() + given_up.len(), counts(&queue)), (2 * ITEMS as usize, (0, 0, 0)));
    });
}
