//! Downloads by the binary, whole, from the simulator over HTTP: cut, expired, killed and resumed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use batchveo::simulator::read_video;
use serde_json::Value;
use support::{Folder, Server};

const KEY: &str = "recognisable-key-0123456789";
const KEYED: [(&str, &str); 1] = [("BATCHVEO_API_KEY", KEY)];

fn against(server: &Server, rest: &str) -> String {
    format!("run p.csv --mode fast --base-url {} --time-scale 400 --progress none {rest}", server.url())
}

/// Every file below `folder` that is a whole video, by its name, and that no two are one video.
fn whole_videos(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut videos = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() || name == "SHA256SUMS" {
            continue;
        }
        let video = read_video(File::open(&path).unwrap()).unwrap();
        assert!(videos.insert(video.unwrap_or_else(|| panic!("{name} is not whole"))), "{name} is another's");
        names.insert(name);
    }
    names
}

fn names(rows: usize, extension: &str) -> BTreeSet<String> {
    (0..rows).map(|row| format!("row-{row}{extension}")).collect()
}

fn drafts(folder: &Folder) -> usize {
    fs::read_dir(folder.path("p.videos/.batchveo")).unwrap().count()
}

/// Waits until so many drafts hold something of their videos.
#[cfg(unix)]
fn wait_for_parts(folder: &Folder, wanted: usize) {
    let begun = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let is_part = entry.path().extension().is_some_and(|extension| extension == "part");
        // One that was finished meanwhile has its name.
        is_part && entry.metadata().is_ok_and(|draft| draft.len() > 0)
    };
    for _ in 0..500 {
        let parts = fs::read_dir(folder.path("p.videos/.batchveo")).unwrap();
        if parts.map(begun).filter(|begun| *begun).count() >= wanted {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{wanted} downloads never began");
}

/// `batchveo download` of the same sheet from the same server.
fn fetched(server: &Server, rest: &str) -> String {
    format!("download p.csv --base-url {} --progress none {rest}", server.url())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn every_video_is_there_whole_whatever_breaks_on_the_way() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 30);
    folder.write(
        "bad.toml",
        "[videos]\ncut = 0.2\nwrong_length = 0.1\nnot_video = 0.1\nbytes = \"20000..300000\"\n",
    );
    let server = Server::start(&folder, &format!("--time-scale 400 --key {KEY} --scenario bad.toml"));
    let run = folder.run(&against(&server, "--download --summary s.json --events e.ndjson"), &KEYED);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    assert_eq!(whole_videos(&folder.path("p.videos")), names(30, ".mp4"));
    assert_eq!(drafts(&folder), 0, "a draft is left");
    let judge = server.judge();
    assert_eq!(judge["held"], true, "{judge}");
    assert_eq!(judge["videos"]["with_key"], 0, "{judge}");
    assert!(judge["videos"]["spoilt"].as_u64().unwrap() > 0, "nothing went wrong: {judge}");
    for row in folder.results("p.results.csv") {
        let file = row["file"].clone();
        assert!(file.ends_with(&format!("{}.mp4", row["id"])) && Path::new(&file).is_file(), "{file}");
    }
    let summary = json(&fs::read_to_string(folder.path("s.json")).unwrap());
    assert_eq!((&summary["downloads"]["files"], &summary["downloads"]["left"]), (&30.into(), &0.into()));
    let events = fs::read_to_string(folder.path("e.ndjson")).unwrap();
    assert_eq!(events.lines().filter(|line| line.contains(r#""event":"saved""#)).count(), 30);
    let status = json(&folder.run("status p.csv --json", &[]).stdout());
    assert_eq!(
        (&status["downloads"][0]["files"], &status["links"]["not_downloaded"]),
        (&30.into(), &0.into())
    );
    assert_eq!(folder.run("verify p.videos", &[]).code(), Some(0));

    // Again: nothing is fetched.
    let again = folder.run(&against(&server, "--download"), &KEYED);
    assert_eq!(again.code(), Some(0), "{}", again.stderr());
    assert_eq!(server.judge()["videos"]["requests"], judge["videos"]["requests"]);
}

#[test]
fn nothing_whole_is_fetched_again_after_a_kill() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 24);
    folder.write("slow.toml", "[videos]\nbytes = \"400000..500000\"\nrate_in_all = 10000\n");
    let server = Server::start(&folder, "--time-scale 400 --scenario slow.toml");
    let line = against(&server, "--download --download-concurrency 4");
    let mut kills = 0;
    for files in [3, 9, 15] {
        let mut run = folder.start(&line, &KEYED);
        for _ in 0..4_000 {
            let there = fs::read_dir(folder.path("p.videos")).map_or(0, Iterator::count);
            if there > files {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        run.kill();
        kills += 1;
    }
    let last = folder.run(&line, &KEYED);
    assert_eq!(last.code(), Some(0), "{}", last.stderr());
    assert_eq!(whole_videos(&folder.path("p.videos")), names(24, ".mp4"));
    assert_eq!(drafts(&folder), 0, "a draft is left");
    let judge = server.judge();
    let videos = &judge["videos"];
    assert_eq!((&judge["bought_twice"], &videos["whole_of_one"]), (&0.into(), &1.into()), "{judge}");
    // A kill cuts four videos, and each goes on where it was; what was on its way is sent again.
    let again = videos["bytes_sent"].as_u64().unwrap() - videos["bytes"].as_u64().unwrap();
    assert!(again < kills * 4 * 500_000, "{judge}");
}

#[test]
fn what_was_not_downloaded_is_later_and_dead_links_are_asked_for_again() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 6);
    folder.write("dying.toml", "[videos]\nexpire = \"10m\"\nlinks = 2\nbytes = \"5000..9000\"\n");
    let server = Server::start(&folder, "--time-scale 400 --scenario dying.toml");
    assert_eq!(folder.run(&against(&server, ""), &KEYED).code(), Some(0));
    // Ten minutes of the server's, and a little.
    std::thread::sleep(Duration::from_millis(2_000));
    let keyless = folder.run(&fetched(&server, ""), &[]);
    assert_eq!(keyless.code(), Some(1), "{}", keyless.stderr());
    assert!(keyless.stderr().contains("no API key"), "{}", keyless.stderr());
    let keyed = folder.run(&fetched(&server, ""), &KEYED);
    assert_eq!(keyed.code(), Some(0), "{}", keyed.stderr());
    let all: BTreeSet<_> = names(6, ".mp4").into_iter().chain(names(6, ".2.mp4")).collect();
    assert_eq!(whole_videos(&folder.path("p.videos")), all);
    // The results of the run name them now, all of them.
    for row in folder.results("p.results.csv") {
        let files: Vec<String> = serde_json::from_str(&row["files"]).unwrap();
        assert!(files.len() == 2 && files.iter().all(|file| Path::new(file).is_file()), "{files:?}");
        assert_eq!(files[0], row["file"]);
    }
    // What is somebody else's meanwhile stays.
    folder.write("p.results.csv", "mine\n");
    assert!(folder.holds(KEY).is_none());

    // Elsewhere all of it, and here nothing new; the newest copy is the one in the results.
    let elsewhere = folder.run(&fetched(&server, "--to other"), &KEYED);
    assert_eq!(elsewhere.code(), Some(0), "{}", elsewhere.stderr());
    assert_eq!(whole_videos(&folder.path("other")), all);
    assert!(
        elsewhere.stderr().contains("p.results.csv is elsewhere, or was changed since the run"),
        "{}",
        elsewhere.stderr()
    );
    assert_eq!(fs::read_to_string(folder.path("p.results.csv")).unwrap(), "mine\n");
    let export = folder.run("export p.csv -o -", &[]);
    assert_eq!(export.stdout().matches("/other/row-").count(), 6 + 12, "{}", export.stdout());
    assert_eq!(server.judge()["bought_twice"], 0);
}

#[test]
fn a_file_in_the_way_is_never_replaced() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 3);
    fs::create_dir(folder.path("p.videos")).unwrap();
    folder.write("p.videos/row-1.mp4", "mine");
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 5000..9000");
    let run = folder.run(&against(&server, "--download --events e.ndjson"), &KEYED);
    assert_eq!(run.code(), Some(1), "{}", run.stderr());
    assert_eq!(fs::read_to_string(folder.path("p.videos/row-1.mp4")).unwrap(), "mine");
    let events = fs::read_to_string(folder.path("e.ndjson")).unwrap();
    assert!(events.contains("row-1.mp4 is there already"), "{events}");
    assert!(run.stderr().contains("batchveo download p.csv"), "{}", run.stderr());
    fs::remove_file(folder.path("p.videos/row-1.mp4")).unwrap();
    // Its draft is whole: it only gets its name.
    let before = server.judge()["videos"]["requests"].clone();
    assert_eq!(folder.run(&fetched(&server, ""), &KEYED).code(), Some(0));
    assert_eq!(server.judge()["videos"]["requests"], before);
    assert_eq!(whole_videos(&folder.path("p.videos")), names(3, ".mp4"));
}

