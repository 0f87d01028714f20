//! Videos into a bucket of a real S3-compatible server: whole or not at all, nothing replaced, and no
//! upload left unfinished, whoever is killed.

#![cfg(feature = "bucket")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/s3.rs"]
mod s3;
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod support;

use std::net::TcpListener;
use std::sync::Arc;

use batchveo::download::{
    Bucket, Content, DraftId, Finding, Found, Origin, Place, PlaceError, Sum, Verified, verify,
};
use batchveo::job::{TaskId, UnixMillis};
use batchveo::store::{Durability, Note, NoteOf, Owner, SavedFile, Store};
use bytes::Bytes;
use s3::S3;
use sha2::{Digest, Sha256};
use support::{Folder, Server};

/// A little more than one part.
const LONG: usize = 9 * 1024 * 1024;

/// A bucket of its own on the server, and the place below `prefix` in it.
fn place(name: &str, prefix: &str) -> Option<(Arc<S3>, Place)> {
    let s3 = S3::shared()?;
    s3.make_bucket(name);
    let address = format!("s3://{name}/{prefix}");
    let bucket = Bucket::with_variables(&address, s3.variables()).unwrap();
    Some((s3, Place::Bucket(bucket)))
}

fn video(length: usize) -> Vec<u8> {
    // No part of it is like another: 251 is prime.
    let mut video = (0..251).collect::<Vec<u8>>().repeat(length / 251 + 1);
    video.truncate(length);
    video
}

