use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Redirect;
use axum::routing::get;

use super::*;

#[test]
fn what_is_not_of_the_public_internet() {
    use Special::{LinkLocal, Loopback, Metadata, Multicast, Private, Reserved, Shared, Unspecified};
    for (addresses, special) in [
        ("127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1", Loopback),
        ("2002:7f00:1:: ::127.0.0.1", Loopback),
        ("169.254.0.1 169.254.255.255 fe80::1 febf::1 ::ffff:169.254.1.1", LinkLocal),
        ("10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255", Private),
        ("fc00::1 fdff::1 fec0::1 feff::1 ::ffff:10.0.0.1 64:ff9b::192.168.1.1 2002:a00:1::", Private),
        ("100.64.0.0 100.127.255.255 ::ffff:100.64.0.1", Shared),
        ("224.0.0.1 239.255.255.255 ff02::1 ffff::", Multicast),
        ("0.0.0.0 :: ::ffff:0.0.0.0 64:ff9b::", Unspecified),
        ("169.254.169.254 169.254.170.2 169.254.169.253 192.0.0.192 100.100.100.200", Metadata),
        ("168.63.129.16 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 ::ffff:169.254.169.254", Metadata),
        ("64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1", Metadata),
        ("0.0.0.1 0.255.255.255 192.0.0.1 192.0.2.1 192.88.99.1 198.18.0.0 198.19.255.255", Reserved),
        ("198.51.100.1 203.0.113.1 240.0.0.0 255.255.255.255", Reserved),
        ("::8.8.8.8 64:ff9b:1::1 100::1 2001::1 2001:1ff::1 2001:db8::1 3fff::1 5f00::1 4000::1", Reserved),
    ] {
        for address in addresses.split(' ') {
            assert_eq!(Special::of(address.parse().unwrap()), Some(special), "{address}");
        }
    }
    let ordinary = "1.0.0.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
                    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.0 \
                    192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.101.0 203.0.114.0 \
                    223.255.255.255 2000::1 2001:200::1 2001:4860:4860::8888 2606:4700::1111 3ffe::1 \
                    3fff:1000::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1";
    for address in ordinary.split_whitespace() {
        assert_eq!(Special::of(address.parse().unwrap()), None, "{address}");
    }
}

fn check(hosts: &Hosts, url: &str) -> Result<(), HostRefused> {
    hosts.check(&url.parse().unwrap())
}

#[test]
fn addresses_in_a_url_are_judged_in_any_spelling() {
    let hosts = Hosts::new(Some(&BaseUrl::default_vendor()), false);
    for url in
        ["https://cdn.example/a.mp4", "http://cdn.example:8080/a", "http://8.8.8.8/", "http://[2606::1]/"]
    {
        assert_eq!(check(&hosts, url), Ok(()), "{url}");
    }
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://0/",
        "http://[::1]/",
        "http://[::ffff:7f00:1]/",
        "http://127.0.0.1./",
        "http://①②⑦.0.0.1/",
        "http://user:word@10.1.2.3:80/a",
        "https://169.254.169.254/latest/meta-data/",
    ] {
        assert!(matches!(check(&hosts, url), Err(HostRefused::Special { .. })), "{url}");
    }
    assert_eq!(check(&hosts, "ftp://cdn.example/"), Err(HostRefused::Scheme("ftp".into())));
    assert_eq!(check(&hosts, "file:///etc/passwd"), Err(HostRefused::Scheme("file".into())));
    assert_eq!(check(&hosts, "data:text/plain,a"), Err(HostRefused::Scheme("data".into())));
    assert_eq!(
        check(&hosts, "http://10.0.0.1/a").unwrap_err().to_string(),
        "the host `10.0.0.1` is not called: 10.0.0.1 is a private address; if it is yours and meant, \
         --allow-private-hosts"
    );
}

#[test]
fn what_a_person_named_is_allowed() {
    let local: BaseUrl = "http://127.0.0.1:8787".parse().unwrap();
    let company: BaseUrl = "https://10.0.0.5/veo".parse().unwrap();
    let (nobody, local) = (Hosts::new(None, false), Hosts::new(Some(&local), false));
    let (company, all) = (Hosts::new(Some(&company), false), Hosts::new(None, true));
    for (url, allowed) in [
        ("http://127.0.0.1:1/", [false, true, false, true]),
        ("http://[::1]/", [false, true, false, true]),
        ("http://10.0.0.5:99/", [false, false, true, true]),
        ("http://10.0.0.6/", [false, false, false, true]),
        ("http://169.254.169.254/", [false, false, false, true]),
        ("gopher://10.0.0.5/", [false; 4]),
    ] {
        let answers = [&nobody, &local, &company, &all].map(|hosts| check(hosts, url).is_ok());
        assert_eq!(answers, allowed, "{url}");
    }
}