#[cfg(unix)]
#[test]
fn an_interruption_ends_downloads_at_once_and_keeps_what_came() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 4);
    folder.write("slow.toml", "[videos]\nbytes = \"4000000..5000000\"\nrate = 5000\n");
    let server = Server::start(&folder, "--time-scale 400 --scenario slow.toml");
    let line = against(&server, "--download --events e.ndjson");
    let mut run = folder.start(&line, &KEYED);
    folder.wait_for_text("e.ndjson", "generation_over");
    wait_for_parts(&folder, 4);
    run.signal("-INT");
    assert_eq!(run.wait(), Some(130));
    assert!(drafts(&folder) > 0, "nothing was kept");
    let later = folder.run(&fetched(&server, ""), &[]);
    assert_eq!(later.code(), Some(0), "{}", later.stderr());
    assert_eq!(whole_videos(&folder.path("p.videos")), names(4, ".mp4"));
    let videos = &server.judge()["videos"];
    assert_eq!(videos["whole_of_one"], 0, "each was cut once: {videos}");
}

/// A service that no longer answers, as behind a broken firewall.
#[cfg(all(unix, feature = "bucket"))]
#[test]
fn a_bucket_that_never_answers_keeps_nobody_from_leaving() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 5000..9000");
    assert_eq!(folder.run(&against(&server, ""), &KEYED).code(), Some(0));
    let (endpoint, asked) = service(true);
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ];
    let bought = against(&server, "--download=s3://b/p");
    let later = format!("download p.csv --base-url {} --to s3://b/p --progress none", server.url());
    for line in [&later, &bought] {
        let mut run = folder.start(line, &[&variables[..], &KEYED].concat());
        asked.recv_timeout(Duration::from_secs(30)).unwrap();
        run.signal("-INT");
        assert_eq!(run.wait(), Some(130), "{line}");
    }
}

