//! Real input, from end to end: a Debian made by mmdebstrap is imported, a Dockerfile as people
//! write them is built on it through this machine's own apt configuration, the result is run, and
//! pushed to Debian's docker-registry, where skopeo judges it.
//!
//! The root file system is taken from `LAPSTRAKE_ROOTFS` where `cargo xtask test` has made one.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lapstrake_fixtures::case::fixtures_dir;
use lapstrake_fixtures::host::find_tool;
use lapstrake_fixtures::{Need, TempDir, require};
use serde_json::Value;

const NEEDS: [Need; 6] = [
    Need::Tool("mmdebstrap"),
    Need::Tool("docker-registry"),
    Need::Tool("skopeo"),
    Need::File("/etc/ssl/certs/ca-certificates.crt"),
    Need::UserNamespaces,
    Need::SubordinateIds,
];

#[test]
fn real_input() {
    if !require(&NEEDS) {
        return;
    }
    let work = TempDir::new("real-input");
    let lap = Lap { root: work.join("store") };
    lap.run([OsStr::new("import"), rootfs(&work).as_os_str(), OsStr::new("debian:bookworm")]);

    let first = build(&lap, &work);
    assert_eq!(first, build(&lap, &work), "the same build again gives the same image");
    check_output(&lap.run(["run", "--rm", "app:1"]));

    let registry = Registry::start(&work);
    let name = format!("{}/real/app:1", registry.address);
    lap.run(["tag", "app:1", &name]);
    lap.run(["push", &name]);
    check_with_skopeo(&name, &work);

    let elsewhere = Lap { root: work.join("elsewhere") };
    elsewhere.run(["pull", &name]);
    check_output(&elsewhere.run(["run", "--rm", &name]));
    lap.run(["fsck"]);
    elsewhere.run(["fsck"]);
    lap.remove();
    elsewhere.remove();
}

/// `lap` on a store of its own.
struct Lap {
    root: PathBuf,
}

impl Lap {
    /// Runs a command that must succeed and returns what it printed on stdout.
    fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lap"));
        command.arg("--root").arg(&self.root).args(arguments);
        output(&mut command)
    }

    /// Removes the store; without root, in the user namespace that its files' owners belong to.
    fn remove(&self) {
        if fs::remove_dir_all(&self.root).is_err() {
            let mut remove = Command::new("unshare");
            remove.args(["--user", "--map-auto", "--map-root-user", "rm", "-rf"]);
            output(remove.arg(&self.root));
        }
    }
}

/// Runs a program that must succeed; its stdout. Everything it said is in the panic otherwise.
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the program can be started");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

