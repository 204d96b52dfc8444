//! `lap serve`, `push`, `pull`, `login`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use lapstrake_fixtures::{Need, require};

use crate::support::Lap;

/// A running `lap serve`, stopped when dropped.
pub(crate) struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    /// Serves the store of `lap`, and waits until it does.
    pub(crate) fn start(lap: &Lap, more: &[&str]) -> Self {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0"];
        arguments.extend(more);
        let mut child = lap
            .command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("lap can be started");
        let mut address = String::new();
        let stdout = child.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut address).expect("the server says where it is");
        Self { child, address: address.trim_end().to_owned() }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Asks it to end, and waits; its exit code.
    fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.is_ok_and(|status| status.success()));
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn images_travel_between_stores() {
    let (here, between, there) = (Lap::new("here"), Lap::new("between"), Lap::new("there"));
    let serving = Serving::start(&between, &["--writable"]);
    let name = format!("{}/team/app:1", serving.address);
    here.build(&name, "FROM scratch\nCOPY a /\nENV A=1\n", &[("a", "1")]);
    let pushed = here.ok(["push", &name]);
    assert!(pushed.contains("/team/app@sha256:"), "{pushed}");
    assert_eq!(there.ok(["pull", &name]), pushed);
    assert_eq!(there.ok(["images", "-q"]), here.ok(["images", "-q"]));
    let second = here.run(["push", &name]);
    assert!(!second.stderr.contains("layer uploaded"), "{}", second.stderr);
    let base = format!("FROM {name}\nCOPY b /\n");
    let elsewhere = Lap::new("elsewhere");
    elsewhere.build("child:1", &base, &[("b", "2")]);
    assert_eq!(serving.stop(), Some(0));
    for lap in [&here, &between, &there, &elsewhere] {
        lap.is_whole();
    }
}

#[test]
fn builds_push_what_they_made() {
    let (here, between) = (Lap::new("build-push"), Lap::new("build-pushed"));
    let serving = Serving::start(&between, &["--writable"]);
    let name = format!("{}/app:1", serving.address);
    let context = here.context("context", "FROM scratch\nCOPY Dockerfile /\n");
    here.ok(["build", "-q", "-t", &name, "--push", "--metadata-file", "meta", &context]);
    let metadata = fs::read_to_string(here.work.join("meta")).unwrap();
    assert!(metadata.contains("\"containerimage.digest\": \"sha256:"), "{metadata}");
    assert!(between.ok(["images"]).contains("app"));
    here.refused(["build", "-q", "--push", &context], 2, &["nothing to push"]);
}

#[test]
fn a_store_is_served_for_reading_only() {
    let lap = Lap::new("read-only");
    lap.build("app:1", "FROM scratch\nCOPY Dockerfile /\n", &[]);
    let serving = Serving::start(&lap, &[]);
    let other = Lap::new("reader");
    other.ok(["pull", "-q", &format!("{}/app:1", serving.address)]);
    let name = format!("{}/new:1", serving.address);
    other.ok(["tag", &format!("{}/app:1", serving.address), &name]);
    let refused = other.run(["push", "-q", &name]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    lap.refused(["serve", "--listen", "0.0.0.0:0"], 2, &["without access control"]);
}

#[test]
fn strangers_read_what_is_served() {
    if !require(&[Need::Tool("skopeo")]) {
        return;
    }
    let lap = Lap::new("skopeo");
    lap.build("app:1", "FROM scratch\nCOPY Dockerfile /\nLABEL a=b\n", &[]);
    let serving = Serving::start(&lap, &["--writable"]);
    let image = format!("docker://{}/app:1", serving.address);
    let inspected =
        Command::new("skopeo").args(["inspect", "--tls-verify=false", &image]).output().unwrap();
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    assert!(String::from_utf8_lossy(&inspected.stdout).contains("\"a\": \"b\""));
}

#[test]
fn passwords_are_filed_where_docker_looks() {
    let lap = Lap::new("login");
    let login = |arguments: &[&str]| {
        let mut command = lap.command(arguments);
        command.env("DOCKER_CONFIG", lap.work.join("docker")).output().unwrap().status.code()
    };
    assert_eq!(login(&["login", "-u", "me", "-p", "pass", "r.example:5000"]), Some(0));
    let config = fs::read_to_string(lap.work.join("docker/config.json")).unwrap();
    assert!(config.contains("\"r.example:5000\"") && config.contains("bWU6cGFzcw=="), "{config}");
    assert_eq!(login(&["login", "-u", "me", "r.example"]), Some(2));
    assert_eq!(login(&["logout", "r.example:5000"]), Some(0));
    assert!(
        !fs::read_to_string(lap.work.join("docker/config.json")).unwrap().contains("r.example")
    );
}

#[test]
fn each_name_is_pushed_in_the_form_of_its_output() {
    let here = Lap::new("push-forms");
    let forms = [
        ("gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("plain", "application/vnd.docker.image.rootfs.diff.tar"),
        ("here", ""),
    ];
    // A store keeps one form of a layer, so each is sent to one of its own.
    let stores = forms.map(|(form, _)| Lap::new(&format!("pushed-{form}")));
    let servers = stores.each_ref().map(|store| Serving::start(store, &["--writable"]));
    let name = |at: usize| format!("{}/{}:1", servers[at].address, forms[at].0);
    let output = |at: usize, more: &str| format!("type=image,name={}{more}", name(at));
    let context = here.context("context", "FROM scratch\nCOPY Dockerfile /\n");
    let outputs = [
        output(1, ",push=true,compression=zstd,force-compression=true"),
        output(2, ",push=true,compression=uncompressed,oci-mediatypes=false"),
        output(3, ""),
        "type=registry".to_owned(),
    ];
    let mut arguments = vec!["build".to_owned(), "-t".to_owned(), name(0)];
    arguments.extend(outputs.into_iter().flat_map(|output| ["-o".to_owned(), output]));
    here.ok(arguments.iter().chain([&context]));
    assert!(here.ok(["images"]).contains("here"));
    assert_eq!(stores[3].ok(["images", "-q"]), "", "it is pushed");
    for ((pushed, kind), server) in forms.iter().zip(&servers).take(3) {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        write!(stream, "GET /v2/{pushed}/manifests/1 HTTP/1.0\r\nAccept: */*\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.contains(&format!("\"{kind}\"")), "{pushed}: {said}");
    }
}