/// A bucket whose quota is used up refuses each object when it is put: after its video was fetched.
#[cfg(all(unix, feature = "bucket"))]
#[test]
fn a_bucket_without_room_is_not_fetched_for_again_and_again() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 12);
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 5000..9000");
    assert_eq!(folder.run(&against(&server, ""), &KEYED).code(), Some(0));
    let (endpoint, puts) = service(false);
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ];
    let line = format!("download p.csv --base-url {} --to s3://b/p --progress none", server.url());
    let mut run = folder.start(&line, &variables);
    // Eight videos at once, then looks for room.
    for _ in 0..=8 {
        puts.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    run.signal("-TERM");
    assert_eq!(run.wait(), Some(143));
    assert_eq!(server.judge()["videos"]["requests"], 8);
}

#[cfg(all(unix, feature = "bucket"))]
fn service(silent: bool) -> (String, std::sync::mpsc::Receiver<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            std::thread::spawn(move || refuse_each_object(stream.unwrap(), silent, &tell));
        }
    });
    (endpoint, told)
}

/// A service of S3 with nothing in it that takes no object, and tells of each; or that is `silent`, and
/// tells of what it does not answer.
#[cfg(all(unix, feature = "bucket"))]
fn refuse_each_object(stream: std::net::TcpStream, silent: bool, told: &std::sync::mpsc::Sender<()>) {
    use std::io::{BufRead, BufReader, Read, Write};
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            head += &line;
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).unwrap();
        let full = ("403 Forbidden", "<Error><Code>QuotaExceeded</Code><Message>full</Message></Error>");
        // Whether no upload can begin either is for each service to say.
        let (status, body) = if head.starts_with("POST") && !silent {
            full
        } else if head.starts_with("POST") {
            let body = "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId>\
                        </InitiateMultipartUploadResult>";
            ("200 OK", body)
        } else if head.starts_with("DELETE") {
            ("204 No Content", "")
        } else if head.starts_with("GET") && silent {
            let _ = told.send(());
            continue;
        } else if head.starts_with("PUT") {
            let _ = told.send(());
            full
        } else if head.contains("uploads") {
            ("200 OK", "<ListMultipartUploadsResult></ListMultipartUploadsResult>")
        } else if head.contains("list-type") {
            (
                "200 OK",
                "<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>\
                 <IsTruncated>false</IsTruncated></ListBucketResult>",
            )
        } else {
            ("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>")
        };
        let body = if head.starts_with("HEAD") { "" } else { body };
        write!(writer, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
}

