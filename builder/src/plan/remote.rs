//! What ADD fetches: which sources are URLs or git repositories, and what may be said of them.

use super::stage::Problem;

/// A source that is not a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// A git repository.
    Git,
    /// Anything else behind http or https.
    Http,
}

impl Remote {
    /// What an expanded source of ADD is; `None` for a path. As in the reference, a host without a scheme
    /// (`github.com/a/b`) is a path.
    pub fn of(source: &str) -> Option<Self> {
        let is_web = source.starts_with("http://") || source.starts_with("https://");
        if is_web {
            let path = source.split(['#', '?']).next().unwrap_or(source);
            // Case counts, as in the reference.
            let is_git = path.rsplit_once('.').is_some_and(|(_, end)| end == "git");
            return Some(if is_git { Self::Git } else { Self::Http });
        }
        let is_git = source.starts_with("git://") || source.starts_with("ssh://");
        (is_git || is_ssh_shorthand(source)).then_some(Self::Git)
    }
}

/// `user@host:path`, as git has it.
fn is_ssh_shorthand(source: &str) -> bool {
    let Some((user, rest)) = source.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    plain(user, "-_") && plain(host, "-.")
}

/// Judge sources and `--checksum` together, as the reference does before it looks at any file.
pub(super) fn check(
    sources: &[String],
    is_add: bool,
    checksum: Option<&str>,
) -> Result<(), Problem> {
    if checksum.is_some() {
        match sources {
            [one] if Remote::of(one).is_some() => {}
            [_] => return Err(Problem::arguments("checksum requires HTTP(S) or Git sources")),
            _ => {
                let message = "checksum can't be specified for multiple sources";
                return Err(Problem::arguments(message));
            }
        }
    }
    let remote = sources.iter().find_map(|source| Some((source, Remote::of(source)?)));
    match remote {
        Some((source, Remote::Git)) if !is_add => {
            Err(Problem::arguments(&format!("source can't be a git ref for COPY: {source}")))
        }
        Some((source, Remote::Http)) if !is_add => {
            Err(Problem::arguments(&format!("source can't be a URL for COPY: {source}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        for (source, expected) in [
            ("https://host/a.tar.gz", Some(Remote::Http)),
            ("http://host/", Some(Remote::Http)),
            ("https://host/a.git", Some(Remote::Git)),
            ("https://host/a.git#main:sub", Some(Remote::Git)),
            ("https://host/a.git?ref=v1", Some(Remote::Git)),
            ("https://host/a.gitx", Some(Remote::Http)),
            ("https://host/a.GIT", Some(Remote::Http)),
            ("git@host.example:a/b.git", Some(Remote::Git)),
            ("deploy_1@host:a", Some(Remote::Git)),
            ("ssh://git@host/a", Some(Remote::Git)),
            ("git://host/a", Some(Remote::Git)),
            ("github.com/a/b.git", None),
            ("a@b/c:d", None),
            ("ftp://host/a", None),
            ("@host:a", None),
            ("a", None),
        ] {
            assert_eq!(Remote::of(source), expected, "{source}");
        }
    }

    #[test]
    fn checksums_and_copy() {
        let check = |sources: &[&str], is_add, checksum| {
            let sources: Vec<String> = sources.iter().map(|s| (*s).to_owned()).collect();
            check(&sources, is_add, checksum).map_err(|problem| problem.message)
        };
        let refused = |result: Result<(), String>, word: &str| {
            assert!(result.is_err_and(|message| message.contains(word)), "{word}");
        };
        assert!(check(&["https://h/a"], true, Some("sha256:0")).is_ok());
        assert!(check(&["https://h/a", "b"], true, None).is_ok());
        refused(check(&["a"], true, Some("sha256:0")), "requires HTTP(S) or Git");
        refused(check(&["https://h/a", "b"], true, Some("x")), "multiple sources");
        refused(check(&["b", "https://h/a"], false, None), "can't be a URL for COPY");
        refused(check(&["git@h:a"], false, None), "can't be a git ref for COPY");
    }
}
