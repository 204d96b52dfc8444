//! Whether this machine runs programs that were made for another processor: natively, or through an
//! emulator that is registered with binfmt_misc.
//!
//! Settings lie in places that containers do not see, so it is tried: the smallest program of that
//! processor (an ELF header and a call of `exit(0)`) is written and executed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

/// Where registered handlers are listed, on machines that show them.
const REGISTRY: &str = "/proc/sys/fs/binfmt_misc";
/// The name of the program that is tried.
const PROBE_NAME: &str = "foreign-probe";
/// How often a probe that another thread's fork still holds open is tried again.
const BUSY_RETRIES: u32 = 20;
/// How long to wait between: a fork is over in less.
const BUSY_WAIT: Duration = Duration::from_millis(5);

/// Why programs of another platform cannot be run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// Programs of another operating system.
    #[error("programs for {os} cannot be run on linux")]
    System {
        /// The operating system.
        os: String,
    },
    /// No handler.
    #[error(
        "programs for {platform} cannot be run on this machine: it is another processor, and no handler \
         for them ({handler}) is registered with binfmt_misc"
    )]
    NoHandler {
        /// The platform.
        platform: String,
        /// The emulator that could be one.
        handler: &'static str,
    },
    /// A handler whose emulator is not where it should be.
    #[error(
        "programs for {platform} cannot be run on this machine: the emulator that is registered for \
         them with binfmt_misc ({handler}) is not there"
    )]
    NoEmulator {
        /// The platform.
        platform: String,
        /// The emulator's usual name.
        handler: &'static str,
    },
    /// A handler that works only outside of images.
    #[error(
        "programs for {platform} cannot be run in an image: the handler `{handler}` is registered with \
         binfmt_misc without the flag F, so that its emulator would have to be in the image"
    )]
    NotFixed {
        /// The platform.
        platform: String,
        /// The handler's name.
        handler: String,
    },
    /// A handler that does not do its work.
    #[error("programs for {platform} cannot be run on this machine: {handler} fails ({how})")]
    Broken {
        /// The platform.
        platform: String,
        /// The emulator's usual name.
        handler: &'static str,
        /// How the smallest program ended.
        how: String,
    },
}

/// What is known of a processor.
struct Machine {
    /// In Go's words.
    architecture: &'static str,
    /// `e_machine`.
    number: u16,
    wide: bool,
    big_endian: bool,
    flags: u32,
    /// `exit(0)`.
    code: &'static [u8],
    handler: &'static str,
}

const MACHINES: [Machine; 10] = [
    Machine {
        architecture: "amd64",
        number: 62,
        wide: true,
        big_endian: false,
        flags: 0,
        // mov edi, 0; mov eax, 60; syscall
        code: &[0xbf, 0, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05],
        handler: "qemu-x86_64",
    },
    Machine {
        architecture: "386",
        number: 3,
        wide: false,
        big_endian: false,
        flags: 0,
        // xor ebx, ebx; mov eax, 1; int 0x80
        code: &[0x31, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80],
        handler: "qemu-i386",
    },
    Machine {
        architecture: "arm64",
        number: 183,
        wide: true,
        big_endian: false,
        flags: 0,
        // mov x0, 0; mov x8, 93; svc 0
        code: &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4],
        handler: "qemu-aarch64",
    },
    Machine {
        architecture: "arm",
        number: 40,
        wide: false,
        big_endian: false,
        flags: 0x0500_0000,
        // mov r0, 0; mov r7, 1; svc 0
        code: &[0, 0, 0xa0, 0xe3, 1, 0x70, 0xa0, 0xe3, 0, 0, 0, 0xef],
        handler: "qemu-arm",
    },
    Machine {
        architecture: "riscv64",
        number: 243,
        wide: true,
        big_endian: false,
        flags: 4,
        // li a0, 0; li a7, 93; ecall
        code: &[0x13, 5, 0, 0, 0x93, 0x08, 0xd0, 0x05, 0x73, 0, 0, 0],
        handler: "qemu-riscv64",
    },
    Machine {
        architecture: "ppc64le",
        number: 21,
        wide: true,
        big_endian: false,
        flags: 2,
        // li r0, 1; li r3, 0; sc
        code: &[1, 0, 0, 0x38, 0, 0, 0x60, 0x38, 2, 0, 0, 0x44],
        handler: "qemu-ppc64le",
    },
    Machine {
        architecture: "s390x",
        number: 22,
        wide: true,
        big_endian: true,
        flags: 0,
        // lghi %r2, 0; svc 1
        code: &[0xa7, 0x29, 0, 0, 0x0a, 1],
        handler: "qemu-s390x",
    },
    Machine {
        architecture: "mips64le",
        number: 8,
        wide: true,
        big_endian: false,
        flags: 0x8000_0007,
        // li v0, 5058; li a0, 0; syscall
        code: &[0xc2, 0x13, 2, 0x24, 0, 0, 4, 0x24, 0x0c, 0, 0, 0],
        handler: "qemu-mips64el",
    },
    Machine {
        architecture: "mips64",
        number: 8,
        wide: true,
        big_endian: true,
        flags: 0x8000_0007,
        code: &[0x24, 2, 0x13, 0xc2, 0x24, 4, 0, 0, 0, 0, 0, 0x0c],
        handler: "qemu-mips64",
    },
    Machine {
        architecture: "loong64",
        number: 258,
        wide: true,
        big_endian: false,
        flags: 0x43,
        // ori a0, zero, 0; ori a7, zero, 93; syscall 0
        code: &[4, 0, 0x80, 0x03, 0x0b, 0x74, 0x81, 0x03, 0, 0, 0x2b, 0],
        handler: "qemu-loongarch64",
    },
];

