//! `--output`: what was typed, parsed.

use super::annotations;
use crate::error::CommandError;
use crate::values::{self, Field};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::Annotation;
use std::path::PathBuf;

/// Where a result goes beside the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// An OCI archive.
    OciArchive { dest: Dest, form: Form, names: Vec<Reference> },
    /// An OCI image layout in a directory.
    OciDirectory { dest: PathBuf, form: Form, names: Vec<Reference> },
    /// An archive that `docker load` reads.
    DockerArchive { dest: Dest, names: Vec<Reference> },
    /// The root file system as a tar.
    Tar { dest: Dest },
    /// The root file system as files.
    Local { dest: PathBuf, split: Option<bool> },
    /// The image in the store, under further names, and perhaps pushed.
    Image { names: Vec<Reference>, push: bool, form: Form },
}

impl Output {
    /// The `type=` that it was asked for with.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::OciArchive { .. } | Self::OciDirectory { .. } => "oci",
            Self::DockerArchive { .. } => "docker",
            Self::Tar { .. } => "tar",
            Self::Local { .. } => "local",
            Self::Image { .. } => "image",
        }
    }

    /// Whether its bytes go to standard output.
    pub(super) fn is_stdout(&self) -> bool {
        match self {
            Self::OciArchive { dest, .. }
            | Self::DockerArchive { dest, .. }
            | Self::Tar { dest } => *dest == Dest::Stdout,
            Self::OciDirectory { .. } | Self::Local { .. } | Self::Image { .. } => false,
        }
    }
}

/// A file, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dest {
    File(PathBuf),
    Stdout,
}

/// How the parts of an image go out, where that was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) codec: Option<Codec>,
    pub(super) level: Option<u32>,
    /// Layers that came compressed are compressed anew.
    pub(super) force: bool,
    pub(super) docker_types: bool,
    pub(super) annotations: Vec<Annotation>,
}

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) output: Output,
    /// Whether times in layers are to be those of SOURCE_DATE_EPOCH, where that was said.
    pub(super) rewrite_timestamp: Option<bool>,
}

/// A codec as `compression=` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Gzip,
    Zstd,
    Uncompressed,
}

/// Parses one `--output`. `type` may be left out where a path says enough: `-o DIR`, `-o -`.
pub(super) fn parse(text: &str) -> Result<Asked, CommandError> {
    let fields = values::fields("--output", text)?;
    if let [Field { value: None, .. }] = fields.as_slice() {
        let local = Output::Local { dest: text.into(), split: None };
        let output = if text == "-" { Output::Tar { dest: Dest::Stdout } } else { local };
        return Ok(Asked { output, rewrite_timestamp: None });
    }
    let draft = Draft::default().take(text, fields)?;
    Ok(Asked { rewrite_timestamp: draft.rewrite_timestamp, output: draft.finish(text)? })
}

/// The fields as they come.
#[derive(Debug, Default)]
struct Draft {
    kind: String,
    dest: Option<String>,
    form: Form,
    names: Vec<Reference>,
    push: bool,
    tar: Option<bool>,
    split: Option<bool>,
    rewrite_timestamp: Option<bool>,
}

impl Draft {
    fn take(mut self, text: &str, fields: Vec<Field>) -> Result<Self, CommandError> {
        let bad = |why: String| CommandError::usage(format!("--output {text}: {why}"));
        let yes = |field: &Field| values::boolean("--output", field);
        for field in fields {
            let value = field.value.clone().unwrap_or_default();
            match field.key.as_str() {
                "type" => self.kind = value,
                "dest" | "destination" => self.dest = Some(value),
                "compression" => self.form.codec = Some(codec(&value).map_err(bad)?),
                "compression-level" => {
                    let level =
                        value.parse().map_err(|_| bad(format!("`{value}` is not a level")))?;
                    self.form.level = Some(level);
                }
                "name" => {
                    for name in value.split(',') {
                        self.names
                            .push(Reference::parse(name).map_err(|error| bad(error.to_string()))?);
                    }
                }
                "push" => self.push = yes(&field)?,
                "tar" => self.tar = Some(yes(&field)?),
                "oci-mediatypes" => self.form.docker_types = !yes(&field)?,
                "force-compression" => self.form.force = yes(&field)?,
                "rewrite-timestamp" => self.rewrite_timestamp = Some(yes(&field)?),
                "platform-split" => self.split = Some(yes(&field)?),
                // Both hold in any case: the store is the only place, and what is in it is
                // unpacked when needed.
                "store" | "unpack" => {}
                other => match annotations::parse_field(&field.written, &value) {
                    Some(annotation) => self.form.annotations.push(annotation.map_err(bad)?),
                    None => {
                        return Err(bad(format!(
                            "`{other}` is not supported; there are type, dest, compression, \
                             compression-level, force-compression, rewrite-timestamp, oci-mediatypes, \
                             annotation.KEY, name, push, platform-split and tar"
                        )));
                    }
                },
            }
        }
        Ok(self)
    }

