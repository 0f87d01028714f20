//! What a client in memory hears of each fault, and what the ledger says: virtual time, no network.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;
use std::time::Duration;

use batchveo::api::{Balance, Polled, Refusal, Submitted, VideoApi};
use batchveo::clock::Clock;
use batchveo::generation::{AspectRatio, Draft, Generation, GenerationType, Mode};
use batchveo::job::{Failure, Limits, Stamp, TaskId, UnixMillis, Usd};
use batchveo::simulator::{FailCode, Ledger, Named, Scenario, Settings, Simulator, Verdict};

const BIRTH: UnixMillis = UnixMillis(1_800_000_000_000);

/// A service and the time it lives in.
struct World {
    simulator: Simulator,
    clock: Clock,
}

impl World {
    fn new(settings: Settings) -> Self {
        let clock = Clock::virtual_from(Stamp::BIRTH);
        let simulator = Simulator::new(settings, Ledger::temporary().unwrap(), clock.clone(), BIRTH).unwrap();
        Self { simulator, clock }
    }

    /// A service with one fault, which is the TOML of its fields.
    fn with(fault: &str) -> Self {
        let text = format!("[[fault]]\n{}", fault.replace("; ", "\n"));
        let scenario = Scenario::parse("test", &text).unwrap_or_else(|error| panic!("{fault}: {error}"));
        Self::new(Settings { scenario, ..Settings::default() })
    }

    /// What `future` comes to, with virtual time moving while it waits.
    async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                answer = &mut future => return answer,
                () = self.clock.advance(None) => {}
            }
        }
    }

    async fn submit(&self, prompt: &str) -> Submitted {
        self.run(self.simulator.submit(generation(prompt), None)).await
    }

    async fn buy(&self, prompt: &str) -> TaskId {
        let answer = self.submit(prompt).await;
        let Submitted::Accepted(task) = answer else { panic!("{prompt}: {answer:?}") };
        task
    }

    async fn look(&self, task: &TaskId) -> Polled {
        self.run(self.simulator.status(task.clone())).await
    }

    async fn sleep(&self, seconds: u64) {
        self.run(self.clock.sleep(Duration::from_secs(seconds))).await;
    }

    fn verdict(&self) -> Verdict {
        self.simulator.verdict().unwrap()
    }
}

fn generation(prompt: &str) -> Generation {
    let draft = Draft {
        prompt: prompt.into(),
        generation_type: GenerationType::Text,
        mode: Mode::Fast,
        aspect_ratio: AspectRatio::Landscape,
        image_urls: vec![],
        seed: None,
        watermark: None,
        provider: None,
    };
    draft.check().unwrap()
}

fn code(failure: &Failure) -> &str {
    failure.code.as_deref().unwrap_or("no code")
}

fn refused(Refusal { cause, retry_after, failure }: &Refusal) -> String {
    let wait = retry_after.map_or_else(String::new, |wait| format!(" after {} s", wait.as_secs()));
    format!("refused {cause:?} {}{wait}", code(failure))
}

fn submitted(answer: &Submitted) -> String {
    match answer {
        Submitted::Accepted(_) => "accepted".into(),
        Submitted::NotAccepted(refusal) => refused(refusal),
        Submitted::Rejected(failure) => format!("rejected {}", code(failure)),
        Submitted::NoMoney(failure) => format!("no money {}", code(failure)),
        Submitted::KeyRefused(failure) => format!("key {}", code(failure)),
        Submitted::InDoubt(failure) => format!("doubt {}", code(failure)),
    }
}

fn polled(answer: &Polled) -> String {
    match answer {
        Polled::Alive(_) => "alive".into(),
        Polled::Succeeded(_) => "succeeded".into(),
        Polled::SucceededWithoutUrl => "no url".into(),
        Polled::Failed(failed) => format!("failed {} {:?}", code(&failed.failure), failed.verdict),
        Polled::NotFound(failure) => format!("not found {}", code(failure)),
        Polled::NotAnswered(refusal) => refused(refusal),
        Polled::KeyRefused(failure) => format!("key {}", code(failure)),
        Polled::Unclear(failure) => format!("unclear {}", code(failure)),
    }
}

