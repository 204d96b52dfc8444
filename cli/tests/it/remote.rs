//! ADD and contexts that come from servers of this test, from repositories on them, and from standard
//! input.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::{fs::MetadataExt, process::CommandExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use lapstrake_fixtures::sha256_hex;

use crate::support::{Lap, Output};

/// What every file of the server says of its age: 2001-09-09T01:46:40Z.
const LAST_MODIFIED: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
const LAST_MODIFIED_SECONDS: i64 = 1_000_000_000;
/// When every commit of these tests was made.
const COMMITTED: i64 = 1_100_000_000;

/// A web server for one folder. It knows entity tags, and a few paths that misbehave.
struct Server {
    folder: PathBuf,
    address: String,
    /// How often each path was sent whole.
    sent: Arc<Mutex<HashMap<String, usize>>>,
}

impl Server {
    fn new(lap: &Lap) -> Self {
        let folder = lap.work.join("www");
        fs::create_dir_all(&folder).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::default();
        let server = Self { folder, address, sent };
        let (folder, sent) = (server.folder.clone(), Arc::clone(&server.sent));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, sent) = (folder.clone(), Arc::clone(&sent));
                // A client that hangs up is none of this test's business.
                thread::spawn(move || answer(&stream, &folder, &sent).unwrap_or_default());
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.folder.join(path), bytes).unwrap();
    }

    fn sent(&self, path: &str) -> usize {
        self.sent.lock().unwrap().get(path).copied().unwrap_or_default()
    }
}

fn answer(
    mut stream: &TcpStream,
    folder: &Path,
    sent: &Mutex<HashMap<String, usize>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let path = path.split('?').next().unwrap_or_default().to_owned();
    let head: Vec<String> =
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let of = |line: &String| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        head.iter().find_map(of)
    };
    let simple = |status: &str, more: &str| {
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n")
    };
    match path.as_str() {
        "moved" => return stream.write_all(simple("302 Found", "Location: /a.txt\r\n").as_bytes()),
        "loop" => return stream.write_all(simple("302 Found", "Location: /loop\r\n").as_bytes()),
        "short" => {
            return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        }
        "packed" => {
            let body = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xcbH\xcd\xc9\xc9\xe7\x02\0 0:6\x06\0\0\0";
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n")?;
            stream.write_all(b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n")?;
            return stream.write_all(body);
        }
        "private" if header("authorization").as_deref() != Some("Bearer tok") => {
            return stream.write_all(simple("401 Unauthorized", "").as_bytes());
        }
        _ => {}
    }
    let Ok(body) = fs::read(folder.join(&path)) else {
        return stream.write_all(simple("404 Not Found", "").as_bytes());
    };
    let etag = format!("\"{}\"", &sha256_hex(&body)[..16]);
    if header("if-none-match").as_deref() == Some(etag.as_str()) {
        return stream.write_all(simple("304 Not Modified", "").as_bytes());
    }
    *sent.lock().unwrap().entry(path).or_default() += 1;
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nETag: {etag}\r\n\
         Last-Modified: {LAST_MODIFIED}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}

/// git with a name, a time, and nobody's configuration.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "protocol.file.allow=always"]).args(arguments).current_dir(folder);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "n").env(format!("GIT_{who}_EMAIL"), "e@x");
        command.env(format!("GIT_{who}_DATE"), format!("@{COMMITTED} +0000"));
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.output().expect("git is installed");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {words}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository on the server: tag v1 (annotated), then a commit more on main.
fn repository(server: &Server) -> (PathBuf, String) {
    let work = server.folder.join("../repo");
    fs::create_dir_all(work.join("sub")).unwrap();
    git(&work, &["init", "-q", "-b", "main"]);
    fs::write(work.join("f"), "one\n").unwrap();
    fs::write(work.join("sub/Dockerfile"), "FROM scratch\nCOPY . /here/\n").unwrap();
    fs::write(work.join("sub/hidden"), "").unwrap();
    fs::write(work.join("sub/.dockerignore"), "hidden\n").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "one"]);
    git(&work, &["tag", "-a", "v1", "-m", "v1"]);
    let first = git(&work, &["rev-parse", "HEAD"]);
    fs::write(work.join("f"), "two\n").unwrap();
    git(&work, &["commit", "-q", "-a", "-m", "two"]);
    publish(server, &work);
    (work, first)
}

