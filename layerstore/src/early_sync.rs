//! Large files go to the disk while they are still being written.
//!
//! The sync at the end of a command waits for everything that is new, and until then nothing of it need
//! have left memory: a kernel begins to write seconds after the bytes came. So whoever writes much has
//! some of it written early, on a thread of its own.
//!
//! *Invariant:* this only shortens the sync at the end, and what fails here fails that one: the error is
//! kept until [`EarlySync::result`] gives it to whoever syncs.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use rustix::fs::{Advice, fadvise};

/// How much of a file is new when it is sent to the disk: what a disk takes in a fraction of a second, and
/// enough that its journal is not written all the time.
const SYNC_BYTES: u64 = 32 << 20;

/// The thread that waits for the disk, once there is a large file.
#[derive(Debug, Default)]
pub(crate) struct EarlySync {
    files: OnceLock<SyncSender<OnItsWay>>,
    under_way: Arc<UnderWay>,
}

/// A file of which a part is new.
#[derive(Debug)]
struct OnItsWay {
    file: File,
    is_read_soon: bool,
}

/// What the thread has not done yet, and what went wrong.
#[derive(Debug, Default)]
struct UnderWay {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: usize,
    failed: Option<io::Error>,
}

impl EarlySync {
    /// Sends what there is of `file` to the disk, unless the last one is still on its way.
    fn begin(&self, file: &File, is_read_soon: bool) {
        let files = self.files.get_or_init(|| {
            // One may wait: where there is none yet, the thread is only beginning.
            let (files, todo) = sync_channel(1);
            let under_way = Arc::clone(&self.under_way);
            std::thread::spawn(move || sync_all(&todo, &under_way));
            files
        });
        // Where there is no descriptor to spare or the disk is behind, the sync at the end does it.
        let Ok(file) = file.try_clone() else { return };
        let mut state = self.under_way.state();
        if files.try_send(OnItsWay { file, is_read_soon }).is_ok() {
            state.files += 1;
        }
    }

    /// Waits for what is on its way, and gives the first error since this was asked last.
    pub(crate) fn result(&self) -> io::Result<()> {
        let mut state = self.under_way.state();
        while state.files > 0 {
            state = self.under_way.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.failed.take().map_or(Ok(()), Err)
    }
}

impl UnderWay {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sync_all(files: &Receiver<OnItsWay>, under_way: &UnderWay) {
    for OnItsWay { file, is_read_soon } in files {
        let synced = file.sync_data();
        if !is_read_soon {
            // Advice, which may be refused.
            fadvise(&file, 0, None, Advice::DontNeed).unwrap_or_default();
        }
        let mut state = under_way.state();
        state.files -= 1;
        state.failed = state.failed.take().or(synced.err());
        under_way.done.notify_all();
    }
}

/// A file that may become large.
#[derive(Debug)]
pub(crate) struct LargeFile {
    file: File,
    early: Arc<EarlySync>,
    /// Bytes that were written since it was sent to the disk.
    new: u64,
    is_read_soon: bool,
}

impl LargeFile {
    pub(crate) fn new(file: File, early: Arc<EarlySync>) -> LargeFile {
        LargeFile { file, early, new: 0, is_read_soon: true }
    }

    /// One that nobody will read soon: what is on the disk of it does not stay in memory, where what is
    /// written next takes its place. In a virtual machine memory that was not used for long is slow to get.
    pub(crate) fn not_read_soon(self) -> LargeFile {
        LargeFile { is_read_soon: false, ..self }
    }

    pub(crate) fn as_file(&mut self) -> &mut File {
        &mut self.file
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }

    pub(crate) fn write_all_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        self.written(bytes.len());
        Ok(())
    }

    fn written(&mut self, count: usize) {
        self.new += count as u64;
        if self.new >= SYNC_BYTES {
            self.new = 0;
            self.early.begin(&self.file, self.is_read_soon);
        }
    }
}

impl Write for LargeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_all_there_and_an_error_is_told_once() {
        let early = Arc::new(EarlySync::default());
        let mut large = LargeFile::new(tempfile::tempfile().unwrap(), Arc::clone(&early));
        for _ in 0..3 {
            large.write_all(&vec![1; SYNC_BYTES as usize / 2 + 1]).unwrap();
        }
        assert_eq!((large.new, early.files.get().is_some()), (SYNC_BYTES / 2 + 1, true));
        assert_eq!(large.as_file().metadata().unwrap().len(), SYNC_BYTES / 2 * 3 + 3);
        early.result().unwrap();
        // Nothing can be synced through a pipe.
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        early.begin(&File::from(writer), true);
        early.result().unwrap_err();
        early.result().unwrap();
    }
}
