use super::*;
use std::fs;

/// A user's folder and a sheet's, and the variables around them.
struct World {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

const USER: &str = "\
rpm = 6
concurrency = 11
base-url = 'https://user.example'

[account.acme]
api-key-file = 'acme.key'
base-url = 'https://acme.example'
rpm = 2

[account.keyless]
rpm = 3
";

impl World {
    fn new(user: &str, project: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config/batchveo");
        fs::create_dir_all(&config).unwrap();
        fs::create_dir(folder.path().join("sheet")).unwrap();
        fs::write(config.join(FILE), user).unwrap();
        fs::write(folder.path().join("sheet").join(FILE), project).unwrap();
        let variables = vec![("XDG_CONFIG_HOME", folder.path().join("config").display().to_string())];
        Self { folder, variables }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn given(&self, account: Option<&str>) -> Given {
        let sheet = Some(self.folder.path().join("sheet/prompts.csv"));
        Given { account: account.map(Into::into), sheet, ..Given::default() }
    }

    fn resolve(&self, given: &Given) -> Result<Settings, String> {
        let environment = |name: &str| {
            self.variables.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        };
        let keys = Keys::of(&crate::cli::command());
        let shown = self.folder.path().display().to_string();
        resolve(&keys, given, &environment).map_err(|error| error.to_string().replace(&shown, "F"))
    }

    /// The value of each name, and who set it.
    fn holds(&self, account: Option<&str>, names: &[&str]) -> Vec<String> {
        let settings = self.resolve(&self.given(account)).unwrap();
        let shown = self.folder.path().display().to_string();
        let told = |name: &&str| {
            settings.values.get(*name).map_or(format!("{name}: unset"), |setting| {
                format!("{name}: {} ({})", setting.words.join(" "), setting.origin).replace(&shown, "F")
            })
        };
        let mut told: Vec<_> = names.iter().map(told).collect();
        told.extend(settings.key.map(|variable| format!("key: {variable}")));
        told
    }
}

#[test]
fn the_environment_is_stronger_than_the_sheets_folder_and_that_than_the_users() {
    let names = ["rpm", "concurrency"];
    let world = World::new(USER, "rpm = 5\n");
    let user = "F/config/batchveo/batchveo.toml";
    assert_eq!(
        world.holds(None, &names),
        ["rpm: 5 (F/sheet/batchveo.toml:1)".to_owned(), format!("concurrency: 11 ({user}:2)")]
    );
    let world = world.with("BATCHVEO_RPM", "7").with("BATCHVEO_CONCURRENCY", " ");
    assert_eq!(
        world.holds(None, &names),
        ["rpm: 7 (environment BATCHVEO_RPM)".to_owned(), format!("concurrency: 11 ({user}:2)")]
    );
    let given = Given { no_config: true, ..world.given(None) };
    let settings = world.resolve(&given).unwrap();
    assert_eq!(settings.values.keys().collect::<Vec<_>>(), ["rpm"]);
}

#[test]
fn an_account_is_as_strong_as_its_choice() {
    let user = "F/config/batchveo/batchveo.toml";
    let acme = format!("rpm: 2 (account acme, {user}:8)");
    let chosen = World::new(USER, "rpm = 5\n").with("BATCHVEO_RPM", "7");
    assert_eq!(chosen.holds(Some("acme"), &["rpm"]), [acme.as_str()]);
    let chosen = chosen.with("BATCHVEO_ACCOUNT", "acme");
    assert_eq!(chosen.holds(None, &["rpm"]), [acme.as_str()]);
    assert_eq!(World::new(USER, "account = 'acme'\n").holds(None, &["rpm"]), [acme]);
    let weaker = World::new(USER, "account = 'acme'\nrpm = 1\n");
    assert_eq!(weaker.holds(None, &["rpm"]), ["rpm: 1 (F/sheet/batchveo.toml:2)"]);
    let weaker =
        World::new(&USER.replace("[account.acme]", "[account]\ndefault='keyless'\n[account.acme]"), "");
    assert_eq!(weaker.holds(None, &["rpm"]), [format!("rpm: 3 (account keyless, {user}:13)")]);
}

#[test]
fn a_key_and_its_address_come_from_one_place() {
    let names = ["api-key-file", "base-url", "account"];
    let user = "F/config/batchveo/batchveo.toml";
    let acme = [
        format!("api-key-file: F/config/batchveo/acme.key (account acme, {user}:6)"),
        format!("base-url: https://acme.example (account acme, {user}:7)"),
    ];
    let by_option = World::new(USER, "")
        .with("BATCHVEO_API_KEY", "secret")
        .with("BATCHVEO_BASE_URL", "https://env.example");
    assert_eq!(by_option.holds(Some("acme"), &names[..2]), acme);
    // A file alone chose it: the key of the environment does not go to its address.
    let by_file = World::new(USER, "account = 'acme'").with("APIXO_API_KEY", "secret");
    assert_eq!(
        by_file.holds(None, &names),
        [
            "api-key-file: unset".to_owned(),
            format!("base-url: https://user.example ({user}:3)"),
            "account: unset".into(),
            "key: APIXO_API_KEY".into()
        ]
    );
    let aside = by_file.resolve(&by_file.given(None)).unwrap().aside.unwrap();
    assert_eq!(aside.words, ["acme"]);
    let without_key = World::new(USER, "account = 'keyless'").with("BATCHVEO_API_KEY", "secret");
    assert_eq!(
        without_key.holds(None, &names[2..]),
        ["account: keyless (F/sheet/batchveo.toml:1)", "key: BATCHVEO_API_KEY"]
    );
    let plain = World::new("api-key-file = 'mine'", "");
    assert_eq!(plain.holds(None, &names[..1]), [format!("api-key-file: F/config/batchveo/mine ({user}:1)")]);
    let plain = plain.with("BATCHVEO_API_KEY", "secret");
    assert_eq!(plain.holds(None, &names[..1]), ["api-key-file: unset", "key: BATCHVEO_API_KEY"]);
    let plain = plain.with("BATCHVEO_API_KEY_FILE", "theirs");
    assert_eq!(plain.holds(None, &names[..1]), ["api-key-file: theirs (environment BATCHVEO_API_KEY_FILE)"]);
}

#[test]
fn an_accounts_key_goes_to_its_address_or_the_vendors() {
    let user = "base-url = 'https://user.example'\n[account.acme]\napi-key-file = 'acme.key'\n";
    let address = "base-url: https://api.apixo.ai (account acme, F/config/batchveo/batchveo.toml:3)";
    let by_project = World::new(user, "account = 'acme'\n");
    assert_eq!(by_project.holds(None, &["base-url"]), [address]);
    let by_project = by_project.with("BATCHVEO_BASE_URL", "https://env.example");
    assert_eq!(by_project.holds(None, &["base-url"]), [address]);
    assert_eq!(
        World::new(user, "").with("APIXO_BASE_URL", "https://env.example").holds(Some("acme"), &["base-url"]),
        [address]
    );
    let own = World::new(USER, "account = 'acme'\n").with("BATCHVEO_BASE_URL", "https://env.example");
    assert!(own.holds(None, &["base-url"])[0].starts_with("base-url: https://acme.example (account acme"));
    // A key file that a variable names is the environment's key too.
    let aside = World::new(USER, "account = 'acme'\n").with("BATCHVEO_API_KEY_FILE", "theirs");
    let held = aside.holds(None, &["api-key-file", "base-url"]);
    assert_eq!(held[0], "api-key-file: theirs (environment BATCHVEO_API_KEY_FILE)");
    assert!(held[1].starts_with("base-url: https://user.example ("), "{held:?}");
}

#[test]
fn the_environments_key_goes_to_an_accounts_address_only_by_hand() {
    let user = "[account.acme]\nbase-url = 'https://acme.example'\n";
    for (variable, value) in [("BATCHVEO_API_KEY", "secret"), ("BATCHVEO_API_KEY_FILE", "theirs")] {
        let world = World::new(user, "account = 'acme'\n").with(variable, value);
        let told = world.resolve(&world.given(None)).unwrap_err();
        assert!(told.starts_with("F/config/batchveo/batchveo.toml:2: account acme has an address"), "{told}");
        assert!(told.contains(&format!("{variable} would go to https://acme.example")), "{told}");
        assert!(world.holds(Some("acme"), &["base-url"])[0].contains("acme.example"));
        let elsewhere = world.with("BATCHVEO_BASE_URL", "https://env.example");
        assert!(elsewhere.holds(None, &["base-url"])[0].contains("env.example"));
    }
    let keyless = World::new(user, "account = 'acme'\n");
    assert!(keyless.holds(None, &["base-url"])[0].contains("acme.example"));
}

#[test]
fn what_is_wrong_says_where() {
    let error = |world: &World, account| world.resolve(&world.given(account)).unwrap_err();
    let world = World::new(USER, "");
    assert_eq!(error(&world, Some("amce")), "--account: there is no account `amce`: did you mean `acme`?");
    assert_eq!(
        error(&world, Some("zzz")),
        "--account: there is no account `zzz`: F/config/batchveo/batchveo.toml has acme, keyless"
    );
    let world = World::new("", "account = 'zzz'\n");
    assert_eq!(
        error(&world, None),
        "F/sheet/batchveo.toml:1: there is no account `zzz`: write [account.zzz] into F/config/batchveo/batchveo.toml"
    );
    let world = World::new(USER, "account = ''\n");
    assert_eq!(error(&world, None), "F/sheet/batchveo.toml:1: an account has a name, and this is none");
    let world = World::new("", "").with("BATCHVEO_RPM", "many");
    assert!(error(&world, None).starts_with("BATCHVEO_RPM: invalid digit"), "{}", error(&world, None));
    let world = World::new("rpm = 0", "colour = 1");
    assert_eq!(error(&world, None).lines().count(), 2);
    let absent = Given { config: Some("absent.toml".into()), ..Given::default() };
    assert_eq!(world.resolve(&absent).unwrap_err(), "absent.toml: there is no such configuration");
}

#[test]
fn another_file_takes_the_place_of_the_users() {
    let world = World::new("rpm = 1", "");
    let other = world.folder.path().join("other.toml");
    fs::write(&other, "rpm = 2").unwrap();
    let words = |world: &World, given: &Given| world.resolve(given).unwrap().values["rpm"].words.concat();
    let by_option = Given { config: Some(other.clone()), ..world.given(None) };
    assert_eq!(words(&world, &by_option), "2");
    let world = world.with("BATCHVEO_CONFIG", &other.display().to_string());
    assert_eq!(words(&world, &world.given(None)), "2");
}

#[test]
fn in_the_users_own_folder_a_file_is_read_once_and_as_the_users() {
    let world = World::new("yes = true", "");
    let sheet = Some(world.folder.path().join("config/batchveo/prompts.csv"));
    let settings = world.resolve(&Given { sheet, ..Given::default() }).unwrap();
    assert_eq!((settings.project, settings.values["yes"].words.concat()), (None, "true".into()));
}

#[test]
fn a_sheets_folder_lowers_the_users_bounds_and_raises_none() {
    let user = "max-cost = 50\nmax-failures = '5%'\nshare = '50%'\n[account.acme]\nmax-cost = 20\n";
    let names = ["max-cost", "max-failures", "share", "rpm", "concurrency", "paid-retries"];
    let lower =
        "max-cost = 5\nmax-failures = '1%'\nshare = '10%'\nrpm = 9\nconcurrency = 8\npaid-retries = 0\n";
    let higher = "max-cost = 1e9\nmax-failures = 9\nshare = '100%'\nrpm = 10001\nconcurrency = 1001\npaid-retries = 50\n";
    let mine = "F/config/batchveo/batchveo.toml";
    let unset = ["rpm: unset", "concurrency: unset", "paid-retries: unset"].map(str::to_owned);
    let of_user = [
        format!("max-cost: 50 ({mine}:1)"),
        format!("max-failures: 5% ({mine}:2)"),
        format!("share: 50% ({mine}:3)"),
    ];
    let world = World::new(user, higher);
    assert_eq!(world.holds(None, &names), [of_user, unset].concat());
    let refused = world.resolve(&world.given(None)).unwrap().refused;
    assert_eq!(refused.len(), names.len());
    assert_eq!(World::new(user, lower).holds(None, &names)[5], "paid-retries: 0 (F/sheet/batchveo.toml:6)");
    for held in World::new(user, lower).holds(None, &names) {
        assert!(held.contains("F/sheet/batchveo.toml"), "{held}");
    }
    let of_account = World::new(user, "account = 'acme'\nmax-cost = 30\n");
    assert_eq!(of_account.holds(None, &names[..1]), [format!("max-cost: 20 (account acme, {mine}:5)")]);
    // Where the user bounds nothing, the folder may.
    assert_eq!(
        World::new("", higher).holds(None, &names[..1]),
        ["max-cost: 1000000000 (F/sheet/batchveo.toml:1)"]
    );
}
