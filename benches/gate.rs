//! What an admission costs: the gate, beside the governor in it.
//!
//! `cargo bench --bench gate`. Both at the spacing and the burst of 10,000 requests a minute, with time
//! as a number: neither reads a clock. Beside the rate the gate keeps the count of the last minute,
//! its pauses, and what refusals have taught.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use batchveo::job::{Limits, Stamp};
use batchveo::schedule::gate::{Admission, Gate, burst, spacing};
use criterion::{Criterion, criterion_group, criterion_main};
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};

const PER_MINUTE: NonZeroU32 = Limits::DOCUMENTED.requests_per_minute;

fn granted(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gate/granted");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    let spacing = spacing(PER_MINUTE);
    group.bench_function("gate", |bencher| {
        let mut now = Stamp::BIRTH;
        let mut gate = Gate::new(PER_MINUTE, now);
        bencher.iter(|| {
            now = now + spacing;
            assert_eq!(gate.admit(black_box(now)), Admission::Granted);
        });
    });
    group.bench_function("governor", |bencher| {
        let clock = FakeRelativeClock::default();
        let quota = Quota::with_period(spacing).expect("not zero").allow_burst(burst(PER_MINUTE));
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
        bencher.iter(|| {
            clock.advance(black_box(spacing));
            assert!(limiter.check().is_ok());
        });
    });
    group.finish();
}

fn refused(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gate/refused");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.bench_function("gate", |bencher| {
        let now = Stamp::BIRTH;
        let mut gate = Gate::new(PER_MINUTE, now);
        bencher.iter(|| assert_ne!(gate.admit(black_box(now)), Admission::Granted));
    });
    group.bench_function("governor", |bencher| {
        let quota = Quota::with_period(spacing(PER_MINUTE)).expect("not zero").allow_burst(burst(PER_MINUTE));
        let limiter = RateLimiter::direct_with_clock(quota, FakeRelativeClock::default());
        limiter.check_n(burst(PER_MINUTE)).expect("a burst").expect("permits");
        bencher
            .iter(|| assert!(limiter.check().map_err(|until| black_box(until.earliest_possible())).is_err()));
    });
    group.finish();
}

criterion_group!(benches, granted, refused);
criterion_main!(benches);