/// A minimal Debian as a tar.
fn rootfs(work: &TempDir) -> PathBuf {
    if let Some(made) = std::env::var_os("LAPSTRAKE_ROOTFS").map(PathBuf::from) {
        return made;
    }
    let tar = work.join("bookworm.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    output(mmdebstrap.args(["--quiet", "--variant=minbase", "bookworm"]).arg(&tar));
    tar
}

/// Builds the image and returns its id.
fn build(lap: &Lap, work: &TempDir) -> String {
    let context = fixtures_dir().join("real_input");
    let id = work.join("id");
    let mut arguments: Vec<String> =
        ["build", "-t", "app:1", "--build-arg", "PACKAGES=python3"].map(str::to_owned).to_vec();
    let apt = format!("apt={}", host_apt(work).display());
    for named in [apt.as_str(), "keyrings=/usr/share/keyrings", "certs=/etc/ssl/certs"] {
        arguments.extend(["--build-context".to_owned(), named.to_owned()]);
    }
    for proxy in ["http_proxy", "https_proxy", "no_proxy"] {
        if std::env::var_os(proxy).is_some() {
            arguments.extend(["--build-arg".to_owned(), proxy.to_owned()]);
        }
    }
    arguments.extend(["--iidfile".to_owned(), id.display().to_string()]);
    arguments.push(context.display().to_string());
    lap.run(&arguments);
    fs::read_to_string(id).expect("--iidfile was written")
}

/// This machine's apt configuration as a folder: its sources and keys, and of its settings those
/// that say how to reach a mirror (docs/apt-in-builds.md).
fn host_apt(work: &TempDir) -> PathBuf {
    let apt = work.join("apt");
    for name in ["sources.list", "sources.list.d", "trusted.gpg", "trusted.gpg.d", "keyrings"] {
        copy_readable(&Path::new("/etc/apt").join(name), &apt.join(name));
    }
    let settings = output(Command::new("apt-config").arg("dump"));
    let transport = ["http", "https", "Check-", "Retries", "ForceIP"];
    let reach = settings.lines().filter(|line| {
        let name = line.strip_prefix("Acquire::").unwrap_or_default();
        transport.iter().any(|prefix| name.starts_with(prefix))
    });
    let text: String = reach.flat_map(|line| [line, "\n"]).collect();
    work.write("apt/apt.conf.d/99host", text);
    for empty in ["preferences.d", "auth.conf.d"] {
        fs::create_dir_all(apt.join(empty)).expect("a folder of our own");
    }
    apt
}

/// Copies a file or a folder of files; what is not there or not ours to read is left out.
fn copy_readable(from: &Path, to: &Path) {
    if let Ok(entries) = fs::read_dir(from) {
        fs::create_dir_all(to).expect("a folder of our own");
        for entry in entries.flatten() {
            copy_readable(&entry.path(), &to.join(entry.file_name()));
        }
    } else if let Ok(bytes) = fs::read(from) {
        fs::create_dir_all(to.parent().expect("it has one")).expect("a folder of our own");
        fs::write(to, bytes).expect("a file of our own");
    }
}

fn check_output(stdout: &str) {
    let want = "Ahoy, Aveiro!\nAhoy, Brest!\nAhoy, Whitby!\nAhoy, Ålesund!\n\
                uid 1500, gid 1500, in /srv/app\n";
    assert_eq!(stdout, want);
}

/// What somebody else's program reads from the registry is what the Dockerfile says.
fn check_with_skopeo(name: &str, work: &TempDir) {
    let image = format!("docker://{name}");
    let skopeo = |arguments: &[&str]| {
        let mut command = Command::new("skopeo");
        output(command.arg("--insecure-policy").args(arguments))
    };
    let manifest: Value =
        serde_json::from_str(&skopeo(&["inspect", "--tls-verify=false", &image])).expect("JSON");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(manifest["Architecture"], "amd64");
    }
    // Debian; python; WORKDIR; useradd; two COPYs.
    assert_eq!(manifest["Layers"].as_array().map(Vec::len), Some(6), "{manifest}");

    let config = skopeo(&["inspect", "--tls-verify=false", "--config", &image]);
    let config: Value = serde_json::from_str(&config).expect("JSON");
    let config = &config["config"];
    assert_eq!(config["User"], "sailor");
    assert_eq!(config["WorkingDir"], "/srv/app");
    assert_eq!(config["Cmd"], serde_json::json!(["python3", "app.py", "/home/sailor/harbours"]));
    assert!(config["ExposedPorts"]["8080/tcp"].is_object(), "{config}");
    let environment = config["Env"].as_array().expect("there is an environment");
    assert!(environment.contains(&"GREETING=Ahoy, ".into()), "{config}");

    // A copy reads every layer and compares it with its digest.
    let to = format!("oci-archive:{}:copied", work.join("copied.tar").display());
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", &image, &to]);
    let to = format!("docker-archive:{}:copied:1", work.join("docker.tar").display());
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", &image, &to]);
}

/// Debian's docker-registry on loopback, ended with this value.
struct Registry {
    child: Child,
    address: SocketAddr,
}

impl Registry {
    fn start(work: &TempDir) -> Self {
        // Between this and the registry's own bind another process may take the port; the
        // registry then ends, and the wait below says so.
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = free.local_addr().expect("a bound socket has an address");
        drop(free);
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            work.join("registry").display()
        );
        let config = work.write("registry.yml", config);
        let program = find_tool("docker-registry").expect("the test asked for it");
        let child = Command::new(program)
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        let mut registry = Self { child, address };
        registry.wait();
        registry
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "docker-registry ended: {ended:?}");
            assert!(Instant::now() < deadline, "docker-registry does not listen after 10 s");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
