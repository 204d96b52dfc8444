//! `--output`: what was typed, parsed.

use crate::error::CommandError;
use crate::values::{self, Field};
use lapstrake_layerstore::reference::Reference;
use std::path::PathBuf;

/// Where a result goes beside the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// An OCI archive.
    OciArchive { dest: Dest, compression: CompressionChoice, names: Vec<Reference> },
    /// An OCI image layout in a directory.
    OciDirectory { dest: PathBuf, compression: CompressionChoice, names: Vec<Reference> },
    /// An archive that `docker load` reads.
    DockerArchive { dest: Dest, names: Vec<Reference> },
    /// The root file system as a tar.
    Tar { dest: Dest },
    /// The root file system as files.
    Local { dest: PathBuf },
    /// The image in the store, under further names, and perhaps pushed.
    Image { names: Vec<Reference>, push: bool, compression: CompressionChoice },
}

impl Output {
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

/// The codec of layers and its level, where they were chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CompressionChoice {
    pub(super) codec: Option<Codec>,
    pub(super) level: Option<u32>,
}

/// A codec as `compression=` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Gzip,
    Zstd,
    Uncompressed,
}

/// Parses one `--output`. `type` may be left out where a path says enough: `-o DIR`, `-o -`.
pub(super) fn parse(text: &str) -> Result<Output, CommandError> {
    let fields = values::fields("--output", text)?;
    if let [Field { value: None, .. }] = fields.as_slice() {
        let local = Output::Local { dest: text.into() };
        return Ok(if text == "-" { Output::Tar { dest: Dest::Stdout } } else { local });
    }
    Draft::default().take(text, fields)?.finish(text)
}

/// The fields as they come.
#[derive(Debug, Default)]
struct Draft {
    kind: String,
    dest: Option<String>,
    compression: CompressionChoice,
    names: Vec<Reference>,
    push: bool,
    tar: Option<bool>,
}

impl Draft {
    fn take(mut self, text: &str, fields: Vec<Field>) -> Result<Self, CommandError> {
        let bad = |why: String| CommandError::usage(format!("--output {text}: {why}"));
        for field in fields {
            let value = field.value.clone().unwrap_or_default();
            match field.key.as_str() {
                "type" => self.kind = value,
                "dest" | "destination" => self.dest = Some(value),
                "compression" => self.compression.codec = Some(codec(&value).map_err(bad)?),
                "compression-level" => {
                    let level =
                        value.parse().map_err(|_| bad(format!("`{value}` is not a level")))?;
                    self.compression.level = Some(level);
                }
                "name" => {
                    for name in value.split(',') {
                        self.names
                            .push(Reference::parse(name).map_err(|error| bad(error.to_string()))?);
                    }
                }
                "push" => self.push = values::boolean("--output", &field)?,
                "tar" => self.tar = Some(values::boolean("--output", &field)?),
                "oci-mediatypes" if values::boolean("--output", &field)? => {}
                // Both hold in any case: the store is the only place, and what is in it is
                // unpacked when needed.
                "store" | "unpack" => {}
                other => {
                    return Err(bad(format!(
                        "`{other}` is not supported; there are type, dest, compression, compression-level, name, push and tar"
                    )));
                }
            }
        }
        Ok(self)
    }

    fn finish(self, text: &str) -> Result<Output, CommandError> {
        let bad = |why: &str| CommandError::usage(format!("--output {text}: {why}"));
        let Self { kind, dest, compression, names, push, tar } = self;
        let file = |dest: Option<String>| match dest.as_deref() {
            Some("") => Err(bad("dest is empty")),
            Some("-") | None => Ok(Dest::Stdout),
            Some(path) => Ok(Dest::File(path.into())),
        };
        let directory = |dest: Option<String>| {
            let dest = dest.filter(|dest| !dest.is_empty() && dest != "-");
            dest.map(PathBuf::from).ok_or_else(|| bad("it needs dest=DIRECTORY"))
        };
        if compression != CompressionChoice::default()
            && matches!(kind.as_str(), "tar" | "local" | "docker")
        {
            return Err(bad("compression is for the layers of oci, image and registry outputs"));
        }
        match kind.as_str() {
            "oci" if tar == Some(false) => {
                Ok(Output::OciDirectory { dest: directory(dest)?, compression, names })
            }
            "oci" => Ok(Output::OciArchive { dest: file(dest)?, compression, names }),
            // As docker has it: without a file it means the local images, which is the store.
            "docker" if dest.is_none() => Ok(Output::Image { names, push: false, compression }),
            "docker" => Ok(Output::DockerArchive { dest: file(dest)?, names }),
            "tar" => Ok(Output::Tar { dest: file(dest)? }),
            "local" => Ok(Output::Local { dest: directory(dest)? }),
            "image" => Ok(Output::Image { names, push, compression }),
            "registry" => Ok(Output::Image { names, push: true, compression }),
            "cacheonly" => Ok(Output::Image { names: Vec::new(), push: false, compression }),
            "" => Err(bad("it needs type=oci|docker|tar|local|image|registry")),
            other => Err(bad(&format!(
                "there is no output type `{other}`; there are oci, docker, tar, local, image \
                     and registry"
            ))),
        }
    }
}

fn codec(text: &str) -> Result<Codec, String> {
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
        let none = CompressionChoice::default();
        let file = |path: &str| Dest::File(path.into());
        let zstd = CompressionChoice { codec: Some(Codec::Zstd), level: Some(19) };
        let cases = [
            (
                "type=oci,dest=a.tar",
                Output::OciArchive { dest: file("a.tar"), compression: none, names: Vec::new() },
            ),
            (
                "type=oci,dest=d,tar=false,compression=zstd,compression-level=19",
                Output::OciDirectory { dest: "d".into(), compression: zstd, names: Vec::new() },
            ),
            ("type=docker,dest=-", Output::DockerArchive { dest: Dest::Stdout, names: Vec::new() }),
            ("type=tar", Output::Tar { dest: Dest::Stdout }),
            ("-", Output::Tar { dest: Dest::Stdout }),
            ("out", Output::Local { dest: "out".into() }),
            (
                "type=registry,\"name=a,b:2\"",
                Output::Image {
                    names: vec![Reference::parse("a").unwrap(), Reference::parse("b:2").unwrap()],
                    push: true,
                    compression: none,
                },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for bad in [
            "type=oci,dest=",
            "type=local",
            "type=zip",
            "dest=x",
            "type=oci,what=1",
            "type=tar,compression=zstd",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
