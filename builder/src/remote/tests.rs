//! What texts mean.

use super::address::*;
use super::*;
use proptest::prelude::*;

fn git(text: &str) -> GitSource {
    match Remote::parse(text).unwrap() {
        Some(Remote::Git(git)) => git,
        other => panic!("{text}: {other:?}"),
    }
}

fn http(text: &str) -> HttpSource {
    match Remote::parse(text).unwrap() {
        Some(Remote::Http(http)) => http,
        other => panic!("{text}: {other:?}"),
    }
}

/// S-49: what of an ADD is a repository, a URL, a file of the context.
#[test]
fn local_names_stay_local() {
    for text in [
        "a",
        "./a",
        "../a",
        "/a",
        "github.com/x/y",
        "a@b",
        "x:y",
        "ftp://h/x",
        "./git@h:x",
        "file:///x",
        "a.git",
        "a b@h:x",
        "a@b/c:d",
        "@host:a",
    ] {
        assert_eq!(Remote::parse(text), Ok(None), "{text}");
    }
}

#[test]
fn urls_have_names() {
    for (url, name) in [
        ("https://h/a/b.tar.gz", "b.tar.gz"),
        ("https://h/a/b.tar.gz?x=/y#frag", "b.tar.gz"),
        ("https://h/a/", "a"),
        ("https://h", "__unnamed__"),
        ("http://h/", "__unnamed__"),
        ("http://h/a%20b", "a b"),
        ("http://h/x%2Fy", "y"),
        ("http://h/..", "__unnamed__"),
        ("http://h/%", "%"),
        ("http://h/%zz%4", "%zz%4"),
    ] {
        assert_eq!(http(url).name, name, "{url}");
    }
    // Case counts in paths, as in the reference.
    assert_eq!(http("https://h/x.GIT").name, "x.GIT");
    assert_eq!(http("HTTPS://h/x#y").url, "https://h/x");
    assert_eq!(http("https://h?q").url, "https://h/?q");
}

#[test]
fn passwords_leave_the_url() {
    let source = http("https://me:p%40ss@h:1/x");
    assert_eq!((source.url.as_str(), source.host()), ("https://h:1/x", "h:1"));
    assert_eq!(source.login.as_ref().unwrap().expose(), "Basic bWU6cEBzcw==");
    assert!(!format!("{source:?}").contains("bWU6"), "{source:?}");
    let source = git("https://me:pass@h/x.git#main");
    assert_eq!((source.url.as_str(), source.host()), ("https://h/x.git", "h"));
    assert!(source.login.is_some());
    let source = git("ssh://me:pass@h:22/x.git");
    assert_eq!((source.url.as_str(), source.host()), ("ssh://me@h:22/x.git", "h:22"));
    assert_eq!(source.login, None);
}

#[test]
fn texts_lose_their_logins() {
    for (text, without) in [
        ("https://me:p@h/x?a@b", "https://h/x?a@b"),
        ("https://token@h", "https://h"),
        ("HTTP://a@b@h#c@d", "HTTP://h#c@d"),
        ("ssh://git:p@h/x", "ssh://git@h/x"),
        ("git@h:x", "git@h:x"),
        ("https://h/@x", "https://h/@x"),
    ] {
        assert_eq!(without_login(text), without);
    }
}

