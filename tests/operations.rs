//! What the README and the examples tell to type is understood by the command line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use batchveo::cli;

/// The words after `batchveo` in each line that calls one of its commands.
fn calls(text: &str) -> Vec<String> {
    let whole = cli::command();
    let is_command = |word: &str| whole.get_subcommands().any(|known| known.get_name() == word);
    let mut calls = Vec::new();
    for line in text.lines() {
        // From the right: an image or a folder may have the same name.
        let Some((_, call)) = line.rsplit_once("batchveo ") else { continue };
        // The call ends where an explanation, a pipe, a redirection or a job begins.
        let end =
            ["  ", " #", " |", " >", " &", "`", ";", ")"].iter().filter_map(|mark| call.find(mark)).min();
        let call = call[..end.unwrap_or(call.len())].trim();
        if call.split(' ').next().is_some_and(is_command) {
            calls.push(call.to_owned());
        }
    }
    calls
}

fn hold_to_the_command_line(text: &str, name: &str) -> usize {
    let calls = calls(text);
    for call in &calls {
        let words = std::iter::once("batchveo").chain(call.split_whitespace());
        let parsed = cli::command().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{name}: {call}\n{}", parsed.unwrap_err());
    }
    calls.len()
}

#[test]
fn commands_in_the_examples_parse() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/operations");
    for (name, least) in [
        ("batchveo.service", 1),
        ("batchveo.cron", 1),
        ("Dockerfile", 1),
        ("callbacks.nginx.conf", 1),
        ("callbacks.tunnel.service", 1),
    ] {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert!(hold_to_the_command_line(&text, name) >= least, "{name}");
    }
}

/// The proxy, the tunnel and the run of the examples meet at one port, and agree on the path.
#[test]
fn the_examples_of_callbacks_lead_to_one_another() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/operations");
    let [proxy, tunnel] = ["callbacks.nginx.conf", "callbacks.tunnel.service"]
        .map(|name| fs::read_to_string(folder.join(name)).unwrap());
    let call = "--callback-url https://hooks.example/veo --callback-listen 127.0.0.1:9095";
    for text in [&proxy, &tunnel] {
        assert!(text.contains(call), "{text}");
    }
    assert!(proxy.contains("location = /veo {") && proxy.contains("server_name hooks.example;"));
    assert_eq!(proxy.matches("proxy_pass http://127.0.0.1:9095").count(), 2);
    assert!(
        tunnel.contains("-R 127.0.0.1:9095:127.0.0.1:9095 ")
            && tunnel.contains("permitlisten=\"127.0.0.1:9095\"")
    );
    // What the log may hold, which is never the query: `$uri` is without it.
    let format = proxy.lines().find(|line| line.starts_with("log_format")).unwrap();
    assert!(
        !["$request ", "$request_uri", "$args", "$query_string"].iter().any(|word| format.contains(word))
    );
}

#[test]
fn commands_in_the_readme_parse() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    // Text in backticks may leave something out; a block is to be run as it is written.
    let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    let found: usize = blocks.map(|block| hold_to_the_command_line(block, "README.md")).sum();
    assert!(found >= 5, "{found}");
}

#[test]
fn metrics_named_in_the_examples_exist() {
    use batchveo::event::{EventSink, Progress, RunEvent};
    use batchveo::job::{Failure, FailureKind, Limits, Stamp, Usd};
    use batchveo::schedule::Halt;
    let clock = batchveo::clock::Clock::virtual_from(Stamp::BIRTH);
    let mut metrics = batchveo::report::Metrics::new(Limits::DOCUMENTED, clock);
    let halt = Halt::NoMoney(Failure::new(FailureKind::Money, None, "none"));
    metrics.notice(&RunEvent::Balance(Usd::ZERO), &Progress::default());
    metrics.notice(&RunEvent::BuyingStopped(&halt), &Progress::default());
    let told = metrics.prometheus();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/operations");
    let text = fs::read_to_string(folder.join("prometheus.yml")).unwrap();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: Vec<_> = text.split(|c| !is_part(c)).filter(|word| word.starts_with("batchveo_")).collect();
    assert!(names.len() > 5);
    for name in names {
        assert!(told.lines().any(|line| line.starts_with(name)), "{name}\n{told}");
    }
}

/// Where nobody is asked, only a cap ends the spending.
#[test]
fn examples_that_buy_unasked_have_a_cap() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/operations");
    let mut unasked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for call in calls(&fs::read_to_string(&path).unwrap()).iter().filter(|call| call.contains("--yes")) {
            assert!(call.contains("--max-cost"), "{}: {call}", path.display());
            unasked += 1;
        }
    }
    assert_eq!(unasked, 2);
}