/// Makes what is committed there visible on the server, as files.
fn publish(server: &Server, work: &Path) {
    let bare = server.folder.join("x.git");
    if bare.exists() {
        fs::remove_dir_all(&bare).unwrap();
    }
    let (from, to) = (work.display().to_string(), bare.display().to_string());
    git(&server.folder, &["clone", "-q", "--bare", &from, &to]);
    git(&bare, &["update-server-info"]);
}

/// Builds into a folder; what was said.
fn build(lap: &Lap, dockerfile: &str, more: &[&str]) -> Output {
    let context = lap.context("context", dockerfile);
    let output = format!("type=local,dest={}", lap.work.join("out").display());
    drop(fs::remove_dir_all(lap.work.join("out")));
    let mut arguments = vec!["build", "-o", &output];
    arguments.extend(more);
    arguments.push(&context);
    lap.run(arguments)
}

fn built(lap: &Lap, dockerfile: &str, more: &[&str]) -> String {
    let output = build(lap, dockerfile, more);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    output.stderr
}

fn failed(lap: &Lap, dockerfile: &str, more: &[&str], code: i32, words: &[&str]) {
    let output = build(lap, dockerfile, more);
    assert_eq!(output.code, Some(code), "{}", output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "`{word}` is not in:\n{}", output.stderr);
    }
    lap.is_whole();
}

/// Mode, modification time and content of a file of the last build.
fn file(lap: &Lap, path: &str) -> (u32, i64, String) {
    let path = lap.work.join("out").join(path);
    let meta = fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (meta.mode() & 0o7777, meta.mtime(), fs::read_to_string(path).unwrap())
}

/// S-50: names, modes, owners and times of what a URL gives.
#[test]
fn urls_are_added() {
    let lap = Lap::new("add-url");
    let server = Server::new(&lap);
    server.write("a.txt", "hello\n");
    let url = server.url("a.txt?query=1");
    let dockerfile = format!(
        "FROM scratch\nADD {url} /d/\nADD --chmod=640 {} /named\nADD {} /n/\n",
        server.url("moved"),
        server.url("moved")
    );
    built(&lap, &dockerfile, &[]);
    let hello = "hello\n".to_owned();
    assert_eq!(file(&lap, "d/a.txt"), (0o600, LAST_MODIFIED_SECONDS, hello.clone()));
    assert_eq!(file(&lap, "named"), (0o640, LAST_MODIFIED_SECONDS, hello.clone()));
    assert_eq!(file(&lap, "n/moved").2, hello);
    let sent = server.sent("a.txt");
    let said = built(&lap, &dockerfile, &[]);
    assert!(said.contains("3 of 3 steps cached"), "{said}");
    assert_eq!(server.sent("a.txt"), sent, "an unchanged file was sent again");
    server.write("a.txt", "other\n");
    let said = built(&lap, &dockerfile, &[]);
    assert!(said.contains("0 of 3 steps cached"), "{said}");
    assert_eq!(file(&lap, "d/a.txt").2, "other\n");
    lap.is_whole();
}