#[test]
fn repositories() {
    let source = git("https://h/x.git");
    assert_eq!((source.reference, source.subdir.as_str(), source.submodules), (None, "", true));
    for (text, reference, subdir) in [
        ("https://h/x.git#main", Some("main"), ""),
        ("https://h/x.git#:sub/dir", None, "sub/dir"),
        ("https://h/x.git#pull/7/head:sub", Some("pull/7/head"), "sub"),
        ("git@h:o/x.git#v1:sub", Some("v1"), "sub"),
        ("git@h:o/x", None, ""),
        ("deploy_1@h:a", None, ""),
        ("git://h/x#a%2Fb", Some("a/b"), ""),
        ("ssh://git@h/x?ref=main&subdir=a+b", Some("main"), "a b"),
        ("https://h/x.git?tag=v1", Some("refs/tags/v1"), ""),
        ("https://h/x.git?tag=refs/tags/v1", Some("refs/tags/v1"), ""),
        ("https://h/x.git?branch=b", Some("refs/heads/b"), ""),
        ("https://h/x.git?ref=main#main:s", Some("main"), "s"),
        ("https://h/x.git?commit=0123abc", Some("0123abc"), ""),
        ("https://h/x.git?commit=0123abc&ref=main", Some("main"), ""),
    ] {
        let source = git(text);
        assert_eq!(
            (source.reference.as_deref(), source.subdir.as_str()),
            (reference, subdir),
            "{text}"
        );
    }
    let source = git("https://h/x.git?ref=main&checksum=0123ABCD&keep-git-dir&submodules=false");
    assert_eq!(source.checksum.as_deref(), Some("0123abcd"));
    assert_eq!((source.keep_git_dir, source.submodules), (Some(true), false));
    assert_eq!(git("git@h.example:o/x.git").host(), "h.example");
    let context = Remote::parse_context("github.com/o/r#main:d").unwrap().unwrap();
    assert_eq!(context.url(), "https://github.com/o/r");
}

#[test]
fn bad_repositories_are_refused() {
    for (text, words) in [
        ("https://h/x.git?what=1", "unexpected query \"what\""),
        ("https://h/x.git?ref=a&ref=b", "multiple values"),
        ("https://h/x.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
        ("https://h/x.git?subdir=a#:b", "subdir conflicts"),
        ("https://h/x.git?tag=a&branch=a", "conflict"),
        ("https://h/x.git?ref=", "query \"ref\" has no value"),
        ("https://h/x.git?keep-git-dir=maybe", "invalid keep-git-dir value"),
        ("https://h/x.git?checksum=xyz", "no commit hash"),
        ("https://h/x.git#--upload-pack=x", "no name of a ref"),
        ("https://h/x.git#a..b", "no name of a ref"),
        ("https://h/x.git#a%0Ab", "no name of a ref"),
        ("https://-oProxyCommand=x/y.git", "names no host"),
        ("ssh://-oProxyCommand=x/y", "names no host"),
        ("https:///x.git", "names no host"),
        ("https://h/a b.git", "is no address"),
        ("https://h/x.git?mtime=now", "invalid mtime"),
    ] {
        let error = Remote::parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    assert!(Remote::parse(&format!("https://h/{}", "x".repeat(10_000))).is_err());
}

#[test]
fn flags_and_addresses_must_agree() {
    let source = |text: &str| Remote::parse(text).unwrap().unwrap();
    let digest = format!("sha256:{}", "A".repeat(64));
    let Remote::Http(http) = source("https://h/x").with_checksum(&digest).unwrap() else {
        panic!()
    };
    assert_eq!(http.checksum.unwrap().hex(), "a".repeat(64));
    assert!(source("https://h/x").with_checksum("sha512:00").is_err());
    assert!(source("https://h/x.git?checksum=0123abc").with_checksum("ffffffff").is_err());
    assert!(source("https://h/x.git?keep-git-dir=0").with_keep_git_dir(Some(true)).is_err());
    let Remote::Git(git) = source("https://h/x.git").with_keep_git_dir(Some(true)).unwrap() else {
        panic!()
    };
    assert_eq!(git.keep_git_dir, Some(true));
}

#[test]
fn authorization_is_one_line_and_unseen() {
    assert_eq!(Authorization::new("a\r\nHost: b"), None);
    assert_eq!(Authorization::new(""), None);
    let shown = format!("{:?}", Authorization::new("Bearer hunter2").unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

proptest! {
    #[test]
    fn any_text_is_understood_or_refused(text in ".{0,60}") {
        for text in [text.clone(), format!("https://{text}"), format!("git@{text}"), format!("ssh://{text}")] {
            if let Ok(Some(remote)) = Remote::parse_context(&text) {
                prop_assert!(!remote.url().starts_with('-'));
                prop_assert!(!remote.url().contains(char::is_whitespace));
                if let Remote::Git(git) = remote {
                    prop_assert!(git.reference.as_ref().is_none_or(|name| !name.starts_with('-')));
                    prop_assert!(!git.host().starts_with('-'));
                }
            }
        }
    }
}