fn balance(answer: &Balance) -> String {
    match answer {
        Balance::Left(Some(_)) => "left".into(),
        Balance::Left(None) => "unreadable".into(),
        Balance::KeyRefused(failure) => format!("key {}", code(failure)),
        Balance::Unclear(failure) => format!("unclear {}", code(failure)),
    }
}

/// A fault, whether the submission was accepted, and what the client hears to a submission, to a
/// look at a task and to a look at the balance, and the seconds until it hears of the submission.
type Case = (&'static str, u64, &'static str, &'static str, &'static str, u64);

const CASES: [Case; 29] = [
    ("what='answer'; status=500; accepted=1", 1, "doubt http_500", "unclear http_500", "unclear http_500", 0),
    ("what='answer'; status=500; accepted=0", 0, "doubt http_500", "unclear http_500", "unclear http_500", 0),
    ("what='answer'; status=408; accepted=1", 1, "doubt http_408", "unclear http_408", "unclear http_408", 0),
    (
        "what='answer'; status=502; body='html'; accepted=1",
        1,
        "doubt http_502",
        "unclear http_502",
        "unclear http_502",
        0,
    ),
    ("what='answer'; status=504; accepted=0", 0, "doubt http_504", "unclear http_504", "unclear http_504", 0),
    (
        "what='answer'; status=503",
        0,
        "refused Unavailable http_503",
        "refused Unavailable http_503",
        "unclear http_503",
        0,
    ),
    ("what='answer'; status=429", 0, "refused Rate http_429", "refused Rate http_429", "unclear http_429", 0),
    (
        "what='answer'; status=429; retry_after='7s'",
        0,
        "refused Rate http_429 after 7 s",
        "refused Rate http_429 after 7 s",
        "unclear http_429",
        0,
    ),
    (
        "what='answer'; status=429; message='Too many concurrent tasks'; where='submit'",
        0,
        "refused Concurrency http_429",
        "alive",
        "left",
        0,
    ),
    (
        "what='answer'; status=200; code=500; accepted=1",
        1,
        "doubt http_500",
        "unclear http_500",
        "unclear http_500",
        0,
    ),
    (
        "what='answer'; status=200; code=429",
        0,
        "refused Rate http_429",
        "refused Rate http_429",
        "unclear http_429",
        0,
    ),
    (
        "what='answer'; status=200; body='truncated'; accepted=1",
        1,
        "doubt http_200",
        "unclear http_200",
        "unclear http_200",
        0,
    ),
    (
        "what='answer'; status=200; body='truncated'; accepted=0",
        0,
        "doubt http_200",
        "unclear http_200",
        "unclear http_200",
        0,
    ),
    (
        "what='answer'; status=200; body='no_data'; accepted=1",
        1,
        "doubt http_200",
        "unclear http_200",
        "unreadable",
        0,
    ),
    (
        "what='answer'; status=200; body='empty'; accepted=0",
        0,
        "doubt http_200",
        "unclear http_200",
        "unclear http_200",
        0,
    ),
    ("what='answer'; status=302; accepted=1", 1, "doubt http_302", "unclear http_302", "unclear http_302", 0),
    ("what='answer'; status=307; accepted=0", 0, "doubt http_307", "unclear http_307", "unclear http_307", 0),
    ("what='answer'; status=401; body='no_data'", 0, "key http_401", "key http_401", "key http_401", 0),
    (
        "what='answer'; status=400; message='Insufficient credits'",
        0,
        "no money http_400",
        "unclear http_400",
        "unclear http_400",
        0,
    ),
    ("what='answer'; status=402", 0, "no money http_402", "unclear http_402", "unclear http_402", 0),
    ("what='cut'; accepted=1", 1, "doubt connection", "unclear connection", "unclear connection", 0),
    ("what='cut'; accepted=0", 0, "doubt connection", "unclear connection", "unclear connection", 0),
    ("what='drop'; when='before'", 0, "doubt connection", "unclear connection", "unclear connection", 0),
    ("what='drop'; when='after'", 1, "doubt connection", "unclear connection", "unclear connection", 0),
    ("what='drop'; when='after'; where='status'", 1, "accepted", "unclear connection", "left", 0),
    ("what='slow'; by='90s'; accepted=1", 1, "doubt timeout", "unclear timeout", "unclear timeout", 60),
    ("what='slow'; by='90s'; accepted=0", 0, "doubt timeout", "unclear timeout", "unclear timeout", 60),
    ("what='slow'; by='5s'; accepted=0", 0, "doubt http_504", "alive", "left", 5),
    (
        "what='no_connection'; by='10s'",
        0,
        "refused Connect connect",
        "refused Connect connect",
        "unclear connect",
        2,
    ),
];

