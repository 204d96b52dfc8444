//! Trees: a layer as directories and files in overlayfs's own form.

/// Where overlayfs looks for its marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverlayXattr {
    /// `trusted.overlay.*`: mounts made with CAP_SYS_ADMIN in the first user namespace.
    Trusted,
    /// `user.overlay.*`: mounts made with `userxattr` in a user namespace.
    User,
}
