//! Which names of a view are one file.
//!
//! ```text
//! layer: bin/busybox, bin/[ = bin/busybox        view, in its order: bin/[, bin/busybox
//! written out:                                   bin/[ is the file, bin/busybox a link to it
//! ```
//!
//! A hard link shows the file that it names ([`Found`]); who writes a view out as a tree or an archive
//! makes a link of it again. The file stands where the view has its first name, which need not be the
//! one that its layer calls so; that one may even be hidden.

use super::{Found, View};
use crate::path::LayerPath;
use std::collections::HashMap;

/// The files of a view that have several names, while its entries are gone through in order.
#[derive(Debug)]
pub struct Names {
    /// By layer and by the name that the layer has the file under: the name that was seen first.
    first: HashMap<(usize, LayerPath), Option<LayerPath>>,
}

impl Names {
    /// Finds the files that have several names.
    pub fn of(view: &View) -> Names {
        let linked = view.iter().filter_map(|found| Some((found.layer?, found.link_target?)));
        Names { first: linked.map(|file| (file, None)).collect() }
    }

    /// The name under which the file at `found` was seen before, if it was; else it is seen now.
    pub fn earlier(&mut self, found: &Found) -> Option<LayerPath> {
        if self.first.is_empty() {
            return None;
        }
        let name = found.link_target.as_ref().unwrap_or(&found.entry.path);
        let first = self.first.get_mut(&(found.layer?, name.clone()))?;
        if first.is_none() {
            *first = Some(found.entry.path.clone());
            return None;
        }
        first.clone()
    }
}
