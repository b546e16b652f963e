//! Files of regions: save, restore, load.
//!
//! These functions block. They run io_uring on a thread of their own, so that they may be called
//! from anywhere, an async runtime's blocking thread included.

use std::fs;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::time::SystemTime;

use crate::file::{Temporary, regular};
use crate::format::{self, CHUNK_BYTES, Chunk, HEADER_BYTES, Header};
use crate::uring::{Reader, Writer, run};
use crate::{AccessError, Memory, Region, RegionError};

/// How far an operation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done in this stage.
    pub done: u64,
    /// Bytes of this stage.
    pub total: u64,
}

/// A pass over a file or region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The region is copied to the file.
    Save,
    /// The file's checksums are compared; the region is untouched.
    Verify,
    /// The file is copied to the region.
    Copy,
}

/// Called after every chunk.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);

impl Region {
    /// Saves the region to `path`: into a temporary file beside it, which takes the name when it is
    /// complete and on the medium. A file of that name is replaced, anything else is refused. Where the file system can,
    /// the temporary file has no name, so that nothing stays of a save that is killed. Chunks of zeros take no room.
    /// Returns what was written.
    ///
    /// Every word is whole; the snapshot as such is not an instant: stop the app's writers first
    /// where its data structures need that.
    pub fn save(&self, path: &Path, progress: OnProgress<'_>) -> Result<Header, RegionError> {
        let memory = self.map()?;
        let (temporary, file) = Temporary::beside(path)?;
        let header = Header {
            bytes: self.bytes(),
            saved: SystemTime::now(),
            app: self.app().to_owned(),
            region: self.name().to_owned(),
            chunks: Vec::new(),
        };
        let header = run(|| write_chunks(&memory, Writer::new(file, path), header, progress))?;
        temporary.publish(path)?;
        Ok(header)
    }

    /// Restores the region from `path`. The whole file is verified before the first byte of the
    /// region changes. What ends the process while it changes, or a file that changes meanwhile, leaves
    /// a mixture: [`Region::is_torn`] tells, until it is restored again or [accepted](Region::accept).
    ///
    /// Stop the app's writers first, and end its sessions afterwards: what they had begun is gone.
    pub fn restore(&self, path: &Path, progress: OnProgress<'_>) -> Result<Header, RegionError> {
        let (header, file) = open(path)?;
        if header.bytes != self.bytes() {
            return Err(RegionError::SizeMismatch {
                path: path.to_owned(),
                snapshot_bytes: header.bytes,
                region: self.name().to_owned(),
                region_bytes: self.bytes(),
            });
        }
        let memory = self.map()?;
        run(|| read_chunks(self, &memory, Reader::new(file, path), &header, path, progress))?;
        self.accept()?;
        Ok(header)
    }

    /// Copies a plain file's bytes to `offset`, a multiple of 8. Refuses a file that does not fit
    /// before the first byte changes. Returns the bytes copied.
    pub fn load_file(&self, path: &Path, offset: u64, progress: OnProgress<'_>) -> Result<u64, RegionError> {
        let (file, len) = open_file(path)?;
        if !offset.is_multiple_of(8) {
            return Err(AccessError::Unaligned { offset, len }.into());
        }
        if offset.checked_add(len).is_none_or(|end| end > self.bytes()) {
            let (region, bytes) = (self.name().to_owned(), self.bytes());
            return Err(RegionError::DoesNotFit { path: path.to_owned(), len, offset, region, bytes });
        }
        let memory = self.map()?;
        run(|| copy_plain(&memory, Reader::new(file, path), offset, len, progress))?;
        Ok(len)
    }
}

/// Reads what a snapshot says of itself, and checks that the file is as long as it must be. The
/// chunks themselves are not read.
pub fn read_header(path: &Path) -> Result<Header, RegionError> {
    Ok(open(path)?.0)
}

/// Reads a whole snapshot into memory: for looking at it where there is no kernel region. Every chunk is checked.
///
/// # Errors
/// As [`read_header`], and a chunk that is not what was saved.
pub fn read(path: &Path) -> Result<(Header, Vec<u8>), RegionError> {
    let (header, mut file) = open(path)?;
    let mut bytes = vec![0; header.bytes as usize];
    file.seek(io::SeekFrom::Start(format::data_offset(header.bytes))).map_err(RegionError::file("read", path))?;
    for (number, (chunk, to)) in (0..).zip(header.chunks.iter().zip(bytes.chunks_exact_mut(CHUNK_BYTES as usize))) {
        if let Chunk::Stored(crc) = chunk {
            file.read_exact(to).map_err(RegionError::file("read", path))?;
            if format::crc(number, to) != *crc {
                let chunks = header.chunks.len() as u64;
                return Err(RegionError::CorruptChunk { path: path.to_owned(), chunk: number, chunks });
            }
        }
    }
    Ok((header, bytes))
}

/// Opens a file for reading, with its length. What is no regular file has none.
fn open_file(path: &Path) -> Result<(fs::File, u64), RegionError> {
    regular(&fs::metadata(path).map_err(RegionError::file("open", path))?, path)?;
    let file = fs::File::open(path).map_err(RegionError::file("open", path))?;
    let metadata = file.metadata().map_err(RegionError::file("read the length of", path))?;
    regular(&metadata, path)?;
    Ok((file, metadata.len()))
}

