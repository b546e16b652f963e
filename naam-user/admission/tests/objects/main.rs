//! Admission of real objects: the corpus, compiled by clang as its authors would.

mod build;
mod honest;
mod hostile;
mod robust;
