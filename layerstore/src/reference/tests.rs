//! The grammar, case by case.

use proptest::prelude::*;

use super::Reference;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn good_references() {
    // (typed, canonical, familiar)
    let cases = [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ("ghcr.io/o/r", "ghcr.io/o/r:latest", "ghcr.io/o/r:latest"),
        ("a__b/c-d--e.f_g", "docker.io/a__b/c-d--e.f_g:latest", "a__b/c-d--e.f_g:latest"),
        ("a:B_c.-d", "docker.io/library/a:B_c.-d", "a:B_c.-d"),
        ("app:5000", "docker.io/library/app:5000", "app:5000"),
    ];
    for (typed, canonical, familiar) in cases {
        let reference = Reference::parse(typed).expect(typed);
        assert_eq!(reference.to_string(), canonical);
        assert_eq!(reference.familiar(), familiar);
        assert_eq!(Reference::parse(canonical).expect(canonical), reference);
        assert_eq!(Reference::parse(familiar).expect(familiar), reference);
    }
}

#[test]
fn digests_pin_a_name_and_need_no_tag() {
    let pinned = Reference::parse(&format!("alpine@{DIGEST}")).expect("valid");
    assert_eq!(pinned.tag(), None);
    assert_eq!(pinned.to_string(), format!("docker.io/library/alpine@{DIGEST}"));
    let both = Reference::parse(&format!("alpine:3@{DIGEST}")).expect("valid");
    assert_eq!(both.tag(), Some("3"));
    assert!(both.digest().is_some());
}

#[test]
fn bad_references_say_why() {
    let long = "a".repeat(300);
    let tag = format!("a:{}", "t".repeat(129));
    let cases = [
        ("", "empty"),
        ("Alpine", "lower case"),
        ("a//b", "empty"),
        ("a/", "empty"),
        ("a:", "tag begins"),
        ("a:-x", "tag begins"),
        ("a:x y", "tag is of"),
        (":tag", "empty"),
        ("a@sha256:12", "digest"),
        ("a___b", "each part"),
        ("a..b", "each part"),
        ("-a", "each part"),
        ("a-", "each part"),
        ("é", "each part"),
        ("host.example:99999/a", "port"),
        ("ho_st.example/a", "host name"),
        (long.as_str(), "255"),
        (tag.as_str(), "128"),
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "image id"),
    ];
    for (typed, why) in cases {
        let error = Reference::parse(typed).expect_err(typed).to_string();
        assert!(error.contains(why), "{typed}: {error}");
    }
}

proptest! {
    #[test]
    fn parsing_is_total_and_stable(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,60}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(&Reference::parse(&reference.to_string()).expect("canonical"), &reference);
            prop_assert_eq!(&Reference::parse(&reference.familiar()).expect("familiar"), &reference);
        }
    }
}
