//! The owner's side of the Cell B-tree: the one process that makes a tree in a region, fills it and
//! changes it, while [`naam_handlers::cell`] reads it at any site.
//!
//! ```
//! use naam_cell::{Options, Tree};
//! # let memory = naam_handler::native::Memory::new(&[2 << 20]);
//! # /* any region
//! let memory = region.map()?;
//! # */
//! let mut tree = Tree::format(&memory, Options::default())?;
//! tree.load([("apple", "red"), ("banana", "yellow")])?;
//! tree.insert(b"cherry", b"dark red")?;
//! let mut batch = tree.batch();
//! batch.delete(b"apple")?;
//! batch.insert(b"banana", b"brown")?;
//! batch.commit()?;
//! assert_eq!(tree.get(b"banana")?.as_deref(), Some(&b"brown"[..]));
//! # Ok::<(), naam_cell::CellError>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | `number` | keys, separators and fences as numbers |
//! | `node` | nodes decoded, and encoded with their checks |
//! | `space` | free frames, the quarantine |
//! | `tree` | make, open, publish |
//! | `change` | insert and delete: copies of the path, splits, merges |
//! | `load` | bulk load |
//! | `read` | the owner's own look-ups and scans |
//! | `walk` | everything in the tree: to open it, to verify it |
//!
//! One tree has one owner at a time. An owner that finds another root in the region than its own (a second owner
//! published, or the region was restored under it) changes nothing more and answers
//! [`CellError::ChangedByAnother`]; that is a guard, no lock: two that publish at the very same moment are not told
//! apart.

mod change;
mod error;
mod load;
mod memory;
mod node;
mod number;
mod read;
mod space;
mod tree;
mod walk;

pub use change::Batch;
pub use error::CellError;
pub use memory::Words;
pub use read::Range;
pub use space::Quarantine;
pub use tree::{Options, Tree};
pub use walk::Report;
