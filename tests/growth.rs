//! What hostile bytes cost: the processor time of each reader grows no faster than its input.
//!
//! `cargo test --release --test growth -- --nocapture` prints the figures that tests/bench/README.md explains.
// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]
#![allow(clippy::print_stdout)] // the figures

#[path = "support/elf.rs"]
#[allow(dead_code)]
mod elf;
#[path = "support/hostile.rs"]
mod hostile;
#[path = "growth/roots.rs"]
mod roots;
#[path = "growth/specs.rs"]
mod specs;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An input is multiplied by these.
const SIZES: [usize; 4] = [1, 2, 4, 8];
/// Parts of the smallest input.
const UNIT: usize = if cfg!(debug_assertions) { 200 } else { 4_000 };
/// Eight times the input takes eight times as long where time is linear, and 64 times where it is quadratic.
const MOST: f64 = 24.0;
/// Times below this are dominated by what each run costs, whatever its input.
const NOISE: Duration = Duration::from_millis(2);

/// The least processor time of three runs.
fn time(mut run: impl FnMut()) -> Duration {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
    };
    let once = || {
        let start = now();
        run();
        now() - start
    };
    std::iter::repeat_with(once).take(3).min().unwrap()
}

/// Runs a reader on inputs of each size; the last may take `MOST` times as long as the first.
fn grows_linearly<T>(name: &str, make: impl Fn(usize) -> T, read: impl Fn(&T)) {
    let times = SIZES.map(|size| {
        let input = make(size);
        time(|| read(&input))
    });
    let [first, .., last] = times;
    println!("{name:<28} {}", times.map(|time| format!("{:>10.2} ms", time.as_secs_f64() * 1e3)).concat());
    let ratio = last.as_secs_f64() / first.max(NOISE).as_secs_f64();
    assert!(ratio < MOST, "{name}: eight times the input takes {ratio:.0} times as long: {times:?}");
}
