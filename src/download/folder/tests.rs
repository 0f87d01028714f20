use super::*;
use crate::download::place::Origin;

fn place() -> (tempfile::TempDir, Folder) {
    let outer = tempfile::tempdir().unwrap();
    let folder = Folder::open(&outer.path().join("made/here")).unwrap();
    (outer, folder)
}

fn origin(link: &str) -> Origin {
    Origin { link: link.into(), validator: None, total: None }
}

fn content(bytes: &[u8]) -> Content {
    Content { bytes: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
}

#[tokio::test]
async fn a_draft_outlives_its_process_and_becomes_a_file_once() {
    let (_outer, folder) = place();
    let id = DraftId::new("s", "task", 1);
    let mut draft = folder.begin(&id).await.unwrap();
    assert_eq!((draft.have(), draft.origin()), (0, None));
    draft.restart(origin("a")).await.unwrap();
    draft.write(b"half").await.unwrap();
    assert!(matches!(folder.begin(&id).await, Err(PlaceError::InUse { .. })));
    drop(draft);

    let mut draft = folder.begin(&id).await.unwrap();
    assert_eq!((draft.have(), draft.origin()), (4, Some(&origin("a"))));
    assert_eq!(draft.hash().await.unwrap().finalize(), Sha256::digest(b"half"));
    draft.write(b" more").await.unwrap();
    assert_eq!(draft.head(6).await.unwrap(), b"half m");
    assert_eq!(folder.find("x/y/v.mp4", content(b"half more")).await.unwrap(), Found::Nothing);
    draft.finish("x/y/v.mp4").await.unwrap();
    assert_eq!(fs::read(folder.root.join("x/y/v.mp4")).unwrap(), b"half more");
    assert_eq!(fs::read_dir(folder.root.join(DRAFTS)).unwrap().count(), 0, "something is left");
    assert_eq!(folder.find("x/y/v.mp4", content(b"half more")).await.unwrap(), Found::Same);
    assert_eq!(folder.find("x/y/v.mp4", content(b"half mOre")).await.unwrap(), Found::Other);

    // What is there is never replaced, and the draft stays.
    let mut draft = folder.begin(&id).await.unwrap();
    draft.restart(origin("b")).await.unwrap();
    draft.write(b"other").await.unwrap();
    assert!(matches!(draft.finish("x/y/v.mp4").await, Err(PlaceError::Taken { .. })));
    assert_eq!(fs::read(folder.root.join("x/y/v.mp4")).unwrap(), b"half more");
    let draft = folder.begin(&id).await.unwrap();
    assert_eq!(draft.have(), 5);
    draft.abandon().await.unwrap();
    assert_eq!(fs::read_dir(folder.root.join(DRAFTS)).unwrap().count(), 0, "something is left");
}

#[tokio::test]
async fn bytes_of_unknown_origin_are_not_gone_on_with() {
    let (_outer, folder) = place();
    let id = DraftId::new("s", "task", 1);
    let mut draft = folder.begin(&id).await.unwrap();
    draft.restart(origin("a")).await.unwrap();
    draft.write(b"half").await.unwrap();
    fs::remove_file(&draft.noted).unwrap();
    drop(draft);
    assert_eq!(folder.begin(&id).await.unwrap().have(), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn bytes_of_before_a_start_of_the_machine_are_not_gone_on_with() {
    let (_outer, folder) = place();
    let id = DraftId::new("s", "task", 1);
    let mut draft = folder.begin(&id).await.unwrap();
    draft.restart(origin("a")).await.unwrap();
    draft.write(b"half").await.unwrap();
    let json = fs::read_to_string(&draft.noted).unwrap();
    fs::write(&draft.noted, json.replace(&boot().unwrap(), "another")).unwrap();
    drop(draft);
    assert_eq!(folder.begin(&id).await.unwrap().have(), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_read_or_written_through_a_link_beside_a_draft() {
    let (outer, folder) = place();
    let id = DraftId::new("s", "task", 1);
    let mut draft = folder.begin(&id).await.unwrap();
    draft.restart(origin("a")).await.unwrap();
    draft.write(b"half").await.unwrap();
    let (noted, elsewhere) = (draft.noted.clone(), outer.path().join("mine"));
    drop(draft);
    fs::rename(&noted, &elsewhere).unwrap();
    let mine = fs::read(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &noted).unwrap();
    let mut draft = folder.begin(&id).await.unwrap();
    assert_eq!((draft.have(), draft.origin()), (0, None));
    draft.restart(origin("b")).await.unwrap();
    assert_eq!(fs::read(&elsewhere).unwrap(), mine);
    assert!(noted.symlink_metadata().unwrap().is_file());
}

#[tokio::test]
async fn small_files_are_put_once() {
    let (_outer, folder) = place();
    folder.put("a/b.json", Bytes::from_static(b"{}")).await.unwrap();
    folder.put("a/b.json", Bytes::from_static(b"{}")).await.unwrap();
    let other = folder.put("a/b.json", Bytes::from_static(b"[]")).await;
    assert!(matches!(other, Err(PlaceError::Taken { .. })));
    assert_eq!(fs::read(folder.root.join("a/b.json")).unwrap(), b"{}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        let usual = folder.root.join("usual");
        File::create(&usual).unwrap();
        assert_eq!(mode(&folder.root.join("a/b.json")), mode(&usual));
    }
}

#[tokio::test]
async fn nothing_lands_outside() {
    let (outer, folder) = place();
    for path in ["../v.mp4", "/v.mp4", "a/../../v.mp4", "a//v.mp4", "", ".", "a/.", ".batchveo/v.mp4"] {
        let put = folder.put(path, Bytes::from_static(b"x")).await;
        assert!(matches!(put, Err(PlaceError::NoName { .. })), "{path}: {put:?}");
    }
    #[cfg(unix)]
    {
        let elsewhere = outer.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.root.join("out")).unwrap();
        fs::create_dir(folder.root.join("real")).unwrap();
        std::os::unix::fs::symlink(folder.root.join("real"), folder.root.join("in")).unwrap();
        let put = folder.put("out/v.mp4", Bytes::from_static(b"x")).await;
        assert!(matches!(put, Err(PlaceError::Outside { .. })), "{put:?}");
        let put = folder.put("out/deeper/v.mp4", Bytes::from_static(b"x")).await;
        assert!(matches!(put, Err(PlaceError::Outside { .. })), "{put:?}");
        folder.put("in/v.mp4", Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
    drop(outer);
}
