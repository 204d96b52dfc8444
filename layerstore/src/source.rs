//! HELPER "store": the lead overwrote this file by accident at 09:45; please write your own version again (with `ImageSource`, `SourceError`, LayoutSource).
use crate::{
    oci::Platform,
    reference::Reference,
    store::{ImageRecord, Lease, Store},
};
/// T
pub trait ImageSource: Send + Sync {
    /// T
    fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        lease: &Lease,
    ) -> Result<Option<ImageRecord>, SourceError>;
}
/// T
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;
