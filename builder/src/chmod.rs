//! `--chmod`: an octal mode, or symbolic clauses as in chmod(1).
//!
//! ```text
//! clause(,clause)…    clause = [ugoa]* ( [+-=] [rwxXst]* | [+-=] [ugo] )+
//! ```
//!
//! Without `ugoa` a clause touches what the umask 022 lets through, so `+w` is `u+w` and `+x` is
//! `a+x`. The oddities of the reference's mode library are kept: `X` counts only after `+`, and
//! whether a file is executable is asked of the mode before any clause.

/// Bits that a mode without who does not reach.
const UMASK: u32 = 0o022;
/// Permissions and the two set-id bits; what `a` stands for.
const STANDARD: u32 = 0o6777;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;

/// A parsed mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Octal(u32),
    Symbolic(Vec<Op>),
}

/// One step of a symbolic mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Set(u32),
    Clear(u32),
    /// Sets the bits if the file is a directory or could be executed before.
    SetIfExecutable(u32),
    /// Takes one class's `rwx` to others.
    CopyFrom {
        from: u32,
        who: u32,
        mask: u32,
        how: u8,
    },
}

/// A text that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777, or a symbolic mode"
)]
pub struct ModeError {
    /// The text.
    pub text: String,
}

impl Mode {
    /// Reads a mode.
    pub fn parse(text: &str) -> Result<Self, ModeError> {
        let error = || ModeError { text: text.to_owned() };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
            return bits.map(|bits| Self { change: Change::Octal(bits) }).ok_or_else(error);
        }
        let mut ops = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause.as_bytes(), &mut ops).ok_or_else(error)?;
        }
        Ok(Self { change: Change::Symbolic(ops) })
    }

    /// The mode's bits if it is an octal one: directories that a copy creates get it, too.
    #[must_use]
    pub fn octal(&self) -> Option<u32> {
        match self.change {
            Change::Octal(bits) => Some(bits),
            Change::Symbolic(_) => None,
        }
    }

    /// The mode (07777) of an entry that had `old`.
    #[must_use]
    pub fn apply(&self, old: u32, is_dir: bool) -> u32 {
        match &self.change {
            Change::Octal(bits) => *bits,
            Change::Symbolic(ops) => {
                ops.iter().fold(old & 0o7777, |mode, op| op.apply(mode, old, is_dir))
            }
        }
    }
}

impl Op {
    fn apply(self, mode: u32, old: u32, is_dir: bool) -> u32 {
        match self {
            Self::Set(bits) => mode | bits,
            Self::Clear(bits) => mode & !bits,
            Self::SetIfExecutable(bits) if is_dir || old & EXECUTE != 0 => mode | bits,
            Self::SetIfExecutable(_) => mode,
            Self::CopyFrom { from, who, mask, how } => {
                let value = mode >> from & 7;
                let spread = (value << 6 | value << 3 | value) & who & mask;
                match how {
                    b'+' => mode | spread,
                    b'-' => mode & !spread,
                    _ => mode & !(who & mask & 0o777) | spread,
                }
            }
        }
    }
}

/// Reads one clause: who, then at least one operator with what it does.
fn parse_clause(clause: &[u8], ops: &mut Vec<Op>) -> Option<()> {
    let who_end = clause.iter().position(|byte| !matches!(byte, b'u' | b'g' | b'o' | b'a'))?;
    let who = clause[..who_end].iter().fold(0, |who, byte| {
        who | match byte {
            b'u' => 0o4700,
            b'g' => 0o2070,
            b'o' => 0o0007,
            _ => STANDARD,
        }
    });
    let mut rest = &clause[who_end..];
    // An `=` clears once for the clause; a second `=` clears again.
    while let [how @ (b'+' | b'-' | b'='), after @ ..] = rest {
        let end = after.iter().position(|byte| matches!(byte, b'+' | b'-' | b'='));
        let (actions, next) = after.split_at(end.unwrap_or(after.len()));
        parse_actions(*how, who, actions, ops)?;
        rest = next;
    }
    rest.is_empty().then_some(())
}

