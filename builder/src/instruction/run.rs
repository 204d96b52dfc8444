//! RUN: a command, its flags, and what its heredocs make of it.

use super::{Command, Device, Heredoc, MountFlag};
use crate::source::decode;
use crate::syntax::{heredoc_word, without_tabs};
use crate::text::Text;
use std::borrow::Cow;

/// A RUN instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command as written, heredoc words included.
    pub command: Command,
    /// The heredocs that the line opens.
    pub heredocs: Vec<Heredoc>,
    /// `--mount` flags, to be resolved with the scope of the place.
    pub mounts: Vec<MountFlag>,
    /// `--network`
    pub network: Network,
    /// `--security`
    pub security: Security,
    /// `--device` flags.
    pub devices: Vec<Device>,
}

/// What a step sees of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// What the builder offers.
    #[default]
    Default,
    /// Loopback alone.
    None,
    /// The host's own network.
    Host,
}

/// How much a step may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// As little as a container may.
    #[default]
    Sandbox,
    /// Everything.
    Insecure,
}

/// What is to be executed, once heredocs are taken into account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunScript {
    /// The words, without a shell.
    Exec(Vec<Text>),
    /// Text for the shell.
    Shell(Text),
    /// A file of that name and content, made executable; the shell is given its path.
    File {
        /// The file's name.
        name: Text,
        /// Its content.
        content: Vec<u8>,
    },
}

impl Run {
    /// Whether the command is one heredoc word and nothing else.
    #[must_use]
    pub fn is_single_heredoc(&self) -> bool {
        match &self.command {
            Command::Shell(text) => !self.heredocs.is_empty() && heredoc_word(text).is_some(),
            Command::Exec(_) => false,
        }
    }

    /// What is to be executed: a lone heredoc is the script, or a program of its own if it begins
    /// with `#!`; in every other case the shell gets the line with all bodies and does the rest.
    #[must_use]
    pub fn script(&self) -> RunScript {
        let text = match &self.command {
            Command::Exec(words) => return RunScript::Exec(words.clone()),
            Command::Shell(text) => text,
        };
        let Some(first) = self.heredocs.first() else { return RunScript::Shell(text.clone()) };
        if !self.is_single_heredoc() {
            let mut script = text.to_string();
            for heredoc in &self.heredocs {
                script.push('\n');
                script.push_str(&heredoc.body_text());
                script.push_str(&heredoc.name);
            }
            return RunScript::Shell(script.into());
        }
        let content = if first.strip_tabs {
            Cow::Owned(without_tabs(&first.body))
        } else {
            Cow::Borrowed(&*first.body)
        };
        if content.starts_with(b"#!") {
            RunScript::File { name: first.name.clone(), content: content.into_owned() }
        } else {
            RunScript::Shell(match std::str::from_utf8(&content) {
                Ok(text) => text.into(),
                Err(_) => decode(&content).into(),
            })
        }
    }
}
