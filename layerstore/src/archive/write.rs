//! Writing the canonical tar.

/// What SOURCE_DATE_EPOCH does to the times in a layer's tar (design §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epoch {
    /// Times after it become it.
    Clamp(i64),
    /// All times become it.
    Set(i64),
}

impl Epoch {
    /// The word for it in file names.
    pub(crate) fn label(self) -> String {
        match self {
            Epoch::Clamp(seconds) => format!("clamp{seconds}"),
            Epoch::Set(seconds) => format!("set{seconds}"),
        }
    }
}

/// Writes entries as a canonical tar.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
}
