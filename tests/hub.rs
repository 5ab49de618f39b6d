//! Downloads from a hub, against a server on the loopback interface.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use wginfer::Error;
use wginfer::weights::download::{Hub, Progress};
use wginfer::weights::hub::{HubCache, RepoId, resolve_in};
use wginfer::weights::{FileWeights, Weights};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request as the server saw it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    method: String,
    path: String,
    range: Option<String>,
    token: Option<String>,
}

/// What the server holds, and how it misbehaves.
#[derive(Default)]
struct Site {
    /// Files of `org/name`; those ending in .safetensors are stored as large files.
    files: BTreeMap<String, Vec<u8>>,
    /// Large files are served by this other server, after a redirect.
    storage: Option<String>,
    /// The next body is cut after this many bytes.
    cut: Option<usize>,
    /// Ranges are ignored: the whole file is sent.
    ignores_ranges: bool,
    /// The stated checksum of large files, if not the true one.
    checksum: Option<String>,
    /// Answers all requests with this status.
    status: Option<u16>,
    /// The etag of small files, if not the usual one.
    etag: Option<String>,
}

struct Server {
    address: String,
    site: Arc<Mutex<Site>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn start(site: Site) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { address, site: Arc::new(Mutex::new(site)), seen: Arc::default() };
        let (site, seen) = (server.site.clone(), server.seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (site, seen) = (site.clone(), seen.clone());
                std::thread::spawn(move || {
                    // A client that goes away is not this server's problem.
                    let _ = answer(stream.unwrap(), &site, &seen);
                });
            }
        });
        server
    }

    fn of_files(files: &[(&str, Vec<u8>)]) -> Self {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        Self::start(Site { files, ..Site::default() })
    }

    fn change(&self, change: impl FnOnce(&mut Site)) {
        change(&mut self.site.lock().unwrap());
    }

    /// The requests since the last call.
    fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(stream: TcpStream, site: &Mutex<Site>, seen: &Mutex<Vec<Seen>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let (range, token) = (headers.get("range").cloned(), headers.get("authorization").cloned());
    let request = Seen { method, path, range, token };
    seen.lock().unwrap().push(request.clone());
    respond(stream, &request, &mut site.lock().unwrap())
}

fn respond(mut stream: TcpStream, request: &Seen, site: &mut Site) -> std::io::Result<()> {
    let status = |stream: &mut TcpStream, status: u16| {
        write!(stream, "HTTP/1.1 {status} Nope\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    if let Some(code) = site.status {
        return status(&mut stream, code);
    }
    if request.path == "/api/models/org/name/revision/main" {
        let names: Vec<_> = site.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let text = serde_json::json!({ "sha": COMMIT, "siblings": names }).to_string();
        let length = text.len();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        );
    }
    let name = request.path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"));
    let Some(bytes) = name.and_then(|name| site.files.get(name)) else { return status(&mut stream, 404) };
    let is_large = request.path.ends_with(".safetensors");
    let mut head = "Connection: close\r\n".to_owned();
    if is_large {
        let checksum = site.checksum.clone().unwrap_or_else(|| sha256(bytes));
        head += &format!("X-Linked-Etag: \"{checksum}\"\r\nX-Linked-Size: {}\r\n", bytes.len());
    } else {
        let etag = site.etag.clone().unwrap_or_else(|| sha256(bytes)[..40].to_owned());
        head += &format!("ETag: W/\"{etag}\"\r\n");
    }
    if let Some(storage) = site.storage.as_ref().filter(|_| is_large) {
        let location = format!("{storage}{}", request.path);
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\n{head}Location: {location}\r\nContent-Length: 0\r\n\r\n"
        );
    }
    let start = request.range.as_ref().filter(|_| !site.ignores_ranges);
    let start: usize =
        start.map_or(0, |range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
    let body = &bytes[start..];
    let code = if start > 0 { "206 Partial" } else { "200 OK" };
    if start > 0 {
        head += &format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
    }
    write!(stream, "HTTP/1.1 {code}\r\n{head}Content-Length: {}\r\n\r\n", body.len())?;
    if request.method == "GET" {
        let cut = site.cut.take_if(|_| is_large).unwrap_or(body.len());
        stream.write_all(&body[..cut.min(body.len())])?;
    }
    Ok(())
}