fn content(bytes: &[u8]) -> Content {
    Content { bytes: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
}

fn origin() -> Origin {
    Origin { link: "a".into(), validator: None, total: None }
}

fn id(task: &str) -> DraftId {
    DraftId::new("state", task, 1)
}

/// Puts a video under a name, a piece at a time.
async fn upload(place: &Place, task: &str, path: &str, video: &[u8]) -> Result<(), PlaceError> {
    let mut draft = place.begin(&id(task)).await?;
    assert_eq!((draft.have(), draft.origin()), (0, None));
    draft.restart(origin()).await?;
    for piece in video.chunks(100_000) {
        draft.write(Bytes::copy_from_slice(piece)).await?;
    }
    assert_eq!(draft.have(), video.len() as u64);
    assert_eq!(draft.hash().await?.finalize()[..], content(video).sha256);
    assert_eq!(draft.head(12).await?, video[..12]);
    draft.sync().await?;
    draft.finish(path, content(video)).await
}

#[tokio::test]
async fn a_video_appears_whole_with_its_hash_whether_it_is_short_or_long() {
    let Some((s3, place)) = place("whole", "a b/2026") else { return };
    assert_eq!(place.address(), "s3://whole/a b/2026");
    place.prepare("state").await.unwrap();
    for (name, length, kind) in
        [("short.mov", 70_000, "video/quicktime"), ("x/y/lo+ng \u{e4}.webm", LONG, "video/webm")]
    {
        let video = video(length);
        assert_eq!(place.find(name, content(&video)).await.unwrap(), Found::Nothing);
        upload(&place, name, name, &video).await.unwrap();
        assert_eq!(place.find(name, content(&video)).await.unwrap(), Found::Same);
        assert_eq!(place.find(name, content(&video[1..])).await.unwrap(), Found::Other);
        let key = format!(
            "a%20b/2026/{}",
            name.replace('+', "%2B").replace(' ', "%20").replace('\u{e4}', "%C3%A4")
        );
        let (head, stored) = s3.get("whole", &key).unwrap();
        assert!(stored == video, "{name}: {} bytes", stored.len());
        assert!(head.to_ascii_lowercase().contains(&format!("content-type: {kind}")), "{head}");
        // As the list has it.
        let line = Sum { path: name.into(), sha256: content(&video).sha256 }.line();
        assert!(head.contains(&format!("x-amz-meta-sha256: {}", &line[..64])), "{head}");
    }
    assert_eq!(s3.keys("whole"), ["a b/2026/short.mov", "a b/2026/x/y/lo+ng \u{e4}.webm"]);
    assert_eq!(s3.unfinished("whole"), [""; 0]);
}

#[tokio::test]
async fn what_is_there_stays() {
    let Some((s3, place)) = place("taken", "p") else { return };
    for (name, length) in [("short.mp4", 1_000), ("long.mp4", LONG)] {
        s3.put("taken", &format!("p/{name}"), b"foreign");
        let error = upload(&place, name, name, &video(length)).await.unwrap_err();
        assert!(matches!(error, PlaceError::Taken { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("s3://taken/p/{name} is there already")), "{error}");
        assert_eq!(s3.get("taken", &format!("p/{name}")).unwrap().1, b"foreign");
    }
    // What is the very same is no obstacle, even if nobody noted its hash.
    let video = video(20_000);
    s3.put("taken", "p/same.mp4", &video);
    assert_eq!(place.find("same.mp4", content(&video)).await.unwrap(), Found::Same);
    upload(&place, "same", "same.mp4", &video).await.unwrap();
    place.put("note.json", Bytes::from_static(b"{}")).await.unwrap();
    place.put("note.json", Bytes::from_static(b"{}")).await.unwrap();
    let other = place.put("note.json", Bytes::from_static(b"[]")).await;
    assert!(matches!(other, Err(PlaceError::Taken { .. })));
    assert_eq!(s3.keys("taken"), ["p/long.mp4", "p/note.json", "p/same.mp4", "p/short.mp4"]);
    assert_eq!(s3.unfinished("taken"), [""; 0]);
}

#[tokio::test]
async fn a_draft_that_ends_leaves_nothing() {
    let Some((s3, place)) = place("ended", "") else { return };
    for end in ["suspend", "abandon", "restart"] {
        let mut draft = place.begin(&id("t")).await.unwrap();
        draft.restart(origin()).await.unwrap();
        draft.write(Bytes::from(video(LONG))).await.unwrap();
        draft.write(Bytes::from_static(b"more")).await.unwrap();
        assert_eq!(s3.unfinished("ended").len(), 1, "{end}: nothing to clear away");
        match end {
            "suspend" => draft.suspend().await.unwrap(),
            "abandon" => draft.abandon().await.unwrap(),
            _ => {
                draft.restart(origin()).await.unwrap();
                assert_eq!((draft.have(), draft.head(9).await.unwrap().len()), (0, 0));
            }
        }
        assert_eq!((s3.unfinished("ended"), s3.keys("ended")), (vec![], vec![]), "{end}");
    }
}

#[tokio::test]
async fn what_a_killed_process_left_is_cleared_away_and_nobody_elses() {
    let Some((s3, place)) = place("killed", "p&q") else { return };
    // Dropped without a word, as by a kill.
    for task in ["a", "b"] {
        let mut draft = place.begin(&id(task)).await.unwrap();
        draft.restart(origin()).await.unwrap();
        draft.write(Bytes::from(video(LONG))).await.unwrap();
        draft.write(Bytes::from_static(b"more")).await.unwrap();
    }
    let whole_but_nameless = format!("p%26q/.batchveo/{}.part", id("c").as_str());
    s3.put("killed", &whole_but_nameless, b"x");
    s3.put("killed", "p%26q/.batchveo/other-1-1.part", b"x");
    s3.begin_upload("killed", "p%26q/.batchveo/other-2-1.part");
    s3.begin_upload("killed", "p%26q/video.mp4");
    assert_eq!(s3.unfinished("killed").len(), 4);
    // The very draft begun anew clears its own upload away, where services list nothing by prefix.
    upload(&place, "a", "a.mp4", &video(LONG)).await.unwrap();
    assert_eq!(s3.unfinished("killed").len(), 3);
    place.prepare("state").await.unwrap();
    let mut left = s3.unfinished("killed");
    left.sort();
    assert_eq!(left, ["p&amp;q/.batchveo/other-2-1.part", "p&amp;q/video.mp4"]);
    assert_eq!(s3.keys("killed"), ["p&amp;q/.batchveo/other-1-1.part", "p&amp;q/a.mp4"]);
}

#[tokio::test]
async fn the_list_tells_later_what_is_not_whole() {
    let Some((s3, place)) = place("listed", "p") else { return };
    let folder = tempfile::tempdir().unwrap();
    let owner = Owner::Simulator { seed: 0 };
    let state = folder.path().join("s.db");
    let store = Store::open(&state, &owner, Durability::Rehearsal, UnixMillis(0)).unwrap();
    let mut files = store.files(place.address()).unwrap();
    let verified = async || {
        let mut findings = Vec::new();
        let at_once = std::num::NonZeroUsize::new(4).unwrap();
        let verified = verify(&place, at_once, |finding| findings.push(finding), |_, _| ()).await.unwrap();
        findings.sort_by_key(|finding| format!("{finding:?}"));
        (findings, verified)
    };
    assert_eq!(verified().await, (vec![], None));
    for (task, name) in [("a", "a b.mp4"), ("b", "x/b.mp4"), ("c", "c.mp4")] {
        let video = video(100_000);
        upload(&place, task, name, &video).await.unwrap();
        let Content { bytes, sha256 } = content(&video);
        let what = NoteOf::Saved(SavedFile { path: name.into(), bytes, sha256 });
        files.note(&[Note { task: TaskId::new(task).unwrap(), part: 1, at: UnixMillis(0), what }]).unwrap();
    }
    for _ in 0..2 {
        place.settle_list(&files).await.unwrap();
        assert_eq!(verified().await, (vec![], Some(Verified { listed: 3, whole: 3, unlisted: 0 })));
    }
    s3.put("listed", "p/x/b.mp4", b"other");
    s3.delete("listed", "p/c.mp4");
    s3.put("listed", "p/new.mp4", b"other");
    let (findings, counts) = verified().await;
    assert_eq!(counts, Some(Verified { listed: 3, whole: 1, unlisted: 1 }));
    let [damaged, missing, unlisted] = ["x/b.mp4", "c.mp4", "new.mp4"].map(str::to_owned);
    assert_eq!(findings, [Finding::Damaged(damaged), Finding::Missing(missing), Finding::Unlisted(unlisted)]);
    assert_eq!(s3.unfinished("listed"), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_used_is_told() {
    let open = |address: &str, variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Bucket::with_variables(address, variables).map_err(|error| error.to_string())
    };
    for wrong in ["s3://", "s3:///prefix", "s3://user@bucket/x", "s3://b/a//b", "s3://b/../c", "s3://b?x"] {
        assert!(open(wrong, &[]).unwrap_err().starts_with(&format!("{wrong} cannot be used: ")), "{wrong}");
    }
    let plain = open("s3://b", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]).unwrap_err();
    assert!(plain.contains("AWS_ALLOW_HTTP=true"), "{plain}");

    // A port where nobody listens.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{address}");
    let keys = [("AWS_ACCESS_KEY_ID", "an-id"), ("AWS_SECRET_ACCESS_KEY", "a-secret")];
    let dead = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_ALLOW_HTTP", "true"), keys[0], keys[1]];
    let place = Place::Bucket(open("s3://b/p", &dead).unwrap());
    let told = place.prepare("state").await.unwrap_err().to_string();
    assert!(told.starts_with("s3://b/p cannot be used: ") && told.contains("refused"), "{told}");
    assert!(!told.contains("a-secret") && !told.contains("an-id"), "{told}");

    let Some(s3) = S3::shared() else { return };
    let place = Place::Bucket(Bucket::with_variables("s3://nobodys/p", s3.variables()).unwrap());
    for told in [place.prepare("state").await, place.probe("state").await] {
        let told = told.unwrap_err().to_string();
        assert!(told.contains("bucket does not exist"), "{told}");
    }
    for path in ["../v.mp4", "/v.mp4", "a//v.mp4", "", ".batchveo/v.mp4", "a/../v.mp4", "a\nb.mp4"] {
        let put = place.put(path, Bytes::from_static(b"x")).await;
        assert!(matches!(put, Err(PlaceError::NoName { .. })), "{path}: {put:?}");
    }
}

#[test]
fn a_bucket_that_is_none_is_told_before_anything_is_bought() {
    let Some(s3) = S3::shared() else { return };
    s3.make_bucket("probed");
    let folder = Folder::new();
    folder.write_sheet("p.csv", 2);
    let server = Server::start(&folder, "--time-scale 400");
    let variables = s3.variables();
    let mut keyed: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    keyed.push(("BATCHVEO_API_KEY", "any"));
    let line = format!("run p.csv --mode fast --base-url {} --time-scale 400 --progress none", server.url());
    let run = folder.run(&format!("{line} --download=s3://nobodys/films"), &keyed);
    assert_eq!(run.code(), Some(2), "{}", run.stderr());
    assert!(run.stderr().contains("bucket does not exist"), "{}", run.stderr());
    assert_eq!(server.judge()["submissions"], 0);
    // One that is there is left as it was.
    let run = folder.run(&format!("{line} --no-buy --download=s3://probed/films"), &keyed);
    assert_eq!(run.code(), Some(1), "{}", run.stderr());
    assert_eq!((s3.keys("probed"), s3.unfinished("probed")), (vec![], vec![]));
}

#[test]
fn a_killed_run_is_gone_on_with_and_leaves_no_upload_unfinished() {
    const ROWS: usize = 6;
    let Some(s3) = S3::shared() else { return };
    s3.make_bucket("run");
    let folder = Folder::new();
    folder.write_sheet("p.csv", ROWS);
    // Two parts each, a second at least.
    folder.write("slow.toml", "[videos]\nbytes = \"8500000..8600000\"\nrate = 20000\n");
    let server = Server::start(&folder, "--time-scale 400 --scenario slow.toml");
    let variables = s3.variables();
    let mut keyed: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    keyed.push(("BATCHVEO_API_KEY", "any"));
    let url = server.url();
    let line = format!(
        "run p.csv --mode fast --base-url {url} --time-scale 400 --progress none \
         --download=s3://run/films --download-concurrency 2"
    );
    let finished = || {
        let keys = s3.keys("run");
        keys.into_iter().filter(|key| key.starts_with("films/row-")).count()
    };
    let mut run = folder.start(&line, &keyed);
    for _ in 0..6_000 {
        if finished() >= 2 && !s3.unfinished("run").is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run.kill();
    assert!(!s3.unfinished("run").is_empty(), "it was killed too late, or too early");
    let (there, requests) = (finished(), server.judge()["videos"]["requests"].as_u64().unwrap());
    let again = folder.run(&line, &keyed);
    assert_eq!(again.code(), Some(0), "{}", again.stderr());
    assert_eq!(s3.unfinished("run"), [""; 0]);
    let mut names: Vec<_> = (0..ROWS).map(|row| format!("films/row-{row}.mp4")).collect();
    names.insert(0, "films/SHA256SUMS".to_owned());
    assert_eq!(s3.keys("run"), names);
    // What was there was not fetched again.
    let judge = server.judge();
    let more = judge["videos"]["requests"].as_u64().unwrap() - requests;
    assert_eq!((more, &judge["bought_twice"]), ((ROWS - there) as u64, &0.into()), "{judge}");
    let files: Vec<_> = folder.results("p.results.csv").into_iter().map(|row| row["file"].clone()).collect();
    assert!(files.iter().all(|file| file.starts_with("s3://run/films/row-")), "{files:?}");
    let verified = folder.run("verify s3://run/films --json", &keyed);
    assert_eq!(verified.code(), Some(0), "{}", verified.stdout());
    assert!(folder.holds("a-secret").is_none(), "a secret was written down");

    // What somebody deleted comes again, and what somebody cut is told and not replaced.
    s3.delete("run", "films/row-0.mp4");
    s3.put("run", "films/row-1.mp4", b"cut");
    let mend =
        folder.run(&format!("download p.csv --base-url {url} --to s3://run/films --progress plain"), &keyed);
    assert_eq!(mend.code(), Some(1), "{}", mend.stderr());
    assert!(mend.stderr().contains("2 saved videos no longer there"), "{}", mend.stderr());
    assert!(mend.stderr().contains("row-1.mp4 is there already"), "{}", mend.stderr());
    assert_eq!(s3.keys("run"), names);
}
