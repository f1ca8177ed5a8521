//! A time limit for this process, which also ends it while a file system does not answer.

#![forbid(unsafe_code)]

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::kernel;

/// For each stage of a machine, of which waiting for the machine's lock may take ten seconds.
pub const MACHINE: Duration = Duration::from_secs(15);
const STACK: usize = 256 << 10;

/// A limit that counts until this is dropped.
#[derive(Debug)]
pub struct Watch(Option<Sender<()>>);

impl Watch {
    /// Has `end`, which ends the process, called at the limit, whatever the other threads wait for.
    ///
    /// Where no thread can be had, the kernel ends the process by SIGALRM.
    pub fn new(limit: Duration, end: impl FnOnce() + Send + 'static) -> Watch {
        let (keep, dropped) = mpsc::channel::<()>();
        let wait = move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // Standard error can be a pipe that nobody reads.
                kernel::end_after(Duration::from_secs(1));
                end();
            }
        };
        if thread::Builder::new().stack_size(STACK).spawn(wait).is_ok() {
            return Watch(Some(keep));
        }
        kernel::end_after(limit);
        Watch(None)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.0.is_none() {
            kernel::cancel_end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n7_limit_counts_until_it_is_dropped() {
        let (sender, receiver) = mpsc::channel();
        let watch = Watch::new(Duration::from_millis(1), move || sender.send(()).unwrap());
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(()));
        drop(watch);
        let (sender, receiver) = mpsc::channel::<()>();
        drop(Watch::new(Duration::from_secs(5), move || sender.send(()).unwrap()));
        assert_eq!(receiver.recv(), Err(mpsc::RecvError), "it never sends");
    }
}