/// Whether programs for a platform can be run in images here; `scratch` is a directory to try it in.
///
/// What cannot be found out counts as possible: then the program itself shows it.
pub fn can_run(os: &str, architecture: &str, scratch: &Path) -> Result<(), ForeignError> {
    if os != "linux" {
        return Err(ForeignError::System { os: os.to_owned() });
    }
    let native = Machine::of_this();
    if native.is_some_and(|native| native.architecture == architecture) {
        return Ok(());
    }
    let Some(machine) = MACHINES.iter().find(|known| known.architecture == architecture) else {
        return Ok(());
    };
    let (platform, handler) = (format!("{os}/{architecture}"), machine.handler);
    match machine.try_in(scratch) {
        Tried::Ran => match machine.unfixed_handler() {
            Some(handler) => Err(ForeignError::NotFixed { platform, handler }),
            None => Ok(()),
        },
        Tried::NoHandler => Err(ForeignError::NoHandler { platform, handler }),
        Tried::NoEmulator => Err(ForeignError::NoEmulator { platform, handler }),
        Tried::Failed(how) => Err(ForeignError::Broken { platform, handler, how }),
        Tried::Unknown => Ok(()),
    }
}

/// What became of the smallest program.
#[derive(Debug, PartialEq, Eq)]
enum Tried {
    Ran,
    NoHandler,
    NoEmulator,
    Failed(String),
    Unknown,
}

impl Machine {
    /// The one that this program was compiled for.
    fn of_this() -> Option<&'static Machine> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            "loongarch64" => "loong64",
            other => other,
        };
        MACHINES.iter().find(|known| known.architecture == architecture)
    }

    fn try_in(&self, scratch: &Path) -> Tried {
        let path = scratch.join(format!("{PROBE_NAME}-{}", self.architecture));
        let tried = self.write(&path).and_then(|()| run(&path));
        // A file that stays goes with the scratch directory.
        let _removed = fs::remove_file(&path);
        match tried {
            Ok(tried) => tried,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOEXEC) => Tried::NoHandler,
                Some(Errno::NOENT) => Tried::NoEmulator,
                _ => Tried::Unknown,
            },
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(path)?;
        file.write_all(&self.program())
    }

    /// ```text
    /// ELF header │ one program header: all of the file, readable and executable │ code
    /// ```
    fn program(&self) -> Vec<u8> {
        let (header, program) = if self.wide { (64, 56) } else { (52, 32) };
        // Page-aligned, and where every processor here may have programs.
        let base: u64 = 0x40_0000;
        let size = header + program + self.code.len() as u64;
        let mut out = Out { bytes: Vec::new(), machine: self };
        let (class, order) = (1 + u8::from(self.wide), 1 + u8::from(self.big_endian));
        out.bytes.extend([0x7f, b'E', b'L', b'F', class, order, 1]);
        out.bytes.extend([0; 9]);
        out.half(2).half(self.number).word(1).address(base + header + program).address(header);
        out.address(0).word(self.flags);
        for half in [header, program, 1, 0, 0, 0] {
            out.half(u16::try_from(half).expect("because headers are short"));
        }
        let readable_and_executable = 5;
        out.word(1);
        if self.wide {
            out.word(readable_and_executable);
        }
        out.address(0).address(base).address(base).address(size).address(size);
        if !self.wide {
            out.word(readable_and_executable);
        }
        out.address(0x1_0000);
        out.bytes.extend(self.code);
        out.bytes
    }

    /// The handler for these programs that has no flag F, where handlers can be listed.
    fn unfixed_handler(&self) -> Option<String> {
        let program = self.program();
        for entry in fs::read_dir(REGISTRY).ok()? {
            let entry = entry.ok()?;
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            if let Some(handler) = Handler::parse(&text).filter(|handler| handler.takes(&program)) {
                let name = || entry.file_name().to_string_lossy().into_owned();
                return (!handler.fixed).then(name);
            }
        }
        None
    }
}

