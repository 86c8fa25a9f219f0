//! The files of the log, as raft-engine is given them: a failed sync ends the process here.
//!
//! raft-engine panics when a sync fails, without naming the file. Nothing can go on after that: the kernel reports once
//! that it could not write a page, and may drop the page, so only a restart finds out what is on disk. Here the process
//! ends with the path, the error and a remedy before raft-engine can panic. Other failures are returned, with the error
//! number that raft-engine leaves out.

use super::LogError;
use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission, WriteExt};
use rusd_messages::fatal;
use std::io::{Error, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type EngineHandle = <DefaultFileSystem as FileSystem>::Handle;
type EngineReader = <DefaultFileSystem as FileSystem>::Reader;
type EngineWriter = <DefaultFileSystem as FileSystem>::Writer;

/// See the module.
pub(crate) struct LogFiles;

/// An open file of the log.
pub(crate) struct LogFile {
    path: PathBuf,
    file: Arc<EngineHandle>,
}

/// The end of a file of the log.
pub(crate) struct LogFileWriter(EngineWriter);

impl LogFile {
    fn new(path: &Path, file: Result<EngineHandle>) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(numbered(file)?),
        })
    }
}

impl FileSystem for LogFiles {
    type Handle = LogFile;
    type Reader = EngineReader;
    type Writer = LogFileWriter;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<LogFile> {
        LogFile::new(path.as_ref(), DefaultFileSystem.create(&path))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> Result<LogFile> {
        LogFile::new(path.as_ref(), DefaultFileSystem.open(&path, permission))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        DefaultFileSystem.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> Result<()> {
        DefaultFileSystem.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<LogFile>) -> Result<EngineReader> {
        DefaultFileSystem.new_reader(handle.file.clone())
    }

    fn new_writer(&self, handle: Arc<LogFile>) -> Result<LogFileWriter> {
        DefaultFileSystem
            .new_writer(handle.file.clone())
            .map(LogFileWriter)
    }
}

impl Handle for LogFile {
    fn truncate(&self, offset: usize) -> Result<()> {
        numbered(self.file.truncate(offset))
    }

    fn file_size(&self) -> Result<usize> {
        numbered(self.file.file_size())
    }

    fn sync(&self) -> Result<()> {
        numbered(self.file.sync()).map_err(|source| {
            let error = LogError::Io {
                action: "sync",
                path: self.path.clone(),
                source,
            };
            fatal("writing the log", &error)
        })
    }
}

impl Write for LogFileWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        numbered(self.0.write(bytes))
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

impl Seek for LogFileWriter {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.0.seek(to)
    }
}

impl WriteExt for LogFileWriter {
    fn truncate(&mut self, offset: usize) -> Result<()> {
        numbered(self.0.truncate(offset))
    }

    fn allocate(&mut self, offset: usize, bytes: usize) -> Result<()> {
        self.0.allocate(offset, bytes)
    }
}

/// The error as the operating system says it: raft-engine keeps its kind and puts the name of the call in place of the
/// number, which the thread still has.
fn numbered<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        let last = Error::last_os_error();
        if error.raw_os_error().is_none() && last.kind() == error.kind() {
            last
        } else {
            error
        }
    })
}