/// The letters after an operator.
fn parse_actions(how: u8, mut who: u32, actions: &[u8], ops: &mut Vec<Op>) -> Option<()> {
    let only_other = who != 0 && who & !0o007 == 0;
    let mut bits = 0;
    let mut execute_if = 0;
    let mut cleared = false;
    for action in actions {
        match action {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= EXECUTE,
            b'X' if how == b'+' => execute_if = EXECUTE,
            // The reference's library knows `X` after `+` only.
            b'X' => {}
            // Neither means anything for others alone.
            b's' | b't' if only_other => {}
            b's' => bits |= 0o6000,
            b't' => {
                who |= STICKY;
                bits |= STICKY;
            }
            b'u' | b'g' | b'o' => {
                if bits != 0 {
                    push_bits(how, who, bits, ops);
                    bits = 0;
                }
                cleared |= how == b'=';
                push_execute_if(who, &mut execute_if, ops);
                let from = match action {
                    b'u' => 6,
                    b'g' => 3,
                    _ => 0,
                };
                ops.push(copy_from(how, who, from));
            }
            _ => return None,
        }
    }
    if bits != 0 || (how == b'=' && !cleared) {
        push_bits(how, who, bits, ops);
    }
    push_execute_if(who, &mut execute_if, ops);
    Some(())
}

fn push_bits(how: u8, who: u32, bits: u32, ops: &mut Vec<Op>) {
    let reached = if who == 0 { !UMASK & bits } else { who & bits };
    match how {
        b'-' => ops.push(Op::Clear(reached)),
        b'+' => ops.push(Op::Set(reached)),
        _ => {
            ops.push(Op::Clear(if who == 0 { STANDARD } else { who }));
            ops.push(Op::Set(reached));
        }
    }
}

fn push_execute_if(who: u32, bits: &mut u32, ops: &mut Vec<Op>) {
    let bits = std::mem::take(bits);
    if bits != 0 {
        ops.push(Op::SetIfExecutable(if who == 0 { !UMASK & bits } else { who & bits }));
    }
}

fn copy_from(how: u8, who: u32, from: u32) -> Op {
    let (who, mask) = if who == 0 { (0o777, !UMASK) } else { (spread_classes(who), !0) };
    Op::CopyFrom { from, who, mask, how }
}

/// All nine bits of the classes that `who` names.
fn spread_classes(who: u32) -> u32 {
    [0o700, 0o070, 0o007].into_iter().filter(|class| who & class != 0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, old, is_dir, new) in [
            ("755", 0o4640, false, 0o755),
            ("0", 0o777, true, 0),
            ("04755", 0, false, 0o4755),
            ("a+x", 0o640, false, 0o751),
            ("+x", 0o640, false, 0o751),
            ("+w", 0o444, false, 0o644),
            ("+r", 0o000, false, 0o444),
            ("=rw", 0o777, false, 0o644),
            ("o=", 0o755, true, 0o750),
            ("go-r", 0o644, false, 0o600),
            ("u=rw,u+x,g-r", 0o640, false, 0o700),
            ("u=rw,u+x,g-r", 0o755, false, 0o715),
            ("u+s", 0o640, false, 0o4640),
            ("g+s", 0o640, false, 0o2640),
            ("o+s", 0o640, false, 0o640),
            ("+t", 0o640, false, 0o1640),
            ("o+t", 0o640, false, 0o640),
            ("g+w", 0o4755, false, 0o4775),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("a+X", 0o644, true, 0o755),
            ("go=u", 0o740, false, 0o777),
            ("g=u-w", 0o740, false, 0o750),
            ("o+g", 0o750, false, 0o755),
            ("g-o", 0o777, false, 0o707),
            ("a=r", 0o4777, false, 0o444),
            ("u-s,a+r", 0o4700, false, 0o744),
            ("u+x-w", 0o600, false, 0o500),
            ("u+", 0o600, false, 0o600),
        ] {
            let mode = Mode::parse(text).expect(text);
            assert_eq!(mode.apply(old, is_dir), new, "{text} on {old:o}");
        }
        assert_eq!(Mode::parse("0711").expect("a mode").octal(), Some(0o711));
        assert_eq!(Mode::parse("u+x").expect("a mode").octal(), None);
    }

    #[test]
    fn refused() {
        for text in
            ["", "999", "10000", "8", "u", "u,", "+x,", "x", "u+y", "+7", "0o755", "rwx", "u=rw,"]
        {
            assert!(Mode::parse(text).is_err(), "{text}");
        }
    }
}
