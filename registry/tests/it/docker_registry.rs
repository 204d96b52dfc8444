//! Debian's docker-registry on loopback: a stranger to push to and pull from.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapstrake_fixtures::{Need, TempDir, require};
use lapstrake_registry::{
    Client, Credential, Fault, FixedCredential, Options, Outcome, Secret, Silent,
};

use crate::support::{Events, GZIP, big_image, client, empty_store, options, pull, reference};

/// A running registry; it ends with this value.
pub(crate) struct DockerRegistry {
    child: Child,
    pub(crate) host: String,
    _folder: TempDir,
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().ok();
    }
}

impl DockerRegistry {
    /// Starts one; `extra` is added to its configuration, where `FOLDER` is its folder.
    pub(crate) fn start(http: &str, extra: &str) -> Self {
        Self::start_in(TempDir::new("docker-registry"), http, extra)
    }

    fn start_in(folder: TempDir, http: &str, extra: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        drop(listener);
        let data = folder.join("data").display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\n\
             http:\n  addr: {host}\n{http}\n{extra}\n"
        );
        let config = config.replace("FOLDER", &folder.path().display().to_string());
        let config = folder.write("config.yml", config);
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(&host).is_err() {
            if child.try_wait().unwrap().is_some() || begun.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap_or_default();
                let mut said = String::new();
                child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("docker-registry does not listen: {said}");
            }
            std::thread::yield_now();
        }
        Self { child, host, _folder: folder }
    }
}

#[test]
fn an_image_goes_there_and_back() {
    if !require(&[Need::Tool("docker-registry")]) {
        return;
    }
    let registry = DockerRegistry::start("", "");
    let (store, back) = (empty_store(), empty_store());
    let image = big_image(5_000_000).install(&store.store);
    let name = reference(&registry.host, "test/app:1");
    let digest = client().push(&store.store, &image, &name, GZIP, &Silent).unwrap();
    let pulled = pull(&client(), &registry.host, &back, &Silent).unwrap();
    assert_eq!((pulled.config, pulled.manifest.unwrap().digest), (image.config, digest));
    assert_eq!(pulled.layers, image.layers);
    // Into a second repository the layer is mounted, not sent.
    store.store.tag(&name, &image).unwrap();
    let events = Events::default();
    let second = reference(&registry.host, "test/second:1");
    assert_eq!(client().push(&store.store, &image, &second, GZIP, &events).unwrap(), digest);
    let mounted = Outcome::Mounted { from: "test/app".into() };
    assert!(format!("{:?}", events.all()).contains(&format!("{mounted:?}")), "{events:?}");
    let error = client().resolve(
        &reference(&registry.host, "test/app:absent"),
        &lapstrake_layerstore::oci::Platform::host(),
    );
    assert_eq!(error.unwrap_err().codes()[0].code, "MANIFEST_UNKNOWN");
}

#[test]
fn with_a_password() {
    if !require(&[Need::Tool("docker-registry")]) {
        return;
    }
    let folder = TempDir::new("docker-registry");
    // user:pass in bcrypt at the lowest cost.
    folder.write("htpasswd", format!("user:{HASH}\n"));
    let auth = "auth: {htpasswd: {realm: test, path: FOLDER/htpasswd}}";
    let registry = DockerRegistry::start_in(folder, "", auth);
    let (store, back) = (empty_store(), empty_store());
    let image = big_image(1000).install(&store.store);
    let name = reference(&registry.host, "test/app:1");
    let error = client().push(&store.store, &image, &name, GZIP, &Silent).unwrap_err();
    assert!(
        matches!(*error.fault, Fault::Unauthorized { had_credentials: false, .. }),
        "{error:?}"
    );
    let with = |password: &str| {
        let username = "user".to_owned();
        let credential = Credential::Basic { username, password: Secret::new(password) };
        let source = FixedCredential { registry: registry.host.clone(), credential };
        Client::new(Options { credentials: Arc::new(source), ..options() }).unwrap()
    };
    let error = with("no").push(&store.store, &image, &name, GZIP, &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Unauthorized { had_credentials: true, .. }), "{error:?}");
    with("pass").push(&store.store, &image, &name, GZIP, &Silent).unwrap();
    assert_eq!(pull(&with("pass"), &registry.host, &back, &Silent).unwrap().config, image.config);
}

const HASH: &str = "$2b$04$abcdefghijklmnopqrstuufznL8bkzdtHwLhca4To/v9Lo9bA7fR6";

#[test]
fn over_tls_with_an_authority_of_our_own() {
    if !require(&[Need::Tool("docker-registry"), Need::Tool("openssl")]) {
        return;
    }
    let folder = TempDir::new("docker-registry");
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=test", "-addext"])
        .arg("subjectAltName=IP:127.0.0.1")
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tls = "  tls: {certificate: FOLDER/cert.pem, key: FOLDER/key.pem}";
    let ca_files = vec![certificate];
    let registry = DockerRegistry::start_in(folder, tls, "");
    let (store, back) = (empty_store(), empty_store());
    let image = big_image(100_000).install(&store.store);
    let name = reference(&registry.host, "test/app:1");
    let error = client().push(&store.store, &image, &name, GZIP, &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Tls(_)), "{error:?}");
    let known = Client::new(Options { ca_files, ..options() }).unwrap();
    known.push(&store.store, &image, &name, GZIP, &Silent).unwrap();
    assert_eq!(pull(&known, &registry.host, &back, &Silent).unwrap().config, image.config);
    let ca_files = vec![back.path().join("absent.pem")];
    let broken = Client::new(Options { ca_files, ..options() }).unwrap();
    let error = pull(&broken, &registry.host, &back, &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Authorities { .. }), "{error:?}");
}
