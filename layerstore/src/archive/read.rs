//! Reading tars.

/// Limits.
#[derive(Debug)]
pub struct ReadLimits {}
/// Member.
#[derive(Debug)]
pub struct Member {}
/// Kind.
#[derive(Debug)]
pub enum MemberKind {}
/// Reader.
#[derive(Debug)]
pub struct TarReader {}