#[tokio::test]
async fn what_the_client_hears_of_each_fault_and_whether_it_was_a_purchase() {
    // Ids hold for every service of the same seed.
    let calm = World::new(Settings::default());
    let task = calm.buy("somebody else's cat").await;
    for (fault, bought, to_submission, to_look, to_balance, seconds) in CASES {
        let world = World::with(fault);
        assert_eq!(submitted(&world.submit("a cat").await), to_submission, "{fault}");
        assert_eq!(world.clock.now().as_millis() / 1_000, seconds, "{fault}");
        assert_eq!(polled(&world.look(&task).await), to_look, "{fault}");
        assert_eq!(balance(&world.run(world.simulator.balance()).await), to_balance, "{fault}");
        let verdict = world.verdict();
        assert_eq!(verdict.accepted, bought, "{fault}");
        let struck = [to_submission != "accepted", to_look != "alive", to_balance != "left"];
        let struck = if seconds == 5 { 3 } else { struck.iter().filter(|struck| **struck).count() as u64 };
        assert_eq!(verdict.counts.injected.total(), struck, "{fault}");
        // What never connected is no request; everything else is.
        let arrived = if fault.contains("no_connection") { 0 } else { 3 };
        assert_eq!((verdict.requests, verdict.held), (arrived, true), "{fault}");
        let genuine = verdict.counts.throttled_429 + verdict.counts.bad_requests_400;
        assert_eq!(genuine + verdict.counts.unauthorized_401 + verdict.counts.not_found_404, 0, "{fault}");
    }
}

#[tokio::test]
async fn of_everything_that_may_have_been_accepted_half_is() {
    for name in
        ["error-500", "error-408", "bad-gateway", "gateway-timeout", "code-500", "truncated", "no-data"]
            .into_iter()
            .chain(["redirect", "cut", "slow-answer", "outage-silent"])
    {
        let named = Scenario::NAMED.iter().find(|named| named.name == name).unwrap();
        // The same faults, striking always.
        let lines = named.text.lines().filter(|line| !line.starts_with("share") && !line.starts_with("from"));
        let text = lines.filter(|line| !line.starts_with("until")).collect::<Vec<_>>().join("\n");
        let scenario = Scenario::parse(name, &text).unwrap();
        let world = World::new(Settings { scenario, ..Settings::default() });
        for n in 0..400 {
            let answer = world.submit(&n.to_string()).await;
            assert!(matches!(answer, Submitted::InDoubt(_)), "{name}: {answer:?}");
        }
        let accepted = world.verdict().accepted;
        assert!((160..=240).contains(&accepted), "{name}: {accepted} of 400");
    }
}

#[tokio::test]
async fn tasks_go_wrong_as_they_are_told() {
    let failed = |code: &str, verdict: &str| format!("failed {code} {verdict}");
    // Nothing ends before 20 s, and everything that ends by itself within 600 s.
    for (fault, ages, looks) in [
        ("what='unknown'; first='20s'", [10, 30, 600], ["not found http_404", "alive", "succeeded"]),
        ("what='unknown'", [10, 600, 3_600], ["not found http_404"; 3]),
        ("what='state'; state='processing_r2'", [10, 15, 600], ["alive", "alive", "succeeded"]),
        (
            "what='fail'; codes=['PROCESSING_TIMEOUT']",
            [10, 15, 600],
            ["alive", "alive", &failed("PROCESSING_TIMEOUT", "MayRetry")],
        ),
        ("what='fail'; codes='NSFW'", [10, 15, 600], ["alive", "alive", &failed("NSFW", "Final")]),
        ("what='never_ends'", [10, 600, 360_000], ["alive"; 3]),
        ("what='no_url'", [10, 15, 600], ["alive", "alive", "no url"]),
        ("what='result_object'", [10, 15, 600], ["alive", "alive", "succeeded"]),
    ] {
        let world = World::with(fault);
        let task = world.buy("a cat").await;
        let mut heard = Vec::new();
        for age in ages {
            world.run(world.clock.sleep_until(Stamp::from_millis(age * 1_000))).await;
            heard.push(polled(&world.look(&task).await));
        }
        assert_eq!(heard, looks, "{fault}");
        let verdict = world.verdict();
        assert_eq!(verdict.failed, u64::from(fault.contains("fail")), "{fault}");
        assert_eq!((verdict.counts.not_found_404, verdict.held), (0, true), "{fault}");
        assert!(verdict.counts.injected.tasks == 1, "{fault}");
    }
}

