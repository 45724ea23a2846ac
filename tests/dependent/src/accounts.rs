//! Accounts with concurrent transfers between them. No money is made or lost.

pub mod broken {
    use stanchion::Mutex;

    pub struct Accounts(Vec<Mutex<u64>>);

    impl Accounts {
        pub fn new(balances: impl IntoIterator<Item = u64>) -> Self {
            Self(balances.into_iter().map(Mutex::new).collect())
        }

        /// Returns true if there was enough. Two transfers in opposite directions may each hold the lock that the other needs.
        pub async fn transfer(&self, from: usize, to: usize, amount: u64) -> bool {
            let mut source = self.0[from].lock().await;
            let mut target = self.0[to].lock().await;
            let enough = *source >= amount;
            if enough {
                *source -= amount;
                *target += amount;
            }
            enough
        }

        pub async fn balance(&self, of: usize) -> u64 {
            *self.0[of].lock().await
        }
    }
}

pub mod right {
    use stanchion::Mutex;

    pub struct Accounts(Vec<Mutex<u64>>);

    impl Accounts {
        pub fn new(balances: impl IntoIterator<Item = u64>) -> Self {
            Self(balances.into_iter().map(Mutex::new).collect())
        }

        /// Returns true if there was enough. All transfers lock in one order, whichever way the money goes.
        ///
        /// # Panics
        ///
        /// When both are the same account.
        pub async fn transfer(&self, from: usize, to: usize, amount: u64) -> bool {
            assert_ne!(from, to, "a transfer is between two accounts");
            let lower = self.0[from.min(to)].lock().await;
            let higher = self.0[from.max(to)].lock().await;
            let (mut source, mut target) = if from < to { (lower, higher) } else { (higher, lower) };
            let enough = *source >= amount;
            if enough {
                *source -= amount;
                *target += amount;
            }
            enough
        }

        pub async fn balance(&self, of: usize) -> u64 {
            *self.0[of].lock().await
        }
    }
}