fn open(path: &Path) -> Result<(Header, fs::File), RegionError> {
    let refuse = |reason| RegionError::Format { path: path.to_owned(), reason };
    let (mut file, len) = open_file(path)?;
    let mut head = Vec::new();
    let mut read = |upto: u64, head: &mut Vec<u8>| {
        let missing = upto - head.len() as u64;
        (&mut file).take(missing).read_to_end(head).map_err(RegionError::file("read", path))
    };
    read(HEADER_BYTES, &mut head)?;
    let bytes = Header::peek(&head).map_err(refuse)?;
    read(format::head_bytes(bytes), &mut head)?;
    let header = Header::decode(&head).map_err(refuse)?;
    if len != header.file_bytes() {
        return Err(refuse(format!("it has {len} bytes and should have {}", header.file_bytes())));
    }
    Ok((header, file))
}

async fn write_chunks(
    memory: &Memory,
    mut writer: Writer<'_>,
    mut header: Header,
    progress: OnProgress<'_>,
) -> Result<Header, RegionError> {
    let total = memory.bytes();
    let mut position = format::data_offset(total);
    let mut bytes = Vec::new();
    for number in 0..total / CHUNK_BYTES {
        bytes.resize(CHUNK_BYTES as usize, 0);
        memory.copy_out(number * CHUNK_BYTES, &mut bytes)?;
        let chunk = Chunk::of(number, &bytes);
        header.chunks.push(chunk);
        if chunk != Chunk::Zero {
            bytes = writer.write(bytes, position).await?;
            position += CHUNK_BYTES;
        }
        progress(Progress { stage: Stage::Save, done: (number + 1) * CHUNK_BYTES, total });
    }
    // The table is known only now. Padding it makes the file long enough even without a chunk.
    let mut head = header.encode();
    head.resize(format::data_offset(total) as usize, 0);
    writer.write(head, 0).await?;
    writer.finish().await?;
    Ok(header)
}

async fn read_chunks(
    region: &Region,
    memory: &Memory,
    reader: Reader<'_>,
    header: &Header,
    path: &Path,
    progress: OnProgress<'_>,
) -> Result<(), RegionError> {
    let stored: Vec<(u64, u32)> = (0..)
        .zip(&header.chunks)
        .filter_map(|(number, chunk)| match chunk {
            Chunk::Zero => None,
            Chunk::Stored(crc) => Some((number, *crc)),
        })
        .collect();
    let total = stored.len() as u64 * CHUNK_BYTES;
    let pieces = || {
        (0..stored.len() as u64)
            .map(|rank| (format::data_offset(header.bytes) + rank * CHUNK_BYTES, CHUNK_BYTES as usize))
    };

    let mut done = 0;
    let mut expected = stored.iter();
    let verify = |bytes: &[u8]| {
        let (number, crc) = *expected.next().expect("as many pieces as stored chunks");
        if format::crc(number, bytes) != crc {
            let chunks = header.chunks.len() as u64;
            return Err(RegionError::CorruptChunk { path: path.to_owned(), chunk: number, chunks });
        }
        done += CHUNK_BYTES;
        progress(Progress { stage: Stage::Verify, done, total });
        Ok(())
    };
    reader.each(pieces(), verify).await?;

    // Whatever ends this from here on leaves parts of two states, and says so.
    region.mark_torn()?;
    let zeros = vec![0; CHUNK_BYTES as usize];
    for (number, _) in (0..).zip(&header.chunks).filter(|(_, chunk)| **chunk == Chunk::Zero) {
        memory.copy_in(number * CHUNK_BYTES, &zeros)?;
    }
    let mut done = 0;
    let mut expected = stored.iter();
    let copy = |bytes: &[u8]| {
        let (number, crc) = *expected.next().expect("as many pieces as stored chunks");
        if format::crc(number, bytes) != crc {
            return Err(RegionError::ChangedWhileRestored { path: path.to_owned(), chunk: number });
        }
        memory.copy_in(number * CHUNK_BYTES, bytes)?;
        done += CHUNK_BYTES;
        progress(Progress { stage: Stage::Copy, done, total });
        Ok(())
    };
    reader.each(pieces(), copy).await
}

async fn copy_plain(
    memory: &Memory,
    reader: Reader<'_>,
    offset: u64,
    len: u64,
    progress: OnProgress<'_>,
) -> Result<(), RegionError> {
    // Pieces end at multiples of their length in the region, and so at the ends of map values.
    let mut position = 0;
    let pieces = std::iter::from_fn(|| {
        let until = ((offset + position) / CHUNK_BYTES + 1) * CHUNK_BYTES - offset;
        let piece = (position, (until.min(len) - position) as usize);
        position += piece.1 as u64;
        (piece.1 > 0).then_some(piece)
    });
    let mut at = offset;
    let copy = |bytes: &[u8]| {
        let whole = bytes.len() / 8 * 8;
        memory.copy_in(at, &bytes[..whole])?;
        if whole < bytes.len() {
            // The file ends within a word: the word's other bytes stay.
            let last = at + whole as u64;
            let mut word = memory.load(last)?.to_ne_bytes();
            word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            memory.store(last, u64::from_ne_bytes(word))?;
        }
        at += bytes.len() as u64;
        progress(Progress { stage: Stage::Copy, done: at - offset, total: len });
        Ok(())
    };
    reader.each(pieces, copy).await
}