#[tokio::test]
async fn every_fail_code_comes_up() {
    let world = World::with("what='fail'; codes='all'");
    let mut tasks = Vec::new();
    for n in 0..300 {
        tasks.push(world.buy(&n.to_string()).await);
    }
    world.sleep(700).await;
    let mut seen = HashSet::new();
    for task in tasks {
        let Polled::Failed(failed) = world.look(&task).await else { panic!("{task} did not fail") };
        seen.insert(failed.failure.code.unwrap());
    }
    assert_eq!(seen.len(), FailCode::ALL.len());
}

#[tokio::test]
async fn money_runs_out_in_three_ways_and_can_be_put_in() {
    for (told, heard) in
        [("400", "no money http_400"), ("402", "no money http_402"), ("fail_code", "accepted")]
    {
        let text = format!("[[fault]]\nwhat='money'\nbalance=0.5\ntold='{told}'");
        let scenario = Scenario::parse("test", &text).unwrap();
        assert_eq!(scenario.balance(), Some(Usd::from_cents(50)));
        let balance = scenario.balance().unwrap();
        let world = World::new(Settings { scenario, balance, ..Settings::default() });
        world.buy("a").await;
        world.buy("b").await;
        assert_eq!(submitted(&world.submit("c").await), heard);
        assert_eq!(world.verdict().spent, Usd::from_cents(40));
        if let Submitted::Accepted(task) = world.submit("d").await {
            world.sleep(700).await;
            assert_eq!(polled(&world.look(&task).await), "failed INSUFFICIENT_CREDITS NoMoney");
        }
        assert_eq!(world.simulator.top_up(Usd::from_cents(20)), Usd::from_cents(30));
        let task = world.buy("e").await;
        world.sleep(700).await;
        assert_eq!(polled(&world.look(&task).await), "succeeded");
    }
}

#[tokio::test]
async fn a_limit_lower_than_documented_is_no_fault_of_the_client() {
    let limits =
        Limits { requests_per_minute: 20.try_into().unwrap(), concurrent_tasks: 10.try_into().unwrap() };
    let text = "[[fault]]\nwhat='limits'\nrequests='50%'\ntasks=3\nfrom='0s'\nuntil='1h'";
    let settings =
        Settings { limits, scenario: Scenario::parse("test", text).unwrap(), ..Settings::default() };
    let world = World::new(settings);
    for n in 0..3 {
        world.buy(&n.to_string()).await;
    }
    assert_eq!(submitted(&world.submit("one more").await), "refused Concurrency http_429");
    for _ in 4..10 {
        assert_eq!(balance(&world.run(world.simulator.balance()).await), "left");
    }
    assert_eq!(submitted(&world.submit("one more").await), "refused Rate http_429");
    let verdict = world.verdict();
    assert_eq!((verdict.counts.injected.throttled_429, verdict.counts.throttled_429), (2, 0));
    assert!(verdict.held, "{verdict}");
    // When the other program has gone, the documented limits are there again.
    world.sleep(3_600).await;
    for n in 0..10 {
        world.buy(&format!("later {n}")).await;
    }
    assert_eq!(submitted(&world.submit("too many").await), "refused Concurrency http_429");
    assert!(!world.verdict().held, "a documented limit was broken");
}