#[test]
fn checksums_are_compared_and_spare_the_network() {
    let lap = Lap::new("add-checksum");
    let server = Server::new(&lap);
    server.write("a.txt", "hello\n");
    let digest = sha256_hex(b"hello\n");
    let url = server.url("a.txt");
    let right = format!("FROM scratch\nADD --checksum=sha256:{digest} {url} /a\n");
    built(&lap, &right, &[]);
    server.write("a.txt", "other\n");
    let said = built(&lap, &right, &[]);
    assert!(said.contains("1 of 1 step cached"), "{said}");
    assert_eq!((server.sent("a.txt"), file(&lap, "a").2), (1, "hello\n".to_owned()));
    let wrong = format!("FROM scratch\nADD --checksum=sha256:{} {url} /a\n", "0".repeat(64));
    failed(&lap, &wrong, &[], 3, &["digest mismatch", &url, "Dockerfile:2:1", "hint:"]);
    let odd = format!("FROM scratch\nADD --checksum=md5:00 {url} /a\n");
    failed(&lap, &odd, &[], 3, &["sha256"]);
    let local = format!("FROM scratch\nADD --checksum=sha256:{digest} Dockerfile /a\n");
    failed(&lap, &local, &[], 3, &["checksum requires HTTP(S) or Git sources"]);
}

#[test]
fn urls_that_misbehave() {
    let lap = Lap::new("add-url-bad");
    let server = Server::new(&lap);
    let add = |path: &str| format!("FROM scratch\nADD {} /a\n", server.url(path));
    let words = ["/nope: the server answered 404 Not Found", "Dockerfile:2:1"];
    failed(&lap, &add("nope"), &[], 5, &words);
    failed(&lap, &add("loop"), &[], 5, &["redirects", "Dockerfile:2:1"]);
    failed(&lap, &add("short"), &[], 5, &["broke off after 4 bytes", "Dockerfile:2:1"]);
    failed(&lap, "FROM scratch\nADD http://127.0.0.1:1/x /a\n", &[], 5, &["connection refused"]);
    failed(&lap, "FROM scratch\nCOPY http://127.0.0.1:1/x /a\n", &[], 3, &["URL for COPY"]);
    server.write("private", "secret\n");
    failed(&lap, &add("private"), &[], 5, &["401 Unauthorized", "HTTP_AUTH_TOKEN_"]);
    lap.work.write("token", "tok\n");
    let host = server.address.trim_start_matches("http://");
    let secret = format!("id=HTTP_AUTH_TOKEN_{host},src={}", lap.work.join("token").display());
    built(&lap, &add("private"), &["--secret", &secret]);
    assert_eq!(file(&lap, "a").2, "secret\n");
}

/// The file is what was packed for the way, as in the reference.
#[test]
fn what_is_packed_for_the_way_is_unpacked() {
    let lap = Lap::new("add-packed");
    let server = Server::new(&lap);
    let sum = sha256_hex(b"hello\n");
    built(
        &lap,
        &format!("FROM scratch\nADD --checksum=sha256:{sum} {} /a\n", server.url("packed")),
        &[],
    );
    assert_eq!(file(&lap, "a").2, "hello\n");
}

/// This server knows neither filters nor single commits; git's way around that has no end.
#[test]
fn the_beginning_of_a_hash_is_completed() {
    let lap = Lap::new("add-git-short");
    let server = Server::new(&lap);
    let (_, first) = repository(&server);
    let add = |hash: &str| format!("FROM scratch\nADD {}#{hash} /a/\n", server.url("x.git"));
    built(&lap, &add(&first[..9]), &[]);
    assert_eq!(file(&lap, "a/f").2, "one\n");
    failed(&lap, &add("abcdef123"), &[], 3, &["has no branch, tag or other ref `abcdef123`"]);
}