#[test]
fn a_rehearsal_has_nothing_to_download() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    let run = folder.run("run p.csv --simulate --download", &[]);
    assert_eq!(run.code(), Some(2));
    assert!(run.stderr().contains("batchveo simulate"), "{}", run.stderr());
    let run = folder.run("run p.csv --simulate --time-scale max --download --no-download", &[]);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    let later = folder.run("download p.csv.simulated.batchveo.db", &[]);
    assert_eq!(later.code(), Some(2));
    assert!(later.stderr().contains("rehearsal"), "{}", later.stderr());
}

/// The name of the sheet is none of the option's: a place goes with an equals sign.
#[test]
fn download_takes_no_word_that_is_not_its_own() {
    let folder = Folder::new();
    let run = folder.run("run --download absent.csv --base-url http://127.0.0.1:9", &KEYED);
    assert!(run.stderr().contains("absent.csv"), "{}", run.stderr());
}

/// A sheet's folder may come from anywhere, and its state file with it.
#[test]
fn a_state_file_chooses_neither_where_the_key_goes_nor_where_videos_do() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 5000..9000");
    assert_eq!(folder.run(&against(&server, ""), &KEYED).code(), Some(0));
    let asked = server.judge()["requests"].clone();
    let refused = folder.run("download p.csv --progress none", &KEYED);
    assert_eq!(refused.code(), Some(2), "{}", refused.stderr());
    for words in [format!("add --base-url {}", server.url()), "https://api.apixo.ai".to_owned()] {
        assert!(refused.stderr().contains(&words), "{}", refused.stderr());
    }
    assert_eq!((server.judge()["requests"].clone(), folder.path("p.videos").exists()), (asked, false));

    let outside = tempfile::tempdir().unwrap();
    let stolen = outside.path().canonicalize().unwrap().join("stolen");
    let to = fetched(&server, &format!("--to {}", stolen.display()));
    assert_eq!(folder.run(&to, &KEYED).code(), Some(0));
    fs::remove_dir_all(&stolen).unwrap();
    let refused = folder.run(&fetched(&server, ""), &KEYED);
    assert_eq!(refused.code(), Some(2), "{}", refused.stderr());
    assert!(refused.stderr().contains(&format!("add --to {}", stolen.display())), "{}", refused.stderr());
    assert!(!stolen.exists());
}

#[cfg(unix)]
#[test]
fn a_link_beside_the_sheet_leads_no_download_out_of_its_folder() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path("p.videos")).unwrap();
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 5000..9000");
    assert_eq!(folder.run(&against(&server, ""), &KEYED).code(), Some(0));
    let refused = folder.run(&fetched(&server, ""), &KEYED);
    assert_eq!(refused.code(), Some(2), "{}", refused.stderr());
    assert!(refused.stderr().contains("add --to p.videos"), "{}", refused.stderr());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(folder.run(&fetched(&server, "--to p.videos"), &KEYED).code(), Some(0));
    assert_eq!(whole_videos(outside.path()), names(1, ".mp4"));
}

