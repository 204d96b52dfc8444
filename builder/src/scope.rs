//! The variables that a stage's instructions see, in order, and which of them are build arguments.
//!
//! There is one list for ARG and ENV: the later declaration of a name wins, whichever it was. A name that
//! is set again moves to the end, as the reference's environment list does, so that the order in which a
//! step receives them is the same.

use crate::expand::Scope;
use crate::limits::{MAX_VARIABLE_BYTES, MAX_VARIABLES};
use crate::text::Text;
use std::sync::Arc;

/// So many more variables fit into a list that had to be copied: those of one ENV, most likely.
const ROOM: usize = 4;

/// A name and its value, shared by all lists that hold it.
pub type SharedPair = (Text, Text);

/// Names and values in order of their last setting. A clone costs nothing until one of the two changes,
/// so that all steps between two ENVs share one list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvList {
    pairs: Arc<Vec<SharedPair>>,
    /// Of names and values together.
    bytes: usize,
}

impl EnvList {
    /// Set `name`, moving it to the end.
    pub fn set(&mut self, name: impl Into<Text> + AsRef<str>, value: impl Into<Text>) {
        let value = value.into();
        let old = self.pairs.iter().position(|(n, _)| n == name.as_ref());
        if Arc::get_mut(&mut self.pairs).is_none() {
            // Others hold the list as it is.
            let mut copy = Vec::with_capacity(self.pairs.len() + ROOM);
            copy.extend_from_slice(&self.pairs);
            self.pairs = Arc::new(copy);
        }
        let pairs = Arc::get_mut(&mut self.pairs).expect("because a copy of ours is not shared");
        let name = if let Some(at) = old {
            let (name, old) = pairs.remove(at);
            self.bytes -= old.len();
            name
        } else {
            let name = name.into();
            self.bytes += name.len();
            name
        };
        self.bytes += value.len();
        pairs.push((name, value));
    }

    /// The value of `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.shared_value(name).map(Text::as_str)
    }

    /// The same, to keep.
    pub fn shared_value(&self, name: &str) -> Option<&Text> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// How much memory the next change takes because others hold the list as it is.
    pub fn bytes_to_copy(&self) -> usize {
        if Arc::strong_count(&self.pairs) == 1 {
            return 0;
        }
        self.pairs.len() * size_of::<SharedPair>()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All pairs in order.
    pub fn pairs(&self) -> &[SharedPair] {
        &self.pairs
    }

    /// The pairs, shared.
    pub fn shared(&self) -> Arc<Vec<SharedPair>> {
        Arc::clone(&self.pairs)
    }

    /// What is wrong if it holds more than [`MAX_VARIABLES`] or [`MAX_VARIABLE_BYTES`].
    pub fn over_limit(&self) -> Option<String> {
        if self.pairs.len() > MAX_VARIABLES {
            return Some(format!("a stage has more than {MAX_VARIABLES} variables"));
        }
        (self.bytes > MAX_VARIABLE_BYTES)
            .then(|| format!("the variables of a stage take more than {MAX_VARIABLE_BYTES} bytes"))
    }

    /// From `NAME=value` strings of an image's config.
    pub fn from_config(env: &[String]) -> Self {
        let mut list = Self::default();
        for pair in env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            list.set(name, value);
        }
        list
    }
}

impl Scope for EnvList {
    fn get(&self, name: &str) -> Option<&str> {
        self.value(name)
    }
}

/// The arguments of `--build-arg`; a later one of a name wins.
#[derive(Debug, Clone, Default)]
pub struct BuildArgs(Vec<(String, String)>);

impl BuildArgs {
    /// From pairs in the order given.
    pub fn new(pairs: &[(String, String)]) -> Self {
        Self(pairs.to_vec())
    }

    /// The value given for `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The proxy settings among them, in upper and lower case each, in the order a step receives them.
    pub fn proxies(&self) -> Vec<(String, String)> {
        let mut given: Vec<&(String, String)> =
            self.0.iter().filter(|(name, _)| is_proxy(name)).collect();
        given.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out = EnvList::default();
        for (name, value) in given {
            out.set(name.to_uppercase(), value);
            out.set(name.to_lowercase(), value);
        }
        out.pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }
}

/// The predefined arguments that reach steps without being declared and leave no trace.
pub fn is_proxy(name: &str) -> bool {
    const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];
    PROXIES.contains(&name.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_again_moves_to_the_end() {
        let mut env = EnvList::from_config(&["A=1".into(), "B=2".into()]);
        env.set("A", "3");
        let pairs: Vec<(&str, &str)> = env.pairs().iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(pairs, [("B", "2"), ("A", "3")]);
    }

    #[test]
    fn a_proxy_comes_in_both_cases_and_the_lower_one_wins() {
        let args = BuildArgs::new(&[
            ("https_proxy".into(), "low".into()),
            ("HTTPS_PROXY".into(), "UP".into()),
            ("x".into(), "y".into()),
        ]);
        let proxies = args.proxies();
        assert_eq!(proxies.len(), 2);
        assert!(proxies.iter().all(|(_, value)| value == "low"));
    }
}