/// A safetensors file with one tensor of u8.
fn weights(name: &str, bytes: usize) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend((0..bytes).map(|i| (i % 251) as u8));
    file
}

fn model() -> Server {
    Server::of_files(&[
        ("README.md", b"not needed".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"a\":1}".to_vec()),
        ("model.safetensors", weights("a", 500_000)),
    ])
}

fn repo() -> RepoId {
    RepoId::parse("org/name").unwrap()
}

fn hub(server: &Server, folder: &Path) -> Hub {
    Hub::new(&server.address, HubCache::at(folder), Some("secret".to_owned())).unwrap().with_attempts(1)
}

fn fetch(hub: &Hub) -> wginfer::Result<std::path::PathBuf> {
    hub.fetch(&repo(), &mut |_| ControlFlow::Continue(()))
}

fn assert_fails(hub: &Hub, parts: &[&str]) {
    let text = fetch(hub).unwrap_err().to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text:?} lacks one of {parts:?}");
}

#[test]
fn a_model_is_downloaded_once_in_the_hubs_layout() {
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    let hub = hub(&server, cache.path());
    let mut progress = Vec::new();
    let mut note = |p: Progress<'_>| {
        progress.push((p.file.to_owned(), p.done, p.total));
        ControlFlow::Continue(())
    };
    let folder = hub.fetch(&repo(), &mut note).unwrap();
    let total = 2 + 7 + weights("a", 500_000).len() as u64;
    assert_eq!(progress.last().unwrap(), &("model.safetensors".to_owned(), total, total));
    assert!(progress.is_sorted_by_key(|(_, done, _)| *done) && progress.iter().all(|p| p.2 == total));
    assert_eq!(FileWeights::open(&folder).unwrap().names(), ["a"]);
    let base = cache.path().join("models--org--name");
    assert_eq!(folder, base.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(base.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(fs::read_to_string(folder.join("tokenizer.json")).unwrap(), "{\"a\":1}");
    assert!(!folder.join("README.md").exists());
    #[cfg(unix)]
    {
        let blob = format!("../../blobs/{}", sha256(&weights("a", 500_000)));
        assert_eq!(fs::read_link(folder.join("model.safetensors")).unwrap(), Path::new(&blob));
    }
    assert!(server.take_seen().iter().all(|seen| seen.token.as_deref() == Some("Bearer secret")));
    assert_eq!(fetch(&hub).unwrap(), folder);
    assert_eq!(fetch(&hub.with_offline(true)).unwrap(), folder);
    assert_eq!(resolve_in(&HubCache::at(cache.path()), "org/name").unwrap(), folder);
    assert_eq!(server.take_seen(), [], "a cached model needs no request");
}

#[test]
fn sharded_models_are_downloaded_with_their_index() {
    let index = br#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#.to_vec();
    let server = Server::of_files(&[
        ("config.json", b"{}".to_vec()),
        ("model.safetensors.index.json", index),
        ("1.safetensors", weights("a", 10)),
        ("2.safetensors", weights("b", 20)),
        ("3.safetensors", weights("c", 30)),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let folder = fetch(&hub(&server, cache.path())).unwrap();
    assert_eq!(FileWeights::open(&folder).unwrap().names(), ["a", "b"]);
    assert!(!folder.join("3.safetensors").exists());
}

#[test]
fn hostile_and_incomplete_repositories_are_refused() {
    let index = |shard: &str| format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#).into_bytes();
    let refused = |files: &[(&str, Vec<u8>)], parts: &[&str]| {
        let (server, cache) = (Server::of_files(files), tempfile::tempdir().unwrap());
        assert_fails(&hub(&server, cache.path()), parts);
        assert!(!cache.path().join("models--org--name/refs/main").exists());
    };
    let named = "model.safetensors.index.json";
    refused(&[(named, index("../../../x.safetensors"))], &["leaves the model's folder"]);
    refused(&[(named, index("5.safetensors"))], &["names missing shards: 5.safetensors"]);
    refused(&[("pytorch_model.bin", vec![1])], &["pytorch_model.bin", "pickle", "save_file"]);
    refused(&[("config.json", vec![1])], &["neither model.safetensors nor"]);
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    server.change(|site| site.etag = Some("../../../evil".to_owned()));
    assert_fails(&hub(&server, cache.path()), &["config.json", "etag is \"../../../evil\""]);
}

#[test]
fn a_cut_connection_is_resumed_where_it_ended() {
    let whole = weights("a", 500_000);
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    let incomplete = cache.path().join(format!("models--org--name/blobs/{}.incomplete", sha256(&whole)));
    server.change(|site| site.cut = Some(300_000));
    let once = hub(&server, cache.path());
    assert_fails(&once, &["/model.safetensors: "]);
    let there = fs::metadata(&incomplete).unwrap().len();
    assert!((1..=300_000).contains(&there), "{there}");
    server.take_seen();
    let folder = fetch(&once).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), whole);
    assert!(!incomplete.exists());
    let ranges: Vec<String> = server.take_seen().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges, [format!("bytes={there}-")]);
}

