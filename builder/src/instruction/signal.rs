//! STOPSIGNAL's value: a signal by name or number.

/// Linux signal names without `SIG`, the real-time ones apart.
const NAMES: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// A text that is no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {text}")]
pub struct SignalError {
    /// The text.
    pub text: String,
}

/// Checks an expanded STOPSIGNAL value: a number other than 0, or a name in any case with or
/// without `SIG`. The value is kept as written; this only says whether it is one.
pub fn check(text: &str) -> Result<(), SignalError> {
    let good = match text.parse::<i64>() {
        Ok(number) => number != 0,
        Err(_) => is_name(text),
    };
    if good { Ok(()) } else { Err(SignalError { text: text.to_owned() }) }
}

fn is_name(text: &str) -> bool {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if NAMES.contains(&name) || name == "RTMIN" || name == "RTMAX" {
        return true;
    }
    let offset = |prefix: &str, most: u8| {
        name.strip_prefix(prefix).is_some_and(|number| {
            !number.starts_with('0')
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && number.parse::<u8>().is_ok_and(|number| number <= most)
        })
    };
    offset("RTMIN+", 15) || offset("RTMAX-", 14)
}
