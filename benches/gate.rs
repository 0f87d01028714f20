//! What an admission costs: the gate, beside the governor in it.
//!
//! `cargo bench --bench gate`. Both at the spacing and the burst of 10,000 requests a minute, with time
//! as a number: neither reads a clock. Beside the rate the gate keeps the count of the last minute,
//! its pauses, and what refusals have taught.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use batchveo::job::{Limits, Stamp};
use batchveo::schedule::gate::{Gate, burst, spacing};
use criterion::{Criterion, criterion_group, criterion_main};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

const PER_MINUTE: NonZeroU32 = Limits::DOCUMENTED.requests_per_minute;

/// A clock that is set. Its own, since the one that governor has for tests is dearer than what it times.
#[derive(Clone, Default)]
struct SetClock(Arc<AtomicU64>);

impl Clock for SetClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, SetClock, NoOpMiddleware<Nanos>>;

/// A limiter of the gate's pace, as empty as a new gate.
fn drained() -> (Limiter, SetClock) {
    let quota = Quota::with_period(spacing(PER_MINUTE)).expect("not zero").allow_burst(burst(PER_MINUTE));
    let clock = SetClock::default();
    let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
    limiter.check_n(burst(PER_MINUTE)).expect("a burst").expect("permits");
    (limiter, clock)
}

/// Asks at `step`s of time, so many times each.
fn admissions(criterion: &mut Criterion, name: &str, step: Duration, times: usize) {
    let mut group = criterion.benchmark_group(format!("gate/{name}"));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.bench_function("gate", |bencher| {
        let mut now = Stamp::BIRTH;
        let mut gate = Gate::new(PER_MINUTE, now);
        bencher.iter(|| {
            now = now + step;
            for _ in 0..times {
                black_box(gate.admit(black_box(now)));
            }
        });
    });
    group.bench_function("governor", |bencher| {
        let (limiter, clock) = drained();
        let mut now = 0;
        bencher.iter(|| {
            now += u64::try_from(step.as_nanos()).expect("a short step");
            clock.0.store(black_box(now), Ordering::Relaxed);
            for _ in 0..times {
                let _ = black_box(limiter.check().map_err(|until| until.earliest_possible()));
            }
        });
    });
    group.finish();
}

fn gate(criterion: &mut Criterion) {
    let spacing = spacing(PER_MINUTE);
    admissions(criterion, "granted", spacing, 1);
    // As in a run that is at its limit: one passes, and the next is told when to come.
    admissions(criterion, "granted and refused", spacing, 2);
    // Whoever comes before that is answered without asking the limiter.
    admissions(criterion, "refused again", Duration::ZERO, 1);
}

criterion_group!(benches, gate);
criterion_main!(benches);