/// S-52: refs, directories, modes and submodules of repositories.
#[test]
fn repositories_are_added() {
    let lap = Lap::new("add-git");
    let server = Server::new(&lap);
    let (work, first) = repository(&server);
    let url = server.url("x.git");
    let dockerfile = format!(
        "FROM scratch\nADD {url} /main/\nADD {url}#v1 /tag/\nADD {url}?ref={first}&subdir=sub /sub/\n\
         ADD --keep-git-dir --checksum={} {url}#v1 /kept/\nADD --exclude=sub {url}#main /part/\n",
        &first[..12]
    );
    built(&lap, &dockerfile, &[]);
    assert_eq!(file(&lap, "main/f"), (0o644, COMMITTED, "two\n".to_owned()));
    assert_eq!(file(&lap, "tag/f").2, "one\n");
    assert_eq!(file(&lap, "sub/.dockerignore").2, "hidden\n");
    assert!(!lap.work.join("out/main/.git").exists() && !lap.work.join("out/part/sub").exists());
    assert_eq!(
        git(&lap.work.join("out/kept"), &["-c", "safe.directory=*", "rev-parse", "HEAD"]),
        first
    );
    let said = built(&lap, &dockerfile, &[]);
    assert!(said.contains("5 of 5 steps cached"), "{said}");
    fs::write(work.join("f"), "three\n").unwrap();
    git(&work, &["commit", "-q", "-a", "-m", "three"]);
    publish(&server, &work);
    built(&lap, &dockerfile, &[]);
    assert_eq!(file(&lap, "main/f").2, "three\n");
    assert_eq!(file(&lap, "tag/f").2, "one\n");
    lap.is_whole();
    let add = |source: &str| format!("FROM scratch\nADD {url}{source} /a/\n");
    failed(&lap, &add("#nope"), &[], 3, &["has no branch, tag or other ref `nope`", ":2:1"]);
    failed(&lap, &add("#main:nope"), &[], 3, &["has no directory `nope`"]);
    failed(&lap, &add("#main:.git"), &[], 3, &["has no directory"]);
    failed(&lap, &add("?what=1"), &[], 3, &["unexpected query"]);
    failed(&lap, &add("?checksum=0000000&ref=main"), &[], 3, &["digest mismatch"]);
    failed(&lap, &add("#--upload-pack=touch"), &[], 3, &["no name of a ref"]);
}

#[test]
fn submodules_cannot_reach_this_machine() {
    let lap = Lap::new("add-submodule");
    let server = Server::new(&lap);
    let (work, _) = repository(&server);
    let local = lap.work.join("local");
    fs::create_dir(&local).unwrap();
    git(&local, &["init", "-q", "-b", "main"]);
    fs::write(local.join("private"), "").unwrap();
    git(&local, &["add", "."]);
    git(&local, &["commit", "-q", "-m", "one"]);
    git(&work, &["submodule", "--quiet", "add", &local.display().to_string(), "module"]);
    git(&work, &["commit", "-q", "-m", "module"]);
    publish(&server, &work);
    let url = server.url("x.git");
    let add = |query: &str| format!("FROM scratch\nADD {url}{query} /a/\n");
    failed(
        &lap,
        &add(""),
        &[],
        5,
        &["cannot fetch the submodules of", "transport 'file' not allowed"],
    );
    built(&lap, &add("?submodules=false"), &[]);
    assert!(!lap.work.join("out/a/module/private").exists());
}

fn json(lap: &Lap, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&lap.ok(arguments)).unwrap()
}

