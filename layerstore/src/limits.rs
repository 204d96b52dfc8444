//! Every limit that this crate puts on bytes from outside, with its reason.
//!
//! Going over a limit is an error that names it, never a truncation.

/// Longest path of one entry: Linux's PATH_MAX; nothing longer can be opened.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest single name in a path: NAME_MAX of every file system that images run on.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest symbolic link target: with the NUL behind it, the kernel refuses more than PATH_MAX.
pub const LINK_BYTES_MAX: usize = 4095;
/// Most entries of one layer: twenty times the largest images seen; bounds memory to some GiB.
pub const LAYER_ENTRIES_MAX: usize = 10_000_000;
/// Most bytes of one layer when decompressed: a bomb of zeros must end somewhere.
pub const LAYER_BYTES_MAX: u64 = 1 << 40;
/// Most bytes of names, links and attributes in one layer: they are all in memory at once, and ten
/// million files have less.
pub const LAYER_NAMES_MAX: u64 = 2 << 30;
/// Most directories that a layer needs and does not list: they cost as much as others, and an archive
/// can ask for two thousand of them with one name.
pub const IMPLIED_DIRECTORIES_MAX: usize = 1 << 18;
/// Most names that are looked up one by one while an archive's paths are settled: a minute's work,
/// where honest archives need a few for each directory that they do not list.
pub const PATH_STEPS_MAX: u64 = 20_000_000;
/// What a layer may decompress to, or have in holes, without an excuse.
pub const BOMB_FREE_BYTES: u64 = 64 << 30;
/// Beyond that, how many times its own size: gzip never reaches it.
pub const BOMB_RATIO_MAX: u64 = 2048;
/// Largest PAX header (or GNU long name) of one entry: xattrs of 64 KiB fit several times.
pub const PAX_BYTES_MAX: u64 = 1 << 20;
/// Most extended attributes of one entry: the kernel's list of names ends at 64 KiB.
pub const XATTRS_MAX: usize = 1024;
/// Longest name of an extended attribute: XATTR_NAME_MAX of Linux.
pub const XATTR_NAME_MAX: usize = 255;
/// Longest extended attribute value: XATTR_SIZE_MAX of Linux.
pub const XATTR_VALUE_MAX: usize = 65_536;
/// Most segments in the map of one sparse file: a map of a gigabyte must not be believed.
pub const SPARSE_SEGMENTS_MAX: usize = 1 << 20;
/// Largest TOC file that is read: entries at the maximum would need less than this.
pub const TOC_BYTES_MAX: u64 = 8 << 30;
/// Largest small file of the store (meta.json and such) that is read whole.
pub const RECORD_BYTES_MAX: u64 = 1 << 20;
/// Most symbolic links followed while one path is resolved: the kernel's own number.
pub const SYMLINKS_MAX: usize = 40;
/// Contents above this size get a pack of their own, so that they can be reflinked.
pub const OWN_PACK_BYTES: u64 = 4 << 20;
/// Most bytes of one shared pack; a new one is begun beyond it.
pub const PACK_BYTES_MAX: u64 = 4 << 30;
/// Most memory a zstd frame may ask of the decoder (log2): what `zstd --ultra` needs at most.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Most bytes of records that say what pieces of layers were compressed to, read for one layer: what
/// 70 GiB of layers have.
pub const PIECES_BYTES_MAX: u64 = 8 << 20;
/// Longest compressed piece that is believed: four times the largest chunk.
pub const PIECE_BYTES_MAX: u32 = 16 << 20;
/// Longest manifest or index: what registries accept at least, and what docker reads.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Longest image config: thousands of history entries fit.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Most layers of one image: four times what overlayfs can stack with short names.
pub const IMAGE_LAYERS_MAX: usize = 2000;
/// Most manifests in one index: a thousand platforms do not exist.
pub const INDEX_MANIFESTS_MAX: usize = 1024;
/// Deepest nesting of indexes in an archive: the index of an archive, of an image, and one more.
pub const INDEX_DEPTH_MAX: usize = 4;
/// Most members of an image archive: every layer, config and manifest of a thousand images.
pub const ARCHIVE_MEMBERS_MAX: usize = 100_000;
/// Most bytes that the small documents of one archive may have together while they are in memory.
pub const ARCHIVE_DOCUMENTS_MAX: u64 = 256 << 20;
/// Layers of a file that are read at once: each uses several threads of its own, and memory for what they hold.
pub const LAYERS_AT_ONCE: usize = 2;