/// A run of three rows with sidecars, whole in `p.videos`.
fn three_saved() -> (Folder, Server) {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 3);
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 5000..9000");
    let run = folder.run(&against(&server, "--download --sidecar"), &KEYED);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    (folder, server)
}

#[test]
fn what_is_gone_cut_or_damaged_is_fetched_again() {
    let (folder, server) = three_saved();
    let (gone, cut) = (folder.path("p.videos/row-0.mp4"), folder.path("p.videos/row-1.mp4"));
    let damaged = folder.path("p.videos/row-2.mp4");
    fs::remove_file(&gone).unwrap();
    File::options().write(true).open(&cut).unwrap().set_len(100).unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let verified = folder.run("verify p.videos", &[]);
    assert_eq!(verified.code(), Some(1));
    assert!(verified.stderr().contains("batchveo download") && verified.stderr().contains("--check"));

    let before = server.judge()["videos"]["requests"].as_u64().unwrap();
    let plain = folder.run(&fetched(&server, "").replace("none", "plain"), &[]);
    assert_eq!(plain.code(), Some(0), "{}", plain.stderr());
    assert!(plain.stderr().contains("2 saved videos no longer there"), "{}", plain.stderr());
    assert!(plain.stdout().contains("2 of them new"), "{}", plain.stdout());
    assert_eq!(server.judge()["videos"]["requests"], before + 2);
    let aside = folder.path("p.videos/.batchveo/damaged-1/row-1.mp4");
    assert_eq!(fs::metadata(aside).unwrap().len(), 100, "nothing is thrown away");
    assert_eq!(folder.run("verify p.videos", &[]).code(), Some(1));

    let check = folder.run(&fetched(&server, "--check"), &[]);
    assert_eq!(check.code(), Some(0), "{}", check.stderr());
    assert_eq!(server.judge()["videos"]["requests"], before + 3);
    assert_eq!(folder.run("verify p.videos", &[]).code(), Some(0));
    assert!(folder.path("p.videos/.batchveo/damaged-1/row-2.mp4").is_file());

    fs::remove_file(&gone).unwrap();
    let run = folder.run(&against(&server, "--download"), &KEYED);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    assert!(gone.is_file());
}

#[test]
fn a_sidecar_is_written_later_and_costs_no_download() {
    let (folder, server) = three_saved();
    let sidecar = |row: u32| folder.path(&format!("p.videos/row-{row}.json"));
    fs::remove_file(sidecar(0)).unwrap();
    fs::remove_file(sidecar(1)).unwrap();
    let download = folder.run(&fetched(&server, "--sidecar"), &[]);
    assert_eq!(download.code(), Some(0), "{}", download.stderr());
    assert!(download.stdout().contains("3 videos") && download.stdout().contains("0 of them new"));
    assert!(json(&fs::read_to_string(sidecar(1)).unwrap())["task_id"].is_string());

    // One of this task is replaced, another file is not; the video is not fetched again for it.
    let old = fs::read_to_string(sidecar(0)).unwrap();
    for (text, code) in [(old.replace("http://", "https://"), 0), ("mine".to_owned(), 1)] {
        let other = Folder::new();
        fs::write(sidecar(0), &text).unwrap();
        fs::copy(folder.path("p.videos/row-0.mp4"), other.path("row-0.mp4")).unwrap();
        fs::copy(sidecar(0), other.path("row-0.json")).unwrap();
        let line = fetched(&server, &format!("--sidecar --to {}", other.path("").display()));
        for _ in 0..2 {
            assert_eq!(folder.run(&line, &[]).code(), Some(code));
        }
        assert_eq!(fs::read_to_string(other.path("row-0.json")).unwrap() == text, code == 1);
    }
    assert_eq!(server.judge()["videos"]["whole_of_one"], 3, "row-0 once, the others three times");
}