#[test]
fn this_machine_alone_is_no_other() {
    let hosts = Hosts::of_this_machine();
    for url in ["http://127.0.0.1:9/", "http://[::1]/", "https://127.8.8.8/"] {
        assert_eq!(check(&hosts, url), Ok(()), "{url}");
    }
    for url in ["https://93.184.215.14/", "http://[2606:4700::1111]/"] {
        assert!(matches!(check(&hosts, url), Err(HostRefused::Elsewhere { .. })), "{url}");
    }
    for url in ["http://10.0.0.1/", "http://169.254.169.254/", "http://0.0.0.0/"] {
        assert!(matches!(check(&hosts, url), Err(HostRefused::Special { .. })), "{url}");
    }
}

#[tokio::test]
async fn a_messenger_takes_a_redirect_for_the_answer() {
    let port = host_here().await;
    let client = Hosts::of_this_machine().messenger(Patience::default()).unwrap();
    let moved = format!("http://localhost:{port}/moved").parse().unwrap();
    assert_eq!(client.get(moved).unwrap().send().await.unwrap().status(), StatusCode::TEMPORARY_REDIRECT);
    let here = format!("http://localhost:{port}/here").parse().unwrap();
    assert_eq!(client.post(here).unwrap().send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn hops_are_judged_and_counted() {
    let hosts = Hosts::new(Some(&"http://localhost:1".parse().unwrap()), false);
    let hop = |previous: &[&str], next: &str| {
        let previous: Vec<Url> = previous.iter().map(|url| url.parse().unwrap()).collect();
        hosts.hop(&previous, &next.parse().unwrap())
    };
    let (secure, plain) = ("https://a.example/", "http://a.example/");
    assert_eq!(hop(&[secure], "https://b.example/"), Ok(()));
    assert_eq!(hop(&[plain], secure), Ok(()));
    assert_eq!(hop(&[plain], "http://b.example/"), Ok(()));
    assert_eq!(hop(&[secure], "http://127.0.0.1/"), Ok(()));
    assert_eq!(hop(&[secure], plain), Err(HostRefused::Downgrade("a.example".into())));
    assert_eq!(hop(&[plain, secure], plain), Err(HostRefused::Downgrade("a.example".into())));
    assert!(matches!(hop(&[secure], "https://10.0.0.1/"), Err(HostRefused::Special { .. })));
    assert_eq!(hop(&[plain; MOST_REDIRECTS], plain), Ok(()));
    assert_eq!(hop(&[plain; MOST_REDIRECTS + 1], plain), Err(HostRefused::Redirects));
}

/// A host on this machine; answers its port.
async fn host_here() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let routes = Router::new()
        .route("/here", get(|headers: HeaderMap| async move { tell(&headers) }))
        .route("/moved", get(|| async { Redirect::temporary("/here") }))
        .route("/round", get(|| async { Redirect::temporary("/round") }))
        .route("/inside", get(|| async { Redirect::temporary("http://10.0.0.1/secret") }))
        .route("/elsewhere", get(|| async { Redirect::temporary("gopher://files.example/") }));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    port
}

fn tell(headers: &HeaderMap) -> (StatusCode, String) {
    let secret = [header::AUTHORIZATION, header::COOKIE, header::REFERER];
    let sent = secret.iter().filter(|name| headers.contains_key(*name)).count();
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    (StatusCode::OK, format!("{sent} {}", agent.unwrap_or_default()))
}

async fn call(hosts: &Hosts, url: &str) -> Result<String, HostRefused> {
    let client = hosts.client(Patience::default()).unwrap();
    match client.get(url.parse().unwrap())?.send().await {
        Ok(answer) => Ok(answer.text().await.unwrap()),
        Err(error) => Err(HostRefused::within(&error).unwrap_or_else(|| panic!("{error:?}")).clone()),
    }
}

#[tokio::test]
async fn what_a_name_resolves_to_is_judged_when_it_is_called() {
    let port = host_here().await;
    let (nobody, local) = (Hosts::new(None, false), format!("http://localhost:{port}"));
    assert_eq!(check(&nobody, &local), Ok(()), "a name alone says nothing");
    match call(&nobody, &format!("{local}/here")).await {
        Err(HostRefused::Special { host, address, special: Special::Loopback }) => {
            assert!(host == "localhost" && address.is_loopback(), "{host} {address}");
        }
        other => panic!("{other:?}"),
    }
    let hosts = Hosts::new(Some(&local.parse().unwrap()), false);
    let told = format!("0 batchveo/{}", env!("CARGO_PKG_VERSION"));
    for path in ["here", "moved"] {
        assert_eq!(call(&hosts, &format!("{local}/{path}")).await, Ok(told.clone()), "{path}");
    }
    assert_eq!(call(&hosts, &format!("{local}/round")).await, Err(HostRefused::Redirects));
    let inside = call(&hosts, &format!("{local}/inside")).await;
    assert!(matches!(&inside, Err(HostRefused::Special { host, .. }) if host == "10.0.0.1"), "{inside:?}");
    assert_eq!(call(&hosts, &format!("{local}/elsewhere")).await, Err(HostRefused::Scheme("gopher".into())));
}
