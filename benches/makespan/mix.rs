//! How long tasks take: log-normal laws and mixtures of them.

use std::f64::consts::{SQRT_2, TAU};

/// A log-normal law of durations, in seconds.
#[derive(Debug, Clone, Copy)]
struct Law {
    mean: f64,
    sigma: f64,
}

/// A mixture of two laws; the first has this share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    pub(super) name: &'static str,
    share: f64,
    laws: [Law; 2],
}

pub(super) const MIXES: [Mix; 4] = [
    Mix::one("mean 120 s, σ 0.25", 120.0, 0.25),
    Mix::one("mean 60 s, σ 0.25", 60.0, 0.25),
    Mix {
        name: "60 % of mean 50 s and 40 % of mean 170 s, σ 0.2",
        share: 0.6,
        laws: [Law { mean: 50.0, sigma: 0.2 }, Law { mean: 170.0, sigma: 0.2 }],
    },
    Mix::one("mean 120 s, σ 0.6", 120.0, 0.6),
];

/// A stream of numbers in (0, 1) that a seed fixes (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        ((word >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.next().ln()).sqrt() * (TAU * self.next()).cos()
    }
}

impl Law {
    fn location(self) -> f64 {
        self.mean.ln() - self.sigma * self.sigma / 2.0
    }

    fn at(self, normal: f64) -> f64 {
        (self.location() + self.sigma * normal).exp()
    }

    fn density(self, age: f64) -> f64 {
        let normal = (age.ln() - self.location()) / self.sigma;
        (-normal * normal / 2.0).exp() / (age * self.sigma * TAU.sqrt())
    }

    fn survival(self, age: f64) -> f64 {
        erfc((age.ln() - self.location()) / (self.sigma * SQRT_2)) / 2.0
    }
}

impl Mix {
    pub(super) const fn one(name: &'static str, mean: f64, sigma: f64) -> Self {
        Self { name, share: 1.0, laws: [Law { mean, sigma }; 2] }
    }

    /// How long each of so many tasks takes, in seconds.
    pub(super) fn durations(&self, seed: u64, tasks: usize) -> Vec<f64> {
        let mut numbers = Numbers(seed);
        let draw = |_| {
            let law = self.laws[usize::from(numbers.next() >= self.share)];
            law.at(numbers.normal())
        };
        (0..tasks).map(draw).collect()
    }

    /// The efficiency that steady polling cannot pass with so many looks at each task.
    pub(super) fn bound(&self, looks: f64) -> f64 {
        const STEP: f64 = 0.05;
        let of_both = |value: fn(Law, f64) -> f64, age| {
            self.share * value(self.laws[0], age) + (1.0 - self.share) * value(self.laws[1], age)
        };
        let mean = self.share * self.laws[0].mean + (1.0 - self.share) * self.laws[1].mean;
        // S√h is √(f·S).
        let ages = (0..80_000).map(|step| (f64::from(step) + 0.5) * STEP);
        let root = |age| (of_both(Law::density, age) * of_both(Law::survival, age)).sqrt();
        let integral: f64 = ages.map(root).sum::<f64>() * STEP;
        mean / (mean + integral * integral / (2.0 * looks))
    }
}

/// The complementary error function, to within 1.2e-7 everywhere (Press et al., `erfcc`).
fn erfc(x: f64) -> f64 {
    const TERMS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + x.abs() / 2.0);
    let series = TERMS.iter().rev().fold(0.0, |sum, term| sum * t + term);
    let tail = t * (series - x * x).exp();
    if x < 0.0 { 2.0 - tail } else { tail }
}
