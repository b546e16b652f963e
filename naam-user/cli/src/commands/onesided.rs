//! One-sided operations of `naam call`: `read`, `write`, `cas` and `faa` at a place of a region.

use clap::Args;
use naam_abi::onesided::{self, HEAD_BYTES, READ_BYTES_MAX, WRITE_BYTES_MAX};
use naam_client::onesided::Region;
use naam_control::Name;
use naam_control::protocol::session::{RegionRights, Rights};

use super::call::number;
use crate::failure::Failure;

/// Where a one-sided operation goes, and its words.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "One-sided operations")]
pub struct Place {
    /// The region
    #[arg(long)]
    region: Option<Name>,
    /// Byte of the region, a multiple of 8
    #[arg(long, requires = "region", default_value = "0", value_name = "N", value_parser = number)]
    offset: u64,
    /// read: bytes, a multiple of 8, at most 1024
    #[arg(long, requires = "region", default_value_t = 8, value_name = "N")]
    len: u32,
    /// cas: the word that must be there
    #[arg(long, requires = "region", default_value = "0", value_name = "N", value_parser = number)]
    expect: u64,
    /// cas: the new word
    #[arg(long, requires = "region", default_value = "0", value_name = "N", value_parser = number)]
    new: u64,
    /// faa: what to add
    #[arg(long, requires = "region", default_value = "1", value_name = "N", value_parser = number)]
    addend: u64,
}

/// A one-sided operation.
#[derive(Debug)]
pub struct Operation {
    number: u16,
    region: Name,
    place: Place,
}

impl Place {
    /// The operation, if a region was named.
    ///
    /// # Errors
    /// If `name` is no operation.
    pub fn operation(&self, name: &str) -> Result<Option<Operation>, Failure> {
        let Some(region) = self.region.clone() else { return Ok(None) };
        let number = match name {
            "read" => onesided::READ,
            "write" => onesided::WRITE,
            "cas" => onesided::CAS,
            "faa" => onesided::FAA,
            _ => {
                let cause = "with --region there are read, write, cas and faa";
                return Err(Failure::new("perform", format!("one-sided operation `{name}`"), cause));
            }
        };
        Ok(Some(Operation { number, region, place: self.clone() }))
    }
}

impl Operation {
    /// The region.
    pub fn region(&self) -> &Name {
        &self.region
    }

    /// The built-in function.
    pub fn function(&self) -> &'static str {
        onesided::NAMES[usize::from(self.number)]
    }

    /// The raw right that it takes.
    pub fn rights(&self) -> RegionRights {
        let raw = match self.number {
            onesided::READ => Rights { read: true, ..Rights::NONE },
            onesided::WRITE => Rights { write: true, ..Rights::NONE },
            _ => Rights { atomic: true, ..Rights::NONE },
        };
        RegionRights { region: self.region.clone(), handler: Rights::NONE, raw }
    }

    /// The function's arguments, and room for its reply. `bytes` is what a WRITE writes.
    ///
    /// # Errors
    /// If there are more bytes than an operation takes, or bytes for another than a WRITE.
    pub fn arguments(&self, region: Region, bytes: &[u8]) -> Result<(Vec<u8>, Option<u16>), Failure> {
        let Place { offset, len, expect, new, addend, .. } = self.place;
        let refused =
            |cause: String| Failure::new("perform", format!("one-sided operation `{}`", self.function()), cause);
        if self.number != onesided::WRITE && !bytes.is_empty() {
            return Err(refused("only `write` takes bytes".to_owned()));
        }
        match self.number {
            onesided::READ if len as usize > READ_BYTES_MAX => {
                Err(refused(format!("{len} bytes; at most {READ_BYTES_MAX} are read at once")))
            }
            onesided::READ => Ok((onesided::read_args(region.index, offset, len).to_vec(), Some(len as u16))),
            onesided::WRITE => {
                let mut args = vec![0; HEAD_BYTES + bytes.len()];
                let fits = onesided::write_args(region.index, offset, bytes, &mut args).is_some();
                let cause = format!("{} bytes; at most {WRITE_BYTES_MAX} are written at once", bytes.len());
                if fits { Ok((args, Some(0))) } else { Err(refused(cause)) }
            }
            onesided::CAS => Ok((onesided::cas_args(region.index, offset, expect, new).to_vec(), Some(8))),
            _ => Ok((onesided::faa_args(region.index, offset, addend).to_vec(), Some(8))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(region: Option<&str>) -> Place {
        let region = region.map(|name| Name::new(name).unwrap());
        Place { region, offset: 64, len: 16, expect: 3, new: 4, addend: 5 }
    }

    #[test]
    fn operations_become_calls_with_the_right_they_take() {
        assert!(place(None).operation("read").unwrap().is_none());
        assert!(place(Some("r")).operation("echo").unwrap_err().to_string().contains("read, write, cas and faa"));
        let region = Region { index: 2 };
        let made = |name: &str, bytes: &[u8]| {
            let operation = place(Some("r")).operation(name).unwrap().unwrap();
            (operation.function(), operation.rights().raw.bits(), operation.arguments(region, bytes))
        };
        let read = onesided::read_args(2, 64, 16).to_vec();
        assert_eq!(made("read", &[]), ("naam_read", 1, Ok((read, Some(16)))));
        assert_eq!(made("write", &[1; 8]).2.unwrap().0.len(), 24);
        let cas = onesided::cas_args(2, 64, 3, 4).to_vec();
        assert_eq!(made("cas", &[]), ("naam_cas", 4, Ok((cas, Some(8)))));
        assert_eq!(made("faa", &[]).2, Ok((onesided::faa_args(2, 64, 5).to_vec(), Some(8))));
        assert!(made("faa", &[1]).2.is_err() && made("write", &[0; 1001]).2.is_err());
        let long = Place { len: 2048, ..place(Some("r")) }.operation("read").unwrap().unwrap();
        assert!(long.arguments(region, &[]).is_err());
    }
}