#[test]
fn plans_and_reports_name_what_is_remote() {
    let lap = Lap::new("explain-remote");
    let server = Server::new(&lap);
    let (work, first) = repository(&server);
    server.write("a.txt", "hello\n");
    let (url, repository) = (server.url("a.txt"), server.url("x.git"));
    let digest = sha256_hex(b"hello\n");
    let dockerfile = format!(
        "FROM scratch\nADD {repository}#main /main/\nADD --link {url} /d/\n\
         ADD --link --checksum=sha256:{digest} {url} /sum/\nADD --link {repository}#{first} /first/\n"
    );
    built(&lap, &dockerfile, &[]);
    // What the text alone pins is forecast; what a server has to be asked for is not, and nobody is asked.
    let sent = server.sent("a.txt");
    let context = lap.context("context", &dockerfile);
    let plan = json(&lap, &["build", "--plan=json", &context]);
    let steps = plan["stages"][0]["instructions"].as_array().unwrap();
    let states: Vec<&str> = steps.iter().map(|s| s["cache"]["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["unknown", "unknown", "hit", "hit"]);
    assert_eq!(steps[0]["reads"]["remote"][0], format!("{repository}#main"));
    assert!(steps[1]["cache"]["why"].as_str().unwrap().contains(&url));
    assert_eq!(
        (steps[0]["depends_on"][0]["kind"].as_str(), server.sent("a.txt")),
        (Some("remote"), sent)
    );

    let second = git(&work, &["rev-parse", "HEAD"]);
    fs::write(work.join("f"), "three\n").unwrap();
    git(&work, &["commit", "-q", "-a", "-m", "three"]);
    publish(&server, &work);
    server.write("a.txt", "other\n");
    let third = git(&work, &["rev-parse", "HEAD"]);
    let newer = sha256_hex(b"other\n");
    let reasons = |dockerfile: &str| {
        let context = lap.context("context", dockerfile);
        let report = json(&lap, &["build", "--explain=json", &context]);
        let steps = report["stages"][0]["steps"].as_array().unwrap().clone();
        steps.into_iter().map(|step| step["reasons"][0].clone()).collect::<Vec<_>>()
    };
    let found = reasons(&dockerfile);
    for (reason, name, old, new) in [
        (&found[0], format!("commit of {repository}"), second, third),
        (
            &found[1],
            format!("content of {url}"),
            format!("sha256:{digest}"),
            format!("sha256:{newer}"),
        ),
    ] {
        assert_eq!(reason["name"], name);
        assert_eq!((reason["old"].as_str(), reason["new"].as_str()), (Some(&*old), Some(&*new)));
    }
    assert!(found[2].is_null() && found[3].is_null(), "{found:?}");
    // Another checksum reads differently, which is all that there is to say.
    let found = reasons(&dockerfile.replace(&digest, &newer));
    assert_eq!(found[2]["reason"], "instruction");
}

#[test]
fn logins_in_addresses_stay_out_of_images_and_plans() {
    let lap = Lap::new("url-login");
    let server = Server::new(&lap);
    server.write("a.txt", "hello\n");
    let url = server.url("a.txt").replace("http://", "http://me:hunter2@");
    let context = lap.context("context", &format!("FROM scratch\nARG U={url}\nADD $U /a\n"));
    lap.ok(["build", "-t", "x:1", &context]);
    let plan = lap.ok(["build", "--plan=json", &context]);
    let history = lap.ok(["history", "--no-trunc", "x:1"]);
    let add = history.lines().find(|line| line.contains("ADD")).unwrap();
    assert!(add.contains(&server.url("a.txt")) && !add.contains("hunter2"), "{add}");
    let add = plan.lines().find(|line| line.contains("\"ADD ")).unwrap_or(&plan);
    assert!(!add.contains("ADD http://me"), "{add}");
}

/// A process group that ends with this value.
struct Group(std::process::Child);

impl Drop for Group {
    fn drop(&mut self) {
        drop(Command::new("kill").args(["-9", "--", &format!("-{}", self.0.id())]).status());
        drop(self.0.wait());
    }
}

#[test]
fn contexts_come_by_gits_own_protocol() {
    let lap = Lap::new("git-daemon");
    let server = Server::new(&lap);
    repository(&server);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut daemon = Command::new("git");
    daemon.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
    daemon.arg(format!("--port={port}")).arg(format!("--base-path={}", server.folder.display()));
    let _daemon = Group(daemon.process_group(0).spawn().unwrap());
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        thread::yield_now();
    }
    let url = format!("git://127.0.0.1:{port}/x.git");
    lap.ok(["build", "-t", "x:1", &format!("{url}#v1:sub")]);
    let context = lap.context("context", &format!("FROM scratch\nADD {url}#v1:sub /here/\n"));
    lap.ok(["build", "-t", "x:2", &context]);
    lap.refused(["build", &format!("{url}#none")], 3, &["none"]);
    lap.refused(["build", &format!("git://127.0.0.1:{port}/other.git")], 5, &["other.git"]);
}

#[test]
fn without_git_there_is_an_answer() {
    let lap = Lap::new("no-git");
    let context = lap.context("context", "FROM scratch\nADD https://127.0.0.1:1/x.git /a\n");
    let output = lap.command(["build", &context]).env("PATH", "/nowhere").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains("there is no git on this machine") && said.contains("install git"),
        "{said}"
    );
}

