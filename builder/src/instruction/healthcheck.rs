//! HEALTHCHECK: a command with its intervals, or NONE.

use super::config::{at_least_one, bad_arguments, not_strings};
use super::duration::GoDuration;
use super::flag::{self, Flags};
use super::format::{push_decimal, push_go_list};
use crate::diagnostic::{Diagnostic, code};
use crate::source::Span;
use crate::syntax::{JsonForm, Node, json_form};
use std::borrow::Cow;

/// A health check as the image configuration holds it; zero means "inherit the default".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    pub test: Vec<String>,
    /// Time between checks.
    pub interval: GoDuration,
    /// Time that one check may take.
    pub timeout: GoDuration,
    /// Time at the start in which failures do not count.
    pub start_period: GoDuration,
    /// Time between checks in the start period.
    pub start_interval: GoDuration,
    /// Failures in a row until the container is unhealthy.
    pub retries: i32,
}

impl Healthcheck {
    /// The text of the image's history.
    #[must_use]
    pub fn history(&self) -> String {
        let mut text = String::new();
        self.push_history(&mut text);
        text
    }

    /// [`Self::history`] onto the end of a text.
    pub(crate) fn push_history(&self, text: &mut String) {
        text.push_str("{Test:");
        push_go_list(text, &self.test);
        for (name, duration) in [
            (" Interval:", self.interval),
            (" Timeout:", self.timeout),
            (" StartPeriod:", self.start_period),
            (" StartInterval:", self.start_interval),
        ] {
            text.push_str(name);
            duration.push_onto(text);
        }
        text.push_str(if self.retries < 0 { " Retries:-" } else { " Retries:" });
        push_decimal(text, self.retries.unsigned_abs().into());
        text.push('}');
    }
}

/// Reads a HEALTHCHECK line and where its flags stand.
pub(super) fn lower(
    node: &Node,
    out: &mut Vec<Diagnostic>,
) -> Option<(Healthcheck, Vec<(&'static str, Span)>)> {
    let rest = node.rest();
    let (kind, text) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    let text = text.trim_start();
    if kind.is_empty() {
        out.push(at_least_one(node));
        return None;
    }
    let (words, json) = match json_form(text) {
        JsonForm::Strings(words) => (words.into_iter().map(Cow::into_owned).collect(), true),
        JsonForm::NotJson if text.is_empty() => (Vec::new(), false),
        JsonForm::NotJson => (vec![text.to_owned()], false),
        JsonForm::NotStrings => {
            out.push(not_strings(node));
            return None;
        }
    };
    if kind.eq_ignore_ascii_case("none") {
        // The reference does not look at the flags here, so neither do we.
        if !words.is_empty() {
            out.push(bad_arguments(node.rest_span(), "HEALTHCHECK NONE takes no arguments"));
            return None;
        }
        return Some((
            Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
            Vec::new(),
        ));
    }
    let errors_before = out.len();
    let flags = read_flags(node, out);
    if !kind.eq_ignore_ascii_case("cmd") {
        out.push(bad_arguments(
            node.span_in_rest(0..kind.len()),
            format!("Unknown type \"{}\" in HEALTHCHECK (try CMD)", kind.to_uppercase()),
        ));
    } else if words.is_empty() {
        out.push(bad_arguments(node.rest_span(), "Missing command after HEALTHCHECK CMD"));
    }
    let mut healthcheck = intervals(node, &flags, out);
    if out.len() > errors_before {
        return None;
    }
    healthcheck.test.push(if json { "CMD" } else { "CMD-SHELL" }.to_owned());
    healthcheck.test.extend(words);
    Some((healthcheck, flags.spans()))
}

fn read_flags(node: &Node, out: &mut Vec<Diagnostic>) -> Flags {
    let specs = ["interval", "timeout", "start-period", "start-interval", "retries"];
    Flags::read(node, &specs.map(flag::text), out)
}

fn intervals(node: &Node, flags: &Flags, out: &mut Vec<Diagnostic>) -> Healthcheck {
    let mut interval = |name: &str| {
        let Some(value) = flags.text(name) else { return GoDuration::ZERO };
        let message = match GoDuration::parse(&value) {
            Ok(duration) if duration == GoDuration::ZERO => return duration,
            Ok(duration) if duration >= GoDuration::MILLISECOND => return duration,
            Ok(_) => format!("Interval \"{name}\" cannot be less than 1ms"),
            Err(error) => error.to_string(),
        };
        let span = flags.span(name).unwrap_or(node.keyword_span);
        out.push(
            Diagnostic::error(code::BAD_FLAG, span, message)
                .with_help(format!("a duration is a number with its unit: `--{name}=30s`")),
        );
        GoDuration::ZERO
    };
    Healthcheck {
        test: Vec::new(),
        interval: interval("interval"),
        timeout: interval("timeout"),
        start_period: interval("start-period"),
        start_interval: interval("start-interval"),
        retries: retries(node, flags, out),
    }
}

fn retries(node: &Node, flags: &Flags, out: &mut Vec<Diagnostic>) -> i32 {
    let Some(value) = flags.text("retries") else { return 0 };
    let message = match value.parse::<i32>() {
        Ok(retries) if retries >= 0 => return retries,
        Ok(retries) => format!("--retries cannot be negative ({retries})"),
        Err(_) => format!("--retries needs a number, not \"{value}\": invalid syntax"),
    };
    let span = flags.span("retries").unwrap_or(node.keyword_span);
    out.push(Diagnostic::error(code::BAD_FLAG, span, message));
    0
}
