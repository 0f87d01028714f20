//! `check --images` finds out before money is spent what a service would find out after.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "no process is killed here")]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use support::{Folder, Server};

#[test]
fn the_check_and_the_service_see_the_same() {
    let folder = Folder::new();
    let server = Server::start(&folder, "--fetch-images --time-scale 100");
    let images = [
        ("good.png", ""),
        ("good.jpg", ""),
        ("good.webp", ""),
        ("moved.png", ""),
        ("huge.jpg", "IMAGE_TOO_LARGE"),
        ("not-an-image.png", "UNSUPPORTED_FORMAT"),
        ("animation.gif", "UNSUPPORTED_FORMAT"),
        ("private.png", "IMAGE_DOWNLOAD_FAILED"),
        ("missing.png", "IMAGE_DOWNLOAD_FAILED"),
        ("inside.png", "INVALID_IMAGE_URL"),
    ];
    let url = server.url();
    let mut sheet = String::from("id,prompt,type,first_frame\n");
    for (name, _) in images {
        writeln!(sheet, "{name},a harbour,frames,{url}/images/{name}").unwrap();
    }
    // Each is looked at once, however many rows ask for it.
    writeln!(sheet, "again,another harbour,frames,{url}/images/huge.jpg").unwrap();
    folder.write("p.csv", sheet);

    let check = folder.run(&format!("check p.csv --images --base-url {url}"), &[]);
    assert_eq!(check.code(), Some(2), "{}{}", check.stdout(), check.stderr());
    let told = check.stdout();
    assert!(told.contains("p.csv: line 6 and 1 more row, column first_frame: http"), "{told}");
    assert!(
        told.contains("/images/huge.jpg: 10.1 MB, more than 10 MB (IMAGE_TOO_LARGE): make it smaller"),
        "{told}"
    );
    assert!(told.contains("6 of 10 images would fail their tasks."), "{told}");
    let json = folder.run(&format!("check p.csv --images --json --base-url {url}"), &[]);
    let plan: serde_json::Value = serde_json::from_str(&json.stdout()).unwrap();
    let problems = plan["images"]["problems"].as_array().unwrap();
    let found: BTreeMap<_, _> = problems
        .iter()
        .map(|problem| {
            let name = problem["address"].as_str().unwrap().rsplit('/').next().unwrap();
            (name.to_owned(), problem["code"].as_str().unwrap().to_owned())
        })
        .collect();
    let wanted = images.into_iter().filter(|(_, code)| !code.is_empty());
    assert_eq!(found, wanted.map(|(name, code)| (name.to_owned(), code.to_owned())).collect());
    assert_eq!(server.judge()["requests"], 0, "nothing was asked of the API");

    let run = format!("run p.csv --yes --paid-retries 0 --time-scale 100 --base-url {url}");
    let run = folder.run(&run, &[("BATCHVEO_API_KEY", "any")]);
    assert_eq!(run.code(), Some(1), "{}", run.stderr());
    for row in folder.results("p.results.csv") {
        let code =
            images.iter().find(|(name, _)| *name == row["id"]).map_or("IMAGE_TOO_LARGE", |(_, code)| code);
        assert_eq!(row["error_code"], code, "{row:?}");
        assert_eq!(row["status"], if code.is_empty() { "succeeded" } else { "failed" }, "{row:?}");
    }
}

#[test]
fn private_addresses_are_not_called() {
    let folder = Folder::new();
    let server = Server::start(&folder, "");
    let url = server.url();
    folder.write("p.csv", format!("prompt,type,image_urls\na,frames,{url}/images/good.png\n"));
    let refused = folder.run("check p.csv --images", &[]);
    assert_eq!(refused.code(), Some(2), "{}", refused.stderr());
    let told = refused.stdout();
    assert!(
        told.contains("127.0.0.1 is this machine itself") && told.contains("--allow-private-hosts"),
        "{told}"
    );
    let allowed = folder.run("check p.csv --images --allow-private-hosts", &[]);
    assert_eq!(allowed.code(), Some(0), "{}", allowed.stdout());
    assert!(allowed.stdout().contains("1 image looked at: the API will take them."), "{}", allowed.stdout());
}
