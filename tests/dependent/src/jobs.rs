//! Jobs for one worker, the most urgent first, until closing time. A job is done or given back.

pub mod broken {
    use crate::sync::{AtomicBool, Ordering};
    use stanchion::PriorityQueue;

    pub struct Jobs<J> {
        /// `None`, the least urgent of all, ends the worker.
        queue: PriorityQueue<u8, Option<J>>,
        closing: AtomicBool,
    }

    impl<J> Jobs<J> {
        pub fn open() -> Self {
            Self { queue: PriorityQueue::unbounded(), closing: AtomicBool::new(false) }
        }

        /// Gives the job back after closing time, which may be between the check and the push.
        pub fn submit(&self, urgency: u8, job: J) -> Result<(), J> {
            if self.closing.load(Ordering::Acquire) {
                return Err(job);
            }
            self.queue.try_push(urgency, Some(job)).expect("there is always room");
            Ok(())
        }

        pub fn close(&self) {
            self.closing.store(true, Ordering::Release);
            self.queue.try_push(0, None).expect("there is always room");
        }

        /// The next job of the worker; `None` ends it.
        pub async fn next(&self) -> Option<J> {
            let (_, job) = self.queue.pop().await.expect("the queue is never closed");
            job
        }
    }
}

pub mod right {
    use stanchion::{PriorityQueue, TryPushError};

    pub struct Jobs<J> {
        queue: PriorityQueue<u8, J>,
    }

    impl<J> Jobs<J> {
        pub fn open() -> Self {
            Self { queue: PriorityQueue::unbounded() }
        }

        /// Gives the job back after closing time.
        pub fn submit(&self, urgency: u8, job: J) -> Result<(), J> {
            match self.queue.try_push(urgency, job) {
                Ok(_) => Ok(()),
                Err(TryPushError::Full((_, job)) | TryPushError::Closed((_, job))) => Err(job),
            }
        }

        /// Closes the queue itself: jobs that it admitted before are popped before its end.
        pub fn close(&self) {
            self.queue.close();
        }

        /// The next job of the worker; `None` ends it.
        pub async fn next(&self) -> Option<J> {
            self.queue.pop().await.map(|(_, job)| job)
        }
    }
}