#[tokio::test]
async fn a_key_is_revoked_and_comes_back() {
    let world = World::new(Settings { scenario: Scenario::load("key-back").unwrap(), ..Settings::default() });
    let task = world.buy("a cat").await;
    world.sleep(100).await;
    assert_eq!(submitted(&world.submit("b").await), "key http_401");
    assert_eq!(polled(&world.look(&task).await), "key http_401");
    world.sleep(600).await;
    world.buy("b").await;
    assert_eq!(polled(&world.look(&task).await), "succeeded");
    assert_eq!(world.verdict().counts.injected.unauthorized_401, 2);
}

#[test]
fn every_named_scenario_is_one_and_says_what_it_does() {
    let mut names = HashSet::new();
    for Named { name, text } in Scenario::NAMED {
        let scenario = Scenario::load(name).unwrap_or_else(|error| panic!("{error}"));
        assert!(names.insert(*name), "{name} twice");
        assert!((20..140).contains(&scenario.about().len()), "{name}: {}", scenario.about());
        assert!((text.contains("[[fault]]") || text.contains("[videos]")) && text.ends_with('\n'), "{name}");
    }
    let whats =
        |what: &str| Scenario::NAMED.iter().any(|named| named.text.contains(&format!("what = \"{what}\"")));
    for what in ["answer", "cut", "drop", "slow", "no_connection", "unknown", "state", "fail", "never_ends"] {
        assert!(whats(what), "no named scenario shows {what}");
    }
    for what in ["no_url", "result_object", "callback", "limits", "money"] {
        assert!(whats(what), "no named scenario shows {what}");
    }
    let fields =
        ["links", "cut", "wrong_length", "stall", "not_video", "no_range", "rate", "rate_in_all", "expire"];
    let fields = fields.into_iter().chain(["lost", "twice", "late", "early"]);
    for field in fields {
        let line = format!("\n{field} = ");
        assert!(Scenario::NAMED.iter().any(|named| named.text.contains(&line)), "none shows {field}");
    }
}