/// Executes it, and waits.
fn run(path: &Path) -> io::Result<Tried> {
    let mut attempts = 0;
    loop {
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
        match command.status() {
            Ok(status) if status.success() => return Ok(Tried::Ran),
            Ok(status) => return Ok(Tried::Failed(status.to_string())),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::TXTBSY) => {
                attempts += 1;
                if attempts > BUSY_RETRIES {
                    return Err(error);
                }
                thread::sleep(BUSY_WAIT);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Numbers in a machine's order.
struct Out<'a> {
    bytes: Vec<u8>,
    machine: &'a Machine,
}

impl Out<'_> {
    fn half(&mut self, value: u16) -> &mut Self {
        self.number(u64::from(value), 2)
    }

    fn word(&mut self, value: u32) -> &mut Self {
        self.number(u64::from(value), 4)
    }

    fn address(&mut self, value: u64) -> &mut Self {
        self.number(value, if self.machine.wide { 8 } else { 4 })
    }

    fn number(&mut self, value: u64, width: usize) -> &mut Self {
        if self.machine.big_endian {
            self.bytes.extend(&value.to_be_bytes()[8 - width..]);
        } else {
            self.bytes.extend(&value.to_le_bytes()[..width]);
        }
        self
    }
}

/// A handler as the kernel lists it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Handler {
    magic: Vec<u8>,
    mask: Vec<u8>,
    offset: usize,
    fixed: bool,
}

impl Handler {
    /// `None` for what goes by names of files, or is switched off.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some("enabled") {
            return None;
        }
        let mut handler = Self::default();
        for line in lines {
            match line.split_once(' ') {
                Some(("flags:", flags)) => handler.fixed = flags.contains('F'),
                Some(("offset", offset)) => handler.offset = offset.parse().ok()?,
                Some(("magic", hex)) => handler.magic = bytes(hex)?,
                Some(("mask", hex)) => handler.mask = bytes(hex)?,
                _ => {}
            }
        }
        (!handler.magic.is_empty()).then_some(handler)
    }

    fn takes(&self, program: &[u8]) -> bool {
        let Some(head) = program.get(self.offset..self.offset + self.magic.len()) else {
            return false;
        };
        let mask = |at: usize| self.mask.get(at).copied().unwrap_or(0xff);
        head.iter().zip(&self.magic).enumerate().all(|(at, (a, b))| (a ^ b) & mask(at) == 0)
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_this_machine_run() {
        let native = Machine::of_this().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(native.try_in(scratch.path()), Tried::Ran);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        assert_eq!(can_run("linux", native.architecture, scratch.path()), Ok(()));
        let other = can_run("windows", native.architecture, scratch.path());
        assert_eq!(other, Err(ForeignError::System { os: "windows".into() }));
    }

    /// Each program is what its emulator runs to its end; machines without emulators skip this.
    #[test]
    fn programs_are_valid_for_their_processors() {
        let scratch = tempfile::tempdir().unwrap();
        let mut tried = 0;
        for machine in &MACHINES {
            let path = scratch.path().join(machine.architecture);
            machine.write(&path).unwrap();
            let emulator = Command::new(machine.handler).arg(&path).status();
            let Ok(status) = emulator else { continue };
            assert!(status.success(), "{}: {status}", machine.architecture);
            tried += 1;
        }
        println!("{tried} of {} processors", MACHINES.len());
    }

    #[test]
    fn handlers_are_understood() {
        let arm64 = MACHINES.iter().find(|machine| machine.architecture == "arm64").unwrap();
        let text = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\n\
                    offset 0\nmagic 7f454c460201010000000000000000000200b700\n\
                    mask ffffffffffffff00fffffffffffffffffeffffff\n";
        let handler = Handler::parse(text).unwrap();
        assert!(handler.fixed && handler.takes(&arm64.program()));
        assert!(
            !handler.takes(&Machine::of_this().unwrap().program()) || cfg!(target_arch = "aarch64")
        );
        assert!(!Handler::parse(&text.replace("POCF", "PO")).unwrap().fixed);
        assert_eq!(Handler::parse(&text.replace("enabled", "disabled")), None);
        assert_eq!(Handler::parse("enabled\ninterpreter /x\nflags: \nextension .x\n"), None);
        assert_eq!(Handler::parse("enabled\nmagic zz\n"), None);
    }
}
