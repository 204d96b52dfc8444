//! The bytes of documents, pinned; and agreement with another implementation of the types.

use super::*;
use crate::digest::{DiffId, Digest};

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn sample_config() -> ImageConfig {
    let mut config =
        ImageConfig { created: Some("2026-11-21T09:05:07Z".into()), ..ImageConfig::default() };
    config.set_platform(&Platform::new("linux", "arm", "v7"));
    config.rootfs.diff_ids.push(DiffId::from_digest(digest("layer")));
    config.config.env.push("A=<b>&\u{2028}\"\\\u{7}\u{8}\n".into());
    config.config.labels.insert("z".into(), "1".into());
    config.config.labels.insert("a".into(), "2".into());
    config.config.exposed_ports.insert("80/tcp");
    config.config.healthcheck = Some(Healthcheck {
        test: vec!["CMD".into(), "true".into()],
        interval: 5,
        ..Healthcheck::default()
    });
    config.config.on_build.push("RUN x".into());
    config.config.stop_timeout = Some(3);
    config.history.push(History {
        created_by: "RUN x".into(),
        empty_layer: true,
        ..History::default()
    });
    config
}

#[test]
fn a_config_is_written_as_go_writes_it() {
    let text = String::from_utf8(sample_config().to_json()).expect("utf-8");
    let expected = concat!(
        r#"{"architecture":"arm","config":{"ExposedPorts":{"80/tcp":{}},"#,
        r#""Env":["A=\u003cb\u003e\u0026\u2028\"\\\u0007\b\n"],"Labels":{"a":"2","z":"1"},"#,
        r#""Healthcheck":{"Test":["CMD","true"],"Interval":5},"OnBuild":["RUN x"],"StopTimeout":3},"#,
        r#""created":"2026-11-21T09:05:07Z","history":[{"created_by":"RUN x","empty_layer":true}],"#,
        r#""os":"linux","rootfs":{"type":"layers","diff_ids":["#,
        r#""sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85"]},"variant":"v7"}"#,
    );
    assert_eq!(text, expected);
}

#[test]
fn a_config_round_trips_with_unknown_keys_in_sorted_places() {
    let mut config = sample_config();
    config.extra.insert("moby.buildkit.x".into(), serde_json::json!({"b": 1, "a": [null]}));
    config.config.extra.insert("Memory".into(), serde_json::json!(5));
    let bytes = config.to_json();
    let again = ImageConfig::parse(&bytes).expect("valid");
    assert_eq!(again, config);
    assert_eq!(again.to_json(), bytes);
    let text = String::from_utf8(bytes).expect("utf-8");
    assert!(text.contains(r#"}],"moby.buildkit.x":{"b":1,"a":[null]},"os":"linux""#), "{text}");
}

#[test]
fn null_is_the_default_value_everywhere() {
    let text = r#"{"architecture":"amd64","os":"linux","author":null,"config":{"Cmd":null,"Env":null,
        "Labels":null,"Volumes":null,"ExposedPorts":null,"OnBuild":null,"Healthcheck":null,"User":null,
        "ArgsEscaped":null},"history":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
    let config = ImageConfig::parse(text.as_bytes()).expect("valid");
    assert_eq!(config.config, ContainerConfig::default());
    assert!(ImageConfig::parse(br#"{"config":null,"rootfs":{"type":"layers"}}"#).is_ok());
}

#[test]
fn wrong_documents_are_refused_with_a_reason() {
    let digest = digest("x");
    let cases = [
        (
            format!(r#"{{"schemaVersion":1,"config":{{"digest":"{digest}","size":1}}}}"#),
            "schemaVersion",
        ),
        (
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"digest":"{digest}","size":1}}}}"#,
                media_type::OCI_INDEX
            ),
            "media type",
        ),
        (r#"{"schemaVersion":2}"#.into(), "config"),
        (format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":-1}}}}"#), "-1"),
        (r#"{"schemaVersion":2,"config":{"digest":"sha256:12","size":1}}"#.into(), "hexadecimal"),
        ("[1".into(), "EOF"),
    ];
    for (text, why) in cases {
        let error = Manifest::parse(text.as_bytes()).expect_err(&text);
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error}: {source}").contains(why), "{text}: {error}: {source}");
    }
    assert!(Manifest::parse(&vec![b' '; 5 << 20]).is_err());
    assert!(ImageConfig::parse(br#"{"rootfs":{"type":"layers+base"}}"#).is_err());
}

#[test]
fn a_manifest_is_indented_by_two_spaces() {
    let manifest = Manifest::image(
        Descriptor::new(media_type::OCI_CONFIG, digest("config"), 6),
        vec![Descriptor::new(media_type::OCI_LAYER_GZIP, digest("layer"), 5)],
    );
    let bytes = manifest.to_json();
    let expected = r#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910",
    "size": 6
  },
  "layers": [
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85",
      "size": 5
    }
  ]
}"#;
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
    assert_eq!(Manifest::parse(&bytes).expect("valid"), manifest);
    let stranger = oci_spec::image::ImageManifest::from_reader(bytes.as_slice()).expect("valid");
    assert_eq!(stranger.layers()[0].digest().to_string(), digest("layer").to_string());
}