    fn finish(self, text: &str) -> Result<Output, CommandError> {
        let bad = |why: &str| CommandError::usage(format!("--output {text}: {why}"));
        let Self { kind, dest, form, names, push, tar, split, .. } = self;
        let file = |dest: Option<String>| match dest.as_deref() {
            Some("") => Err(bad("dest is empty")),
            Some("-") | None => Ok(Dest::Stdout),
            Some(path) => Ok(Dest::File(path.into())),
        };
        let directory = |dest: Option<String>| {
            let dest = dest.filter(|dest| !dest.is_empty() && dest != "-");
            dest.map(PathBuf::from).ok_or_else(|| bad("it needs dest=DIRECTORY"))
        };
        let is_image = matches!(kind.as_str(), "oci" | "image" | "registry" | "cacheonly");
        if form != Form::default() && !(is_image || kind == "docker" && dest.is_none()) {
            return Err(bad(
                "compression, media types and annotations are for oci, image and registry outputs",
            ));
        }
        if split.is_some() && kind != "local" {
            return Err(bad("platform-split is for local outputs"));
        }
        match kind.as_str() {
            "oci" if tar == Some(false) => {
                Ok(Output::OciDirectory { dest: directory(dest)?, form, names })
            }
            "oci" => Ok(Output::OciArchive { dest: file(dest)?, form, names }),
            // As docker has it: without a file it means the local images, which is the store.
            "docker" if dest.is_none() => Ok(Output::Image { names, push: false, form }),
            "docker" => Ok(Output::DockerArchive { dest: file(dest)?, names }),
            "tar" => Ok(Output::Tar { dest: file(dest)? }),
            "local" => Ok(Output::Local { dest: directory(dest)?, split }),
            "image" => Ok(Output::Image { names, push, form }),
            "registry" => Ok(Output::Image { names, push: true, form }),
            "cacheonly" => Ok(Output::Image { names: Vec::new(), push: false, form }),
            "" => Err(bad("it needs type=oci|docker|tar|local|image|registry")),
            other => Err(bad(&format!(
                "there is no output type `{other}`; there are oci, docker, tar, local, image \
                     and registry"
            ))),
        }
    }
}

pub(super) fn codec(text: &str) -> Result<Codec, String> {
    match text {
        "gzip" => Ok(Codec::Gzip),
        "zstd" => Ok(Codec::Zstd),
        "uncompressed" => Ok(Codec::Uncompressed),
        other => {
            Err(format!("there is no compression `{other}`; there are gzip, zstd and uncompressed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_parsed() {
        let none = Form::default;
        let file = |path: &str| Dest::File(path.into());
        let zstd = Form { codec: Some(Codec::Zstd), level: Some(19), force: true, ..none() };
        let cases = [
            (
                "type=oci,dest=a.tar",
                Output::OciArchive { dest: file("a.tar"), form: none(), names: Vec::new() },
            ),
            (
                "type=oci,dest=d,tar=false,compression=zstd,compression-level=19,force-compression",
                Output::OciDirectory { dest: "d".into(), form: zstd, names: Vec::new() },
            ),
            ("type=docker,dest=-", Output::DockerArchive { dest: Dest::Stdout, names: Vec::new() }),
            ("type=tar", Output::Tar { dest: Dest::Stdout }),
            ("-", Output::Tar { dest: Dest::Stdout }),
            ("out", Output::Local { dest: "out".into(), split: None }),
            (
                "type=local,dest=out,platform-split=false",
                Output::Local { dest: "out".into(), split: Some(false) },
            ),
            (
                "type=registry,\"name=a,b:2\"",
                Output::Image {
                    names: vec![Reference::parse("a").unwrap(), Reference::parse("b:2").unwrap()],
                    push: true,
                    form: none(),
                },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap().output, expected, "{text}");
        }
        for bad in [
            "type=oci,dest=",
            "type=local",
            "type=zip",
            "dest=x",
            "type=oci,what=1",
            "type=tar,compression=zstd",
            "type=docker,dest=x,annotation.a=b",
            "type=oci,platform-split=true",
            "type=oci,annotation-what.a=b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
