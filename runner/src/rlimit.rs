//! Resource limits of a program.

use rustix::io::Errno;
use rustix::process::{Resource as Kind, Rlimit, getrlimit, setrlimit};

use crate::error::{Action, Note, SetupError};
use crate::protocol::Limit;
use crate::spec::Resource;

/// Sets the limits of this process.
pub(crate) fn apply(limits: &[Limit]) -> Result<(), SetupError> {
    for limit in limits {
        let wanted = Rlimit { current: limit.soft, maximum: limit.hard };
        let kind = kind_of(limit.resource);
        if getrlimit(kind) == wanted {
            continue;
        }
        setrlimit(kind, wanted).map_err(|errno| {
            let name = format!("{:?}", limit.resource).to_lowercase();
            let error = SetupError::at(Action::Ulimit, name.as_bytes(), errno);
            if errno == Errno::PERM { error.with_note(Note::HardLimit) } else { error }
        })?;
    }
    Ok(())
}

fn kind_of(resource: Resource) -> Kind {
    match resource {
        Resource::Core => Kind::Core,
        Resource::Cpu => Kind::Cpu,
        Resource::Data => Kind::Data,
        Resource::Fsize => Kind::Fsize,
        Resource::Locks => Kind::Locks,
        Resource::Memlock => Kind::Memlock,
        Resource::Msgqueue => Kind::Msgqueue,
        Resource::Nice => Kind::Nice,
        Resource::Nofile => Kind::Nofile,
        Resource::Nproc => Kind::Nproc,
        Resource::Rss => Kind::Rss,
        Resource::Rtprio => Kind::Rtprio,
        Resource::Rttime => Kind::Rttime,
        Resource::Sigpending => Kind::Sigpending,
        Resource::Stack => Kind::Stack,
    }
}