#[test]
fn another_attempt_follows_within_a_call() {
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    server.change(|site| site.cut = Some(100_000));
    let folder = fetch(&hub(&server, cache.path()).with_attempts(2)).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights("a", 500_000));
}

#[test]
fn a_server_without_ranges_starts_again() {
    let whole = weights("a", 500_000);
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    let blobs = cache.path().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let incomplete = blobs.join(format!("{}.incomplete", sha256(&whole)));
    fs::write(&incomplete, &whole[..1000]).unwrap();
    server.change(|site| site.ignores_ranges = true);
    let folder = fetch(&hub(&server, cache.path())).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), whole);
}

#[test]
fn a_wrong_checksum_is_an_error_and_keeps_what_was_good() {
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    let hub = hub(&server, cache.path());
    let folder = fetch(&hub).unwrap();
    let wrong = "a".repeat(64);
    server.change(|site| {
        site.files.insert("model.safetensors".to_owned(), weights("b", 1000));
        site.checksum = Some(wrong.clone());
    });
    let refresh = hub.refresh(&repo(), &mut |_| ControlFlow::Continue(()));
    let text = refresh.unwrap_err().to_string();
    let got = sha256(&weights("b", 1000));
    assert!(text.contains(&format!("sha256 is {got}, expected {wrong}")), "{text}");
    assert_eq!(FileWeights::open(&folder).unwrap().names(), ["a"], "the model from before is intact");
    let blobs = fs::read_dir(cache.path().join("models--org--name/blobs")).unwrap();
    let names: Vec<String> = blobs.map(|blob| blob.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.starts_with(&wrong)), "{names:?}");
}

#[test]
fn a_spoilt_incomplete_file_is_noticed_and_fetched_anew() {
    let whole = weights("a", 500_000);
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    let blobs = cache.path().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(&whole))), vec![9; 1000]).unwrap();
    let hub = hub(&server, cache.path());
    assert_fails(&hub, &["sha256 is", &sha256(&whole)]);
    assert_eq!(fs::read(fetch(&hub).unwrap().join("model.safetensors")).unwrap(), whole);
}