#[test]
fn strangers_read_our_config() {
    let bytes = sample_config().to_json();
    let stranger =
        oci_spec::image::ImageConfiguration::from_reader(bytes.as_slice()).expect("valid");
    assert_eq!(stranger.rootfs().diff_ids()[0], digest("layer").to_string());
    assert_eq!(stranger.history().as_ref().expect("there")[0].empty_layer(), Some(true));
}

#[test]
fn the_best_platform_is_chosen() {
    let platform = |text: &str| text.parse::<Platform>().expect(text);
    let entry = |text: &str| {
        Descriptor::new(media_type::OCI_MANIFEST, digest(text), 1).with_platform(platform(text))
    };
    let mut attestation = Descriptor::new(media_type::OCI_MANIFEST, digest("att"), 1)
        .with_platform(Platform {
            os: "unknown".into(),
            architecture: "unknown".into(),
            ..Platform::default()
        });
    attestation
        .annotations
        .insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
    let index = Index::new(vec![
        attestation,
        entry("linux/arm/v5"),
        entry("linux/arm/v6"),
        entry("linux/amd64"),
        entry("linux/arm64/v8"),
        entry("linux/s390x"),
    ]);
    let cases = [
        ("linux/amd64", Some("linux/amd64")),
        ("linux/x86_64", Some("linux/amd64")),
        ("amd64/v3", None),
        ("linux/amd64/v3", Some("linux/amd64")),
        ("linux/arm/v7", Some("linux/arm/v6")),
        ("arm", Some("linux/arm/v6")),
        ("linux/arm/v5", Some("linux/arm/v5")),
        ("aarch64", Some("linux/arm64/v8")),
        ("linux/arm64/v9", Some("linux/arm64/v8")),
        ("linux/riscv64", None),
        ("windows/amd64", None),
    ];
    for (wanted, expected) in cases {
        let found = index.choose(&platform(wanted)).map(|found| found.digest);
        assert_eq!(found, expected.map(digest), "{wanted}");
    }
    let only = Index::new(vec![Descriptor::new(media_type::OCI_MANIFEST, digest("one"), 1)]);
    assert!(only.choose(&platform("linux/amd64")).is_some());
    assert!("a/b/c/d".parse::<Platform>().is_err());
    assert!("pdp11".parse::<Platform>().is_err());
    assert!("linux//v7".parse::<Platform>().is_err());
}

#[test]
fn times_are_rfc_3339_both_ways() {
    let cases = [
        ("1970-01-01T00:00:00Z", (0, 0)),
        ("2026-11-21T09:05:07.5Z", (1_795_251_907, 500_000_000)),
        ("1969-12-31T23:59:59Z", (-1, 0)),
        ("2000-02-29T00:00:00.000000001Z", (951_782_400, 1)),
        ("9999-12-31T23:59:59Z", (253_402_300_799, 0)),
    ];
    for (text, (seconds, nanos)) in cases {
        assert_eq!(time::parse(text), Some((seconds, nanos)), "{text}");
        assert_eq!(time::format(seconds, nanos), text);
    }
    assert_eq!(time::parse("1970-01-01T01:00:00+01:00"), Some((0, 0)));
    for wrong in
        ["", "1970-01-01", "1970-13-01T00:00:00Z", "1970-01-01T00:00:00", "1970-01-01T00:00:00.Z"]
    {
        assert_eq!(time::parse(wrong), None, "{wrong}");
    }
}