/// Runs `lap build` with a file as its standard input.
fn piped(lap: &Lap, input: &Path, more: &[&str]) -> Output {
    let output = format!("type=local,dest={}", lap.work.join("out").display());
    drop(fs::remove_dir_all(lap.work.join("out")));
    let mut command = lap.command(["build", "-o", &output]);
    let ended = command.args(more).stdin(File::open(input).unwrap()).output().unwrap();
    Output {
        code: ended.status.code(),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    }
}

/// An archive of a small context.
fn archive(lap: &Lap, compression: &str) -> PathBuf {
    lap.work.write("tarred/Dockerfile", "FROM scratch\nCOPY . /here/\n");
    lap.work.write("tarred/other.df", "FROM scratch\nCOPY a /other\n");
    lap.work.write("tarred/a", "a\n");
    lap.work.write("tarred/hidden", "");
    lap.work.write("tarred/.dockerignore", "hidden\n");
    let path = lap.work.join(format!("context.tar{compression}"));
    let mut command = Command::new("tar");
    command.arg("-caf").arg(&path).arg("--owner=7").arg("--group=7").arg("--mtime=@1000000000");
    let status = command.arg("-C").arg(lap.work.join("tarred")).arg(".").status().unwrap();
    assert!(status.success());
    path
}

#[test]
fn contexts_come_from_standard_input() {
    let lap = Lap::new("stdin-context");
    for compression in ["", ".gz", ".bz2", ".xz", ".zst"] {
        let said = piped(&lap, &archive(&lap, compression), &["-"]);
        assert_eq!(said.code, Some(0), "{compression}: {}", said.stderr);
        assert_eq!(file(&lap, "here/a").2, "a\n");
        assert!(!lap.work.join("out/here/hidden").exists(), "the ignore file was not honoured");
    }
    let tar = archive(&lap, "");
    assert_eq!(piped(&lap, &tar, &["-f", "other.df", "-"]).code, Some(0));
    assert_eq!(file(&lap, "other").2, "a\n");
    let missing = piped(&lap, &tar, &["-f", "nope.df", "-"]);
    assert_eq!(missing.code, Some(3));
    assert!(missing.stderr.contains("there is no nope.df in standard input"), "{}", missing.stderr);
    // The same image as from the directory: a context is a context.
    let ids = |arguments: &[&str], input: &Path| {
        piped(&lap, input, &[&["-q", "--build-arg", "SOURCE_DATE_EPOCH=7"], arguments].concat())
            .stdout
    };
    let directory = lap.work.join("tarred").display().to_string();
    assert_eq!(ids(&["-"], &tar), ids(&[&directory], &tar));
    let whole = fs::read(&tar).unwrap();
    lap.work.write("half.tar", &whole[..1000]);
    let half = piped(&lap, &lap.work.join("half.tar"), &["-"]);
    assert_eq!(half.code, Some(3), "{}", half.stderr);
    let text = piped(&lap, &lap.work.join("tarred/a"), &["-f", "x", "-"]);
    assert_eq!(text.code, Some(2), "{}", text.stderr);
    lap.is_whole();
}

#[test]
fn an_archive_leads_nowhere() {
    let lap = Lap::new("hostile-context");
    lap.work.write("victim", "safe");
    lap.work.write("in/Dockerfile", "FROM scratch\nCOPY . /here/\n");
    lap.work.write("in/x", "evil");
    let tar = lap.work.join("evil.tar");
    let (named, linked) = (lap.work.join("victim"), lap.work.path().display().to_string());
    let run = |arguments: &[&str]| {
        let mut command = Command::new("tar");
        assert!(
            command.args(arguments).current_dir(lap.work.join("in")).status().unwrap().success()
        );
    };
    std::os::unix::fs::symlink(&linked, lap.work.join("in/l")).unwrap();
    let path = tar.display().to_string();
    run(&["-cPf", &path, "Dockerfile", "l", "--transform", "s,^x$,../../../victim,", "x"]);
    run(&["-rPf", &path, "--transform", "s,^x$,l/victim,", "x"]);
    let said = piped(&lap, &tar, &["-"]);
    assert_eq!(fs::read_to_string(named).unwrap(), "safe", "{}", said.stderr);
    lap.is_whole();
}

