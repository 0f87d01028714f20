//! Callbacks, with the whole binary: the API tells that tasks have ended, strangers lie, the process dies.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::Folder;

const KEYED: [(&str, &str); 1] = [("BATCHVEO_API_KEY", "recognisable-key-0123456789")];

/// A task that the API has made.
#[derive(Debug, Clone)]
struct Task {
    id: String,
    prompt: String,
    callback: Option<String>,
}

impl Task {
    fn end(&self, state: &str) -> String {
        let result = json!({"resultUrls": [format!("https://cdn.example/{}.mp4", self.id)]}).to_string();
        let data = json!({
            "taskId": self.id, "state": state, "resultJson": result, "failCode": "CONTENT_VIOLATION",
            "createTime": 1_704_067_200_000_i64, "completeTime": 1_704_067_260_000_i64,
        });
        json!({"code": 200, "message": "success", "data": data}).to_string()
    }

    fn url(&self) -> &str {
        self.callback.as_deref().unwrap()
    }
}

/// An API whose tasks never end by themselves, and of which a prompt of `doubt` is accepted and answered
/// with an error, one of `refused` as if there were no money for it, and one of `silence` never.
struct Api {
    address: SocketAddr,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    tasks: Vec<Task>,
    looks: usize,
}

impl Api {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::new(Mutex::new(Books::default()));
        let kept = Arc::clone(&books);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let books = Arc::clone(&kept);
                thread::spawn(move || serve(stream.unwrap(), &books));
            }
        });
        Self { address, books }
    }

    /// The tasks, once there are as many.
    fn tasks(&self, count: usize) -> Vec<Task> {
        for _ in 0..2_000 {
            let tasks = self.books.lock().unwrap().tasks.clone();
            if tasks.len() >= count {
                return tasks;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("never {count} tasks: {:?}", self.books.lock().unwrap().tasks);
    }

    fn task(&self, prompt: &str) -> Task {
        self.books.lock().unwrap().tasks.iter().find(|task| task.prompt == prompt).unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, books: &Mutex<Books>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = |data: &Value| json!({"code": 200, "message": "success", "data": data}).to_string();
    let (status, text) = if first.contains("current-balance") {
        (200, answer(&json!(1_000.0)))
    } else if first.contains("statusTask") {
        books.lock().unwrap().looks += 1;
        (200, answer(&json!({"taskId": "x", "state": "processing"})))
    } else {
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let callback = asked["callback_url"].as_str().map(str::to_owned);
        assert_eq!(asked["request_type"], if callback.is_some() { "callback" } else { "async" });
        let prompt = asked["input"]["prompt"].as_str().unwrap().to_owned();
        let mut books = books.lock().unwrap();
        let id = format!("task_{}", books.tasks.len());
        books.tasks.push(Task { id: id.clone(), prompt: prompt.clone(), callback });
        drop(books);
        match prompt.as_str() {
            "silence" => {
                thread::sleep(Duration::from_secs(60));
                return;
            }
            "doubt" => (500, "oops".to_owned()),
            "refused" => (402, json!({"code": 402, "message": "no money"}).to_string()),
            _ => (200, answer(&json!({"taskId": id}))),
        }
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    // A process that was killed reads no answer.
    let _ = stream.write_all((head + &text).as_bytes());
}

/// Sends one request to the host of `url`, and gives the status it is answered with.
fn send(method: &str, url: &str, body: &str) -> u16 {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, target) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    let request =
        format!("{method} /{target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{body}");
    // One that is turned away is answered before all of it is read.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("{url}: {answer}")).parse().unwrap()
}

fn post(url: &str, body: &str) -> u16 {
    send("POST", url, body)
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A run whose tasks are not looked at before ten minutes are over.
fn line(api: &Api, listen: SocketAddr, rest: &str) -> String {
    format!(
        "run p.csv --mode fast --base-url http://{} --poll fixed:10m,10m --progress none --callback-listen {listen} \
         --callback-url http://{listen}/veo?team=clips {rest}",
        api.address
    )
}

fn wait_until_healthy(listen: SocketAddr) {
    for _ in 0..2_000 {
        if TcpStream::connect(listen).is_ok() {
            assert_eq!(send("GET", &format!("http://{listen}/healthz"), ""), 200);
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("nobody listens at {listen}");
}

#[test]
fn callbacks_end_tasks_settle_a_doubt_and_forged_ones_change_nothing() {
    let folder = Folder::new();
    folder.write("p.csv", "id,prompt\na,one\nb,two\nc,doubt\nd,three\n");
    let api = Api::open();
    let listen = free_address();
    let log = std::fs::File::create(folder.path("log.txt")).unwrap();
    let run = line(&api, listen, "-vvv --events e.ndjson --summary s.json");
    let mut run =
        folder.command(&run, &KEYED).stderr(log).stdout(std::process::Stdio::null()).spawn().unwrap();
    let tasks = api.tasks(4);
    folder.wait_for_text("e.ndjson", r#""status":"unknown""#);
    let (one, two, doubt, three) = (api.task("one"), api.task("two"), api.task("doubt"), api.task("three"));
    assert!(one.url().starts_with(&format!("http://{listen}/veo?team=clips&batchveo=0.")), "{}", one.url());

    // A thousand that know everything but the word of an attempt.
    let word = |task: &Task| task.url().rsplit_once('.').unwrap().1.to_owned();
    let words: Vec<_> = tasks.iter().map(word).collect();
    for forged in 0..1_000 {
        let task = &tasks[forged % tasks.len()];
        let url = match forged % 5 {
            0 => task.url().replace(&word(task), &words[(forged + 1) % words.len()]),
            1 => task.url().replace(&word(task), &format!("{forged:064x}")),
            2 => format!("http://{listen}/veo?team=clips"),
            3 => task.url().replace("batchveo=0.", "batchveo=1."),
            _ => task.url()[..task.url().len() - 1].to_owned(),
        };
        assert_eq!(post(&url, &task.end("failed")), 404, "{url}");
    }
    assert_eq!(send("GET", one.url(), ""), 405);
    let told = std::fs::read_to_string(folder.path("e.ndjson")).unwrap();
    assert!(!told.contains("called_back"), "{told}");

    // Another way to the same address, twice; then the doubt, a failure, and the rest.
    let rewritten = one.url().replace("/veo?team=clips&", "/behind/a/proxy?");
    assert_eq!([post(&rewritten, &one.end("success")), post(one.url(), &one.end("success"))], [200, 200]);
    assert_eq!(post(doubt.url(), &doubt.end("success")), 200);
    assert_eq!(post(two.url(), &two.end("failed")), 200);
    // Somebody who knows the address and names another task, or nothing at all, is not believed.
    assert_eq!([post(three.url(), &two.end("success")), post(three.url(), &"x".repeat(100_000))], [200, 200]);
    for _ in 0..400 {
        if api.books.lock().unwrap().looks > 0 {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(post(three.url(), &three.end("success")), 200);
    assert_eq!(run.wait().unwrap().code(), Some(1), "one failed");

    let rows = folder.results("p.results.csv");
    let seen: Vec<_> = rows.iter().map(|row| [&row["status"], &row["task_id"], &row["attempts"]]).collect();
    let id = |task: &Task| task.id.clone();
    let expected =
        [("succeeded", id(&one)), ("failed", id(&two)), ("succeeded", id(&doubt)), ("succeeded", id(&three))];
    let expected: Vec<_> = expected.map(|(status, task)| [status.to_owned(), task, "1".to_owned()]).into();
    assert_eq!(seen, expected.iter().map(|row| [&row[0], &row[1], &row[2]]).collect::<Vec<_>>());
    let looks = api.books.lock().unwrap().looks;
    assert!((1..=2).contains(&looks), "{looks} looks, for what was odd");
    let summary: Value = serde_json::from_slice(&std::fs::read(folder.path("s.json")).unwrap()).unwrap();
    let counts = &summary["callbacks"];
    let count = |name: &str| counts[name].as_u64().unwrap();
    assert_eq!([count("refused"), count("ended"), count("settled")], [1_000, 3, 1], "{summary}");
    assert_eq!([count("odd"), count("nothing")], [2, 1], "{summary}");
    for word in &words {
        assert_eq!(folder.holds(word), None, "an address is a secret");
    }
}

#[test]
fn what_was_answered_with_a_refusal_and_calls_back_is_taken() {
    let folder = Folder::new();
    folder.write("p.csv", "id,prompt\na,one\nb,refused\n");
    let api = Api::open();
    let listen = free_address();
    let run = folder.command(&line(&api, listen, "--events e.ndjson"), &KEYED).spawn().unwrap();
    api.tasks(2);
    folder.wait_for_text("e.ndjson", r#""event":"accepted","sample":1"#);
    folder.wait_for_text("e.ndjson", r#""event":"retracted","sample":2"#);
    for prompt in ["refused", "one"] {
        let task = api.task(prompt);
        assert_eq!(post(task.url(), &task.end("success")), 200, "{prompt}");
    }
    run.wait_with_output().unwrap();
    let rows = folder.results("p.results.csv");
    let seen: Vec<_> = rows.iter().map(|row| [&row["status"], &row["task_id"], &row["attempts"]]).collect();
    let (one, refused) = (api.task("one").id, api.task("refused").id);
    assert_eq!(seen, [["succeeded", one.as_str(), "1"], ["succeeded", refused.as_str(), "1"]]);
}

#[test]
fn a_callback_after_kill_and_restart_is_honoured() {
    let folder = Folder::new();
    folder.write("p.csv", "id,prompt\na,one\nb,silence\nc,two\n");
    let api = Api::open();
    let listen = free_address();
    let mut first = folder.start(&line(&api, listen, "--events e.ndjson"), &KEYED);
    api.tasks(3);
    for sample in [1, 3] {
        folder.wait_for_text("e.ndjson", &format!(r#""event":"accepted","sample":{sample}"#));
    }
    first.kill();
    let (one, silence, two) = (api.task("one"), api.task("silence"), api.task("two"));
    // A row comes in front meanwhile: the samples are numbered anew.
    folder.write("p.csv", "id,prompt\nz,three\na,one\nb,silence\nc,two\n");
    let again = folder.command(&line(&api, listen, ""), &KEYED).spawn().unwrap();
    wait_until_healthy(listen);
    let three = api.tasks(4).pop().unwrap();
    for task in [&silence, &one, &two, &three] {
        assert_eq!(post(task.url(), &task.end("success")), 200, "{}", task.prompt);
    }
    let ended = again.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let rows = folder.results("p.results.csv");
    let seen: Vec<_> = rows.iter().map(|row| (row["status"].as_str(), row["task_id"].clone())).collect();
    let expected = [&three, &one, &silence, &two].map(|task| ("succeeded", task.id.clone()));
    assert_eq!(seen, expected);
    let books = api.books.lock().unwrap();
    assert_eq!((books.tasks.len(), books.looks), (4, 0), "each bought once, and none looked at");
}

#[test]
fn an_address_alone_is_passed_on_and_a_port_in_use_buys_nothing() {
    let folder = Folder::new();
    folder.write("p.csv", "id,prompt\na,one\n");
    let api = Api::open();
    let base = format!("run p.csv --mode fast --base-url http://{} --progress none", api.address);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    for (rest, words) in [
        (format!("--callback-url http://{listen}/ --callback-listen {listen}"), "Nothing was bought"),
        (format!("--callback-listen {listen}"), "--callback-url"),
        ("--callback-url http://hooks.example/".to_owned(), "write https://"),
        ("--callback-url https://me:hunter2@hooks.example/".to_owned(), "remove it"),
    ] {
        let run = folder.run(&format!("{base} {rest}"), &KEYED);
        assert_eq!(run.code(), Some(2), "{}", run.stderr());
        assert!(run.stderr().contains(words) && !run.stderr().contains("hunter2"), "{}", run.stderr());
        // Nothing is listened at to find that out: a run may be going on there.
        let in_use = words == "Nothing was bought";
        for ahead in ["check p.csv", "run p.csv --dry-run"] {
            let ahead = folder.run(&format!("{ahead} --base-url http://{} {rest}", api.address), &[]);
            assert_eq!(ahead.code(), Some(if in_use { 0 } else { 2 }), "{}", ahead.stderr());
            assert!(in_use || ahead.stderr().contains(words), "{}", ahead.stderr());
        }
    }
    assert!(api.books.lock().unwrap().tasks.is_empty());
    let url = "https://hooks.example/Veo?a";
    let mut run = folder.start(&format!("{base} --callback-url {url}"), &KEYED);
    assert_eq!(api.tasks(1)[0].url(), url);
    run.kill();
}

#[cfg(unix)]
#[test]
fn a_wait_for_doubts_is_told_and_ends_when_asked_to() {
    let folder = Folder::new();
    folder.write("p.csv", "id,prompt\na,doubt\nb,doubt\n");
    let api = Api::open();
    let listen = free_address();
    let told = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap();
    let start = |name: &str, rest: &str| {
        let line = line(&api, listen, rest).replace("--progress none", "--progress plain");
        let log = std::fs::File::create(folder.path(name)).unwrap();
        folder.command(&line, &KEYED).stderr(log).stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let begins = "waiting up to 30 m";
    let waits =
        "for 2 submissions in doubt: a callback may settle them; Ctrl-C ends the wait, the next run goes on";
    for (name, signal, code) in [("first.txt", "-INT", 130), ("second.txt", "-TERM", 143)] {
        let mut run = start(name, "");
        folder.wait_for_text(name, begins);
        let pid = run.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(run.wait().unwrap().code(), Some(code), "{}", told(name));
        let told = told(name);
        assert!(told.contains(waits) && told.contains("buying stopped: interrupted"), "{told}");
        assert!(told.contains("wait on for 2 doubtful samples"), "{told}");
    }
    let mut run = start("third.txt", "--max-duration 1s");
    assert_eq!(run.wait().unwrap().code(), Some(3), "{}", told("third.txt"));
    assert!(told("third.txt").contains(begins), "{}", told("third.txt"));

    // The next run goes on, and a callback settles each; the submissions were made once.
    let mut run = start("last.txt", "");
    folder.wait_for_text("last.txt", begins);
    for task in api.tasks(2) {
        assert_eq!(post(task.url(), &task.end("success")), 200);
    }
    assert_eq!(run.wait().unwrap().code(), Some(0), "{}", told("last.txt"));
    let books = api.books.lock().unwrap();
    assert_eq!((books.tasks.len(), books.looks), (2, 0));
}
