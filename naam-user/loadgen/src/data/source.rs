//! A data file as a source of inserts: each pair once, as the runner can take it.

use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};

use super::{DataError, DataReader};
use crate::records::VERSION_LOADED;
use crate::source::{Next, Request, Source};
use crate::table::KeyTable;
use crate::workload::OpKind;

/// Inserts the pairs of a file whose keys are in a [`KeyTable`] already (the file is read twice, so that memory
/// holds the keys only). For one thread.
///
/// Of several pairs of a key only the last value is written: writes in flight at the same time may overtake each
/// other. An error of the file ends the source; [`FileSource::outcome`] says which.
pub struct FileSource<R> {
    reader: DataReader<R>,
    table: Arc<KeyTable>,
    key: Vec<u8>,
    value: Vec<u8>,
    outcome: Arc<Mutex<Option<DataError>>>,
}

impl<R: BufRead> FileSource<R> {
    /// The pairs that `reader` reads; `table` is what [`DataReader::into_table`] made of the same file.
    pub fn new(reader: DataReader<R>, table: Arc<KeyTable>) -> Self {
        Self { reader, table, key: Vec::new(), value: Vec::new(), outcome: Arc::default() }
    }

    /// Where the error that ended the source will be.
    pub fn outcome(&self) -> Arc<Mutex<Option<DataError>>> {
        self.outcome.clone()
    }
}

impl<R: BufRead> Source for FileSource<R> {
    fn next(&mut self) -> Next {
        loop {
            let pair = match self.reader.next_pair() {
                Ok(Some(pair)) => pair,
                Ok(None) => return Next::End,
                Err(error) => {
                    *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return Next::End;
                }
            };
            // A key the table lacks means that the file changed in between; it is not this table's record.
            let Some(record) = self.table.record(pair.key) else { continue };
            if self.table.loaded_value_is(record, pair.value) {
                self.key.clear();
                self.key.extend_from_slice(pair.key);
                self.value.clear();
                self.value.extend_from_slice(pair.value);
                return Next::Op(Request { kind: OpKind::Insert, record, version: VERSION_LOADED, records: 1 });
            }
        }
    }

    fn key(&mut self, _record: u64, out: &mut Vec<u8>) {
        out.clone_from(&self.key);
    }

    fn value(&mut self, _request: &Request, out: &mut Vec<u8>) {
        out.clone_from(&self.value);
    }

    fn holds(&self, record: u64, value: &[u8]) -> bool {
        self.table.loaded_value_is(record, value)
    }
}
