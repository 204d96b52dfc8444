//! When to try again, and how long to wait before (S-99).
//!
//! Exponential backoff with full jitter, bounded in number and length; a `Retry-After` of the
//! registry wins over our own guess, unless it is longer than anyone wants to wait.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::error::{Fault, RegistryError};
use crate::limits;

/// How often and how patiently a request is repeated.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Attempts in all; 1 means no repetition.
    pub attempts: u32,
    /// Upper end of the first wait; it doubles each time.
    pub first_wait: Duration,
    /// Upper end of any wait of our own choice.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(400),
            longest_wait: Duration::from_secs(15),
        }
    }
}

/// Statuses that a later attempt may not see: the specification's, and those of proxies in use.
fn is_retryable_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

/// Whether a fault may pass.
///
/// A refused connection and an unknown host do not: the registry is down or misspelt, and whoever
/// waits wants to hear that at once.
fn may_pass(fault: &Fault) -> bool {
    match fault {
        Fault::Connection(_)
        | Fault::Timeout(_)
        | Fault::Truncated { .. }
        | Fault::RateLimited { .. } => true,
        Fault::Status { status, .. } => is_retryable_status(*status),
        _ => false,
    }
}

/// The wait that the registry asks for.
fn asked_wait(fault: &Fault) -> Option<Duration> {
    match fault {
        Fault::RateLimited { retry_after, .. } | Fault::Status { retry_after, .. } => *retry_after,
        _ => None,
    }
}

/// The wait before attempt `next` (the second is 1), or `None` if it should not be made.
pub(crate) fn wait_before(policy: RetryPolicy, next: u32, fault: &Fault) -> Option<Duration> {
    if next >= policy.attempts || !may_pass(fault) {
        return None;
    }
    match asked_wait(fault) {
        Some(asked) if asked > limits::RETRY_AFTER => None,
        Some(asked) => Some(asked),
        None => Some(backoff(policy, next)),
    }
}

/// A random wait between half of the attempt's bound and the bound.
fn backoff(policy: RetryPolicy, next: u32) -> Duration {
    let bound = policy
        .first_wait
        .saturating_mul(1 << (next.saturating_sub(1)).min(16))
        .min(policy.longest_wait);
    // A fresh RandomState is seeded by the operating system once per thread and then counted on:
    // enough to keep clients from marching in step, which is all that jitter is for.
    let random = RandomState::new().hash_one(next);
    let thousandth = u32::try_from(random % 1000).expect("because a remainder of 1000 fits");
    bound / 2 + bound / 2000 * thousandth
}

/// Repeats `attempt` while its fault may pass; `notify` hears of each wait before it happens.
pub(crate) fn run<T>(
    policy: RetryPolicy,
    notify: &dyn Fn(&RegistryError, Duration),
    mut attempt: impl FnMut() -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    let mut next = 1;
    loop {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(wait) = wait_before(policy, next, &error.fault) else {
            return Err(error);
        };
        notify(&error, wait);
        std::thread::sleep(wait);
        next += 1;
    }
}

/// Reads `Retry-After`: seconds, or a date that is compared with the answer's own `Date`, so that
/// no clock of ours has to agree with the registry's.
pub(crate) fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = parse_http_date(value)?;
    let now = parse_http_date(date?.trim())?;
    Some(Duration::from_secs(until.saturating_sub(now)))
}

/// Seconds since 1970 of an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn parse_http_date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next().filter(|word| word.len() == 3)?;
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? as u64 / 3 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next() != Some("GMT")
        || !(1970..=9999).contains(&year)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a Gregorian date: years counted from March put the leap day last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    const DAYS_TO_1970_03_01: u64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_TO_1970_03_01
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Codes, Operation};

    fn error(fault: Fault) -> RegistryError {
        RegistryError {
            operation: Operation::Pull,
            registry: String::new(),
            repository: String::new(),
            object: None,
            fault: Box::new(fault),
        }
    }

    fn status(status: u16, seconds: Option<u64>) -> Fault {
        let retry_after = seconds.map(Duration::from_secs);
        Fault::Status { status, retry_after, codes: Codes::default() }
    }

    #[test]
    fn dates_and_seconds() {
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse_http_date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for bad in ["", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT", "x, y"] {
            assert_eq!(parse_http_date(bad), None, "{bad}");
        }
        assert_eq!(parse_retry_after(" 7 ", None), Some(Duration::from_secs(7)));
        let later = "Sun, 06 Nov 1994 08:49:47 GMT";
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_retry_after(later, date), Some(Duration::from_secs(10)));
        assert_eq!(parse_retry_after(later, None), None);
        assert_eq!(parse_retry_after("-3", None), None);
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        let policy = RetryPolicy::default();
        for next in 1..40 {
            let wait = backoff(policy, next);
            assert!(wait <= policy.longest_wait && wait >= policy.first_wait / 2, "{wait:?}");
        }
        assert_eq!(wait_before(policy, 1, &status(429, Some(3))), Some(Duration::from_secs(3)));
        assert_eq!(wait_before(policy, 1, &status(503, Some(100_000))), None);
        assert_eq!(wait_before(policy, 1, &status(404, None)), None);
        assert_eq!(wait_before(policy, 5, &status(500, None)), None);
    }

    #[test]
    fn stops_at_success_at_the_last_attempt_and_at_lasting_faults() {
        let first_wait = Duration::from_micros(10);
        let policy = RetryPolicy { attempts: 3, first_wait, longest_wait: first_wait };
        let count = |limit: usize, code: u16| {
            let mut calls = 0;
            let outcome = run(policy, &|_, _| {}, || {
                calls += 1;
                if calls < limit { Err(error(status(code, None))) } else { Ok(()) }
            });
            (calls, outcome.is_ok())
        };
        assert_eq!(count(1, 500), (1, true));
        assert_eq!(count(3, 500), (3, true));
        assert_eq!(count(9, 500), (3, false));
        assert_eq!(count(9, 404), (1, false));
    }
}