#[test]
fn refusals_of_the_hub_are_explained() {
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    let with_token = hub(&server, cache.path());
    let without = Hub::new(&server.address, HubCache::at(cache.path()), None).unwrap().with_attempts(1);
    server.change(|site| site.status = Some(401));
    assert_fails(
        &with_token,
        &["/api/models/org/name/revision/main", "401", "private or gated", "token that was sent"],
    );
    assert_fails(&without, &["401", "no token was sent", "HF_TOKEN"]);
    server.change(|site| site.status = Some(404));
    assert_fails(&without, &["404", "no such repository, revision or file"]);
    server.change(|site| site.status = Some(500));
    assert_fails(&without, &["status 500"]);
    let nobody = Hub::new("http://127.0.0.1:9", HubCache::at(cache.path()), None).unwrap();
    assert_fails(&nobody, &["http://127.0.0.1:9/api/models/org/name"]);
    for endpoint in ["", "ftp://x", "nonsense", "http://x?y"] {
        let text = Hub::new(endpoint, HubCache::at(cache.path()), None).unwrap_err().to_string();
        assert!(text.contains("HF_ENDPOINT"), "{endpoint}: {text}");
    }
}

#[test]
fn the_token_goes_to_the_hub_only() {
    let (server, storage, cache) = (model(), model(), tempfile::tempdir().unwrap());
    server.change(|site| site.storage = Some(storage.address.clone()));
    let folder = fetch(&hub(&server, cache.path())).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights("a", 500_000));
    assert!(server.take_seen().iter().all(|seen| seen.token.as_deref() == Some("Bearer secret")));
    let elsewhere = storage.take_seen();
    assert_eq!(elsewhere.len(), 1, "only the body comes from there: {elsewhere:?}");
    assert_eq!(elsewhere[0].token, None);
}

#[test]
fn offline_nothing_is_requested() {
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    assert_fails(
        &hub(&server, cache.path()).with_offline(true),
        &["org/name", "HF_HUB_OFFLINE", "looked in"],
    );
    assert_eq!(server.take_seen(), []);
}

#[test]
fn a_cancelled_download_keeps_what_arrived() {
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    let hub = hub(&server, cache.path());
    let mut stop =
        |p: Progress<'_>| if p.done > 200_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    assert!(matches!(hub.fetch(&repo(), &mut stop), Err(Error::Cancelled)));
    server.take_seen();
    fetch(&hub).unwrap();
    assert!(server.take_seen().iter().any(|seen| seen.range.is_some()));
}

#[test]
fn two_downloads_at_once_do_not_disturb_each_other() {
    let (server, cache) = (model(), tempfile::tempdir().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let folder = fetch(&hub(&server, cache.path())).unwrap();
                assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights("a", 500_000));
            });
        }
    });
    let bodies = server.take_seen();
    let bodies = bodies.iter().filter(|s| s.method == "GET" && s.path.ends_with("model.safetensors"));
    assert_eq!(bodies.count(), 1, "the others waited for the lock and found the blob");
}

#[test]
fn settings_come_from_the_environment() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("token"), "from-file\n").unwrap();
    let (server, home) = (model(), home.path().to_str().unwrap().to_owned());
    let tokens_seen = |more: &[(&str, &str)]| {
        let cache = tempfile::tempdir().unwrap();
        let mut set: BTreeMap<&str, &str> =
            BTreeMap::from([("HF_ENDPOINT", server.address.as_str()), ("HF_HOME", &home)]);
        set.insert("HF_HUB_CACHE", cache.path().to_str().unwrap());
        set.extend(more.iter().copied());
        let hub = Hub::from_variables(&|name| set.get(name).map(|value| value.into())).unwrap();
        fetch(&hub).map(|_| server.take_seen()[0].token.clone())
    };
    assert_eq!(tokens_seen(&[]).unwrap().as_deref(), Some("Bearer from-file"));
    assert_eq!(tokens_seen(&[("HF_TOKEN", "direct")]).unwrap().as_deref(), Some("Bearer direct"));
    assert_eq!(tokens_seen(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap(), None);
    assert!(tokens_seen(&[("HF_HUB_OFFLINE", "1")]).is_err());
}
