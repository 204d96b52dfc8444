//! The small languages inside flag values: `a=b,c=d` lists, sizes, durations, limits, host entries.
//!
//! All are as docker reads them. Nothing here touches a file or the environment.

use crate::error::CommandError;
use lapstrake_runner::{Resource, Ulimit};

/// One field of a comma-separated value, `key` or `key=value`; keys are lower-cased, as docker
/// does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) key: String,
    /// The key in the letters that were typed.
    pub(crate) written: String,
    /// None when there was no `=`.
    pub(crate) value: Option<String>,
}

/// Splits `type=oci,"dest=a,b.tar"` at its commas. A field may be quoted as in a CSV file: `"`
/// around the field, `""` inside it for one quote.
pub(crate) fn fields(flag: &str, text: &str) -> Result<Vec<Field>, CommandError> {
    let field = |raw: String| match raw.split_once('=') {
        Some((key, value)) => Field {
            key: key.trim().to_lowercase(),
            written: key.trim().to_owned(),
            value: Some(value.to_owned()),
        },
        None => {
            Field { key: raw.trim().to_lowercase(), written: raw.trim().to_owned(), value: None }
        }
    };
    Ok(records(flag, text)?.into_iter().map(field).collect())
}

fn records(flag: &str, text: &str) -> Result<Vec<String>, CommandError> {
    let invalid = |why: &str| CommandError::usage(format!("{flag} {text}: {why}"));
    let mut all = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut one = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => one.push('"'),
                    Some('"') => break,
                    Some(c) => one.push(c),
                    None => return Err(invalid("a quote is not closed")),
                }
            }
            if chars.peek().is_some_and(|&c| c != ',') {
                return Err(invalid("after a quoted field there must be a comma"));
            }
        }
        while let Some(c) = chars.next_if(|&c| c != ',') {
            one.push(c);
        }
        all.push(one);
        if chars.next().is_none() {
            return Ok(all);
        }
    }
}

/// A yes or no as Go reads it; a field without a value means yes.
pub(crate) fn boolean(flag: &str, field: &Field) -> Result<bool, CommandError> {
    match field.value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(CommandError::usage(format!(
            "{flag}: {}={other} is neither true nor false",
            field.key
        ))),
    }
}

/// A switch that may be said with a value, as scripts for docker do: `--push=false`, `--pull=1`.
pub(crate) fn switch() -> clap::builder::ValueParser {
    let parse = |text: &str| match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it is true or false"),
    };
    clap::builder::ValueParser::new(parse)
}

/// A number of bytes: `67108864`, `64m`, `1.5GB`, `512MiB`; all units are powers of 1024, as
/// docker has them.
pub(crate) fn size_bytes(text: &str) -> Result<u64, String> {
    let invalid = || format!("`{text}` is not a size; write 64m, 1g or a number of bytes");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b')
    {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(invalid()),
    };
    let scale = 1_u64 << (10 * power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(invalid);
    }
    let value: f64 = number.parse().map_err(|_| invalid())?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a fraction of a unit needs no more than a float has"
    )]
    let product = value * scale as f64;
    #[expect(clippy::cast_sign_loss, reason = "only digits and a point were let through")]
    let bytes = product as u64;
    if product.is_finite() { Ok(bytes) } else { Err(invalid()) }
}

/// A duration in seconds as Go writes it, `24h`, `1h30m`, `90s`; also days, `7d`.
pub(crate) fn duration_seconds(text: &str) -> Result<u64, String> {
    let invalid = || format!("`{text}` is not a duration; write 30m, 24h or 7d");
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        let scale = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return Err(invalid()),
        };
        total = number.checked_mul(scale).and_then(|n| total.checked_add(n)).ok_or_else(invalid)?;
        rest = &rest[digits + 1..];
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total) }
}

/// `--ulimit nofile=1024:2048`, `nofile=1024`, `core=-1` (unlimited).
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text.split_once('=').ok_or("write it as NAME=SOFT[:HARD]")?;
    let resource =
        Resource::from_name(name).ok_or_else(|| format!("there is no limit called `{name}`"))?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (limit(soft)?, limit(hard)?);
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        return Err(format!("the soft limit of {name} is above the hard one"));
    }
    Ok(Ulimit { resource, soft, hard })
}

fn limit(text: &str) -> Result<Option<u64>, String> {
    match text {
        "-1" | "unlimited" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| format!("`{text}` is not a limit")),
    }
}

/// `--add-host name:ip` or `name=ip`; `host-gateway` is this machine, which for steps on the host's
/// network is loopback.
pub(crate) fn extra_host(text: &str) -> Result<(String, String), String> {
    let separator = text.find(['=', ':']).ok_or("write it as NAME:IP")?;
    let (name, address) = (&text[..separator], &text[separator + 1..]);
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(format!("`{name}` is not a host name"));
    }
    let name = name.to_lowercase();
    if bare == "host-gateway" {
        return Ok((name, "127.0.0.1".to_owned()));
    }
    let parsed: std::net::IpAddr =
        bare.parse().map_err(|_| format!("`{address}` is not an IP address"))?;
    Ok((name, parsed.to_string()))
}

/// `KEY=VALUE`; the key may not be empty.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        None if !text.is_empty() => Ok((text.to_owned(), String::new())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(String, Option<String>)> {
        let fields = fields("--flag", text).expect("the test gives valid text");
        fields.into_iter().map(|field| (field.key, field.value)).collect()
    }

    #[test]
    fn fields_are_split_as_in_csv() {
        let one = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        assert_eq!(split("type=oci,dest=a=b.tar"), [one("type", "oci"), one("dest", "a=b.tar")]);
        assert_eq!(split("Type=x,\"dest=a,b\"\"c\""), [one("type", "x"), one("dest", "a,b\"c")]);
        assert_eq!(split("push"), [("push".to_owned(), None)]);
        assert!(fields("--flag", "\"a").is_err());
        assert!(fields("--flag", "\"a\"b").is_err());
    }

    #[test]
    fn sizes_durations_limits_hosts() {
        assert_eq!(size_bytes("64m"), Ok(64 << 20));
        assert_eq!(size_bytes("1.5KiB"), Ok(1536));
        assert_eq!(size_bytes("17"), Ok(17));
        assert!(size_bytes("m").is_err() && size_bytes("1x").is_err() && size_bytes("-1").is_err());
        assert!(size_bytes("99999999999999t").is_err());
        assert_eq!(duration_seconds("1h30m"), Ok(5400));
        assert_eq!(duration_seconds("7d"), Ok(604_800));
        assert!(duration_seconds("").is_err() && duration_seconds("5").is_err());
        let nofile = ulimit("nofile=1024:2048").expect("it is valid");
        assert_eq!((nofile.soft, nofile.hard), (Some(1024), Some(2048)));
        assert!(ulimit("nofile=3:2").is_err() && ulimit("files=1").is_err());
        assert_eq!(extra_host("db:10.0.0.1"), Ok(("db".into(), "10.0.0.1".into())));
        assert_eq!(extra_host("Db:10.0.0.1"), Ok(("db".into(), "10.0.0.1".into())));
        assert_eq!(extra_host("db=::1"), Ok(("db".into(), "::1".into())));
        assert_eq!(extra_host("db:[::1]"), Ok(("db".into(), "::1".into())));
        assert!(extra_host("db:ten").is_err());
    }
}