#[test]
fn mistakes_are_told_with_their_line_and_the_mend() {
    for (fault, line, told) in [
        ("what = 'answer'", 2, "`status` is missing: the HTTP status of the answer"),
        ("what = 'answer'\nstatus = 99", 2, "status = 99: an HTTP status from 200 to 599 is wanted"),
        ("what = 'explode'", 3, "unknown variant `explode`, expected one of `answer`, `cut`"),
        ("share = 0.5", 2, "missing field `what`"),
        (
            "what = 'callback'",
            2,
            "`lost = true`, `twice = true`, `late = \"5m\"` or `early = true` is missing",
        ),
        ("what = 'callback'\nlost = false", 2, "`lost = true`, `twice = true`, `late = \"5m\"` or `early"),
        ("what = 'callback'\nlost = true\ntwice = true", 2, "`lost = true` says it all"),
        ("what = 'callback'\nlate = '5m'\nearly = true", 2, "`early` and `late` are two things"),
        ("what = 'cut'\nlate = '5m'", 2, "`late` says nothing for what = \"cut\": leave it out"),
        ("what = 'cut'\nshare = 5", 4, "5 is no share: use a number from 0 to 1, such as 0.05"),
        ("what = 'cut'\nshares = 0.5", 4, "unknown field `shares`, expected one of"),
        ("what = 'cut'\nwhere = 'everywhere'", 4, "`where` is submit, status, balance or any"),
        ("what = 'cut'\nfrom = 'soon'", 4, "a span of time such as \"90s\" or \"10m\""),
        ("what = 'cut'\nfrom = 90", 4, "a span of time such as \"90s\" or \"10m\""),
        ("what = 'cut'\nfrom = '2m'\nuntil = '1m'", 2, "`until` is not after `from`"),
        ("what = 'cut'\nevery = '2m'", 2, "`every` needs `for`"),
        ("what = 'cut'\nfor = '2m'", 2, "`for` needs `every`"),
        (
            "what = 'cut'\nevery = '1m'\nfor = '1m'",
            2,
            "`for` must be more than nothing and less than `every`",
        ),
        ("what = 'drop'", 2, "`when` is missing: \"before\" or \"after\""),
        ("what = 'slow'", 2, "`by` is missing"),
        (
            "what = 'slow'\nby = '1m'\nstatus = 500",
            2,
            "`status` says nothing for what = \"slow\": leave it out",
        ),
        ("what = 'no_url'\nwhere = 'submit'", 2, "`where` says nothing for what = \"no_url\": leave it out"),
        ("what = 'state'", 2, "`state` is missing"),
        ("what = 'fail'\ncodes = ['NSFW', 'NSWF']", 2, "`NSWF` is no fail code: use PROCESSING_TIMEOUT, "),
        ("what = 'fail'", 2, "`codes` is missing"),
        ("what = 'limits'", 2, "`requests` or `tasks` is missing"),
        ("what = 'limits'\ntasks = '0%'", 4, "a limit is a number from 1, or a share such as \"50%\""),
        ("what = 'limits'\ntasks = 5\nshare = 0.5", 2, "`share` says nothing for what = \"limits\""),
        (
            "what = 'money'\ntold = '403'",
            4,
            "unknown variant `403`, expected one of `400`, `402`, `fail_code`",
        ),
        ("what = 'money'\nfrom = '2m'", 2, "`from` says nothing for what = \"money\""),
        ("what = ", 3, ""),
        ("what = 'cut'\n[videos]\ncut = 2", 5, "2 is no share"),
        ("what = 'cut'\n[videos]\ncuts = 0.5", 5, "unknown field `cuts`, expected one of"),
        (
            "what = 'cut'\n[videos]\nbytes = '9..1'",
            5,
            "`9..1` is no length: use bytes, such as 200000..2000000",
        ),
        ("what = 'cut'\n[videos]\nlinks = 21", 5, "1 to 20 links"),
        ("what = 'cut'\n[videos]\nexpire = 9", 5, "a span of time such as"),
    ] {
        let error = Scenario::parse("mine.toml", &format!("about = ''\n[[fault]]\n{fault}\n")).unwrap_err();
        let told_now = error.to_string();
        assert!(told_now.starts_with(&format!("scenario mine.toml, line {line}: ")), "{fault}: {told_now}");
        assert!(told_now.contains(told), "{fault}: {told_now}");
    }
    let unknown = Scenario::load("no-such-scenario").unwrap_err().to_string();
    assert!(
        unknown
            .starts_with("`no-such-scenario` is neither a file nor a scenario; the scenarios are error-500")
    );
    let folder = tempfile::tempdir().unwrap();
    let unreadable = Scenario::load(folder.path().to_str().unwrap()).unwrap_err().to_string();
    assert!(unreadable.starts_with("scenario ") && unreadable.contains(folder.path().to_str().unwrap()));
}

#[test]
fn scenarios_add_up() {
    let sum = ["throttle", "money-402", "no-url"].map(|name| Scenario::load(name).unwrap());
    let sum = sum.into_iter().fold(Scenario::default(), Scenario::and);
    assert_eq!(sum.about().matches("; ").count(), 2, "{}", sum.about());
    assert_eq!(sum.balance(), Some(Usd::from_cents(10_000)));
    assert_eq!(Scenario::default().and(Scenario::load("cut").unwrap()), Scenario::load("cut").unwrap());
}

/// Everything that is heard of 300 samples bought and watched under `mixed`.
async fn story(seed: u64) -> Vec<String> {
    let scenario = Scenario::load("mixed").unwrap().and(Scenario::load("error-500").unwrap());
    let world = World::new(Settings { seed, scenario, ..Settings::default() });
    let mut heard = Vec::new();
    for n in 0..300 {
        let answer = world.submit(&n.to_string()).await;
        heard.push(submitted(&answer));
        if let Submitted::Accepted(task) = answer {
            heard.push(polled(&world.look(&task).await));
            world.sleep(1).await;
            heard.push(polled(&world.look(&task).await));
        }
    }
    heard.push(world.verdict().to_string());
    heard
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let first = story(1).await;
    assert_eq!(first, story(1).await);
    assert_ne!(first, story(2).await);
    assert!(first.iter().filter(|heard| heard.starts_with("doubt")).count() > 5, "{first:?}");
}