#[test]
fn contexts_come_from_servers() {
    let lap = Lap::new("remote-context");
    let server = Server::new(&lap);
    let (_, first) = repository(&server);
    fs::copy(archive(&lap, ".gz"), server.folder.join("context.tgz")).unwrap();
    let none = lap.work.join("tarred/a");
    let run = |arguments: &[&str]| {
        let said = piped(&lap, &none, arguments);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        said.stderr
    };
    run(&[&server.url("context.tgz")]);
    assert_eq!(file(&lap, "here/a").2, "a\n");
    assert!(!lap.work.join("out/here/hidden").exists());
    let said = run(&[&server.url("context.tgz")]);
    assert!(said.contains("1 of 1 step cached"), "{said}");
    assert_eq!(server.sent("context.tgz"), 1);
    run(&["-f", "other.df", &server.url("context.tgz")]);
    run(&[&format!("{}#main:sub", server.url("x.git"))]);
    assert!(lap.work.join("out/here/Dockerfile").exists());
    assert!(!lap.work.join("out/here/hidden").exists());
    run(&["-f", "sub/Dockerfile", &format!("{}#{first}", server.url("x.git"))]);
    assert_eq!(file(&lap, "here/f").2, "one\n");
    server.write("plain.df", "FROM scratch\nCOPY a /from-url\n");
    run(&["-f", &server.url("plain.df"), &lap.work.join("tarred").display().to_string()]);
    assert_eq!(file(&lap, "from-url").2, "a\n");
    server.write("alone.df", format!("FROM scratch\nADD {} /alone\n", server.url("plain.df")));
    run(&[&server.url("alone.df")]);
    assert!(file(&lap, "alone").2.starts_with("FROM scratch"));
    lap.is_whole();
    lap.refused(["build", &server.url("nope.tgz")], 5, &["404 Not Found"]);
}

#[test]
fn named_contexts_come_from_anywhere() {
    let lap = Lap::new("named-context");
    let server = Server::new(&lap);
    repository(&server);
    fs::copy(archive(&lap, ".gz"), server.folder.join("context.tgz")).unwrap();
    let base = lap.context("base", "FROM scratch\nCOPY Dockerfile /in-layout\nLABEL a=b\n");
    let layout = lap.work.join("layout").display().to_string();
    lap.ok([
        "build",
        "-q",
        "-t",
        "base:1",
        "-o",
        &format!("type=oci,tar=false,dest={layout}"),
        &base,
    ]);
    let dockerfile = "FROM base\nCOPY --from=repo f /f\nCOPY --from=tar a /a\n";
    let named = |name: &str, source: String| format!("{name}={source}");
    let layout = named("base", format!("oci-layout://{layout}:1"));
    let (repo, tar) =
        (named("repo", server.url("x.git#v1")), named("tar", server.url("context.tgz")));
    let contexts = ["--build-context", &layout, "--build-context", &repo, "--build-context", &tar];
    built(&lap, dockerfile, &contexts);
    assert!(file(&lap, "in-layout").2.contains("LABEL"));
    assert_eq!((file(&lap, "f").2, file(&lap, "a").2), ("one\n".to_owned(), "a\n".to_owned()));
    lap.is_whole();
    failed(
        &lap,
        dockerfile,
        &["--build-context", "base=oci-layout:///nowhere"],
        3,
        &["OCI layout"],
    );
    let wrong = layout.replace("layout:1", "layout:2");
    failed(&lap, dockerfile, &["--build-context", &wrong], 5, &["layout:2"]);
}