#[test]
fn a_project_that_moved_is_known_again() {
    let (folder, server) = three_saved();
    let before = server.judge()["videos"]["requests"].clone();
    fs::create_dir(folder.path("moved")).unwrap();
    for name in ["p.csv", "p.csv.batchveo.db", "p.results.csv", "p.videos"] {
        fs::rename(folder.path(name), folder.path("moved").join(name)).unwrap();
    }
    let download = folder.run(&fetched(&server, "").replace("p.csv", "moved/p.csv"), &[]);
    assert_eq!(download.code(), Some(0), "{}", download.stderr());
    assert!(!folder.path("p.videos").exists(), "the old place is made again");
    let line = against(&server, "--download").replace("p.csv", "moved/p.csv");
    let run = folder.run(&line, &KEYED);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    assert_eq!(server.judge()["videos"]["requests"], before, "fetched again");
    let row = folder.results("moved/p.results.csv").remove(0);
    assert!(row["file"].contains("/moved/p.videos/"), "{row:?}");
}

#[test]
fn a_place_that_took_nothing_is_not_the_usual_one_and_one_that_is_gone_is_not_made() {
    let (folder, server) = three_saved();
    let before = server.judge()["videos"]["requests"].clone();
    folder.write("full", "a file");
    for (to, code) in [("full", 2), ("gopher://x", 2)] {
        let typo = folder.run(&fetched(&server, &format!("--to {to}")), &[]);
        assert_eq!(typo.code(), Some(code), "{}", typo.stderr());
    }
    let usual = folder.run(&fetched(&server, ""), &[]);
    assert_eq!(usual.code(), Some(0), "{}", usual.stderr());
    assert!(usual.stdout().contains("p.videos, 0 of them new"), "{}", usual.stdout());
    fs::rename(folder.path("p.videos"), folder.path("films")).unwrap();
    let gone = folder.run(&fetched(&server, ""), &[]);
    assert_eq!(gone.code(), Some(2), "{}", gone.stderr());
    assert!(gone.stderr().contains("--to") && !folder.path("p.videos").exists(), "{}", gone.stderr());
    let films = folder.run(&fetched(&server, "--to films"), &[]);
    assert_eq!(films.code(), Some(0), "{}", films.stderr());
    assert_eq!(server.judge()["videos"]["requests"], before);
}

#[test]
fn a_run_of_another_sheet_goes_on_beside_a_download_with_a_key() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 2);
    folder.write("slow.toml", "[videos]\nbytes = \"4000000..5000000\"\nrate = 5000\n");
    let server = Server::start(&folder, &format!("--time-scale 400 --key {KEY} --scenario slow.toml"));
    assert_eq!(folder.run(&against(&server, ""), &KEYED).code(), Some(0));
    let mut download = folder.start(&fetched(&server, ""), &KEYED);
    for _ in 0..2_000 {
        if fs::read_dir(folder.path("p.videos/.batchveo")).is_ok_and(|drafts| drafts.count() > 0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    folder.write_sheet("q.csv", 1);
    let run = folder.run(&against(&server, "").replace("p.csv", "q.csv"), &KEYED);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    assert!(fs::read_dir(folder.path("p.videos/.batchveo")).unwrap().count() > 0, "it ended before");
    download.kill();
}

#[test]
fn what_left_the_sheet_is_paid_for_and_downloaded_all_the_same() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 3);
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 5000..9000");
    assert_eq!(folder.run(&against(&server, ""), &KEYED).code(), Some(0));
    folder.write_sheet("p.csv", 2);
    assert_eq!(folder.run(&against(&server, "--accept-changes"), &KEYED).code(), Some(0));
    let status = json(&folder.run("status p.csv --json", &[]).stdout());
    assert_eq!(status["links"]["not_downloaded"], 3, "{status}");
    let download = folder.run(&fetched(&server, ""), &[]);
    assert_eq!(download.code(), Some(0), "{}", download.stderr());
    assert_eq!(whole_videos(&folder.path("p.videos")).len(), 3);
}

#[test]
fn what_is_no_kind_of_place_is_a_usage_error_everywhere() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    for line in [
        "check p.csv --download=file:///films",
        "run p.csv -n --download=file:///films",
        "verify file:///films",
    ] {
        let told = folder.run(line, &[]);
        assert_eq!(told.code(), Some(2), "{line}: {}", told.stderr());
        assert!(told.stderr().contains("`file` is no kind of place"), "{line}: {}", told.stderr());
    }
}
