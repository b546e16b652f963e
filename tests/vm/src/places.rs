//! Where descriptions, images and logs are.

use std::path::{Path, PathBuf};

/// The folders of a checkout that matter here.
#[derive(Clone, Debug)]
pub struct Places {
    descriptions: PathBuf,
    target: PathBuf,
}

impl Places {
    /// `vm-images/` of a checkout, and `vm/` in its target folder.
    pub fn new(root: &Path, target: &Path) -> Self {
        Self { descriptions: root.join("vm-images"), target: target.join("vm") }
    }

    /// Those of the checkout that this was compiled in. NAAM_VM_TARGET names another target folder, as `cargo xtask vm`
    /// does.
    pub fn locate() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = std::env::var_os("NAAM_VM_TARGET").map_or_else(|| root.join("target"), PathBuf::from);
        Self::new(&root, &target)
    }

    /// `vm-images/`.
    pub fn descriptions(&self) -> &Path {
        &self.descriptions
    }

    /// `target/vm/`.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The folder of an image.
    pub fn image(&self, name: &str) -> PathBuf {
        self.target.join("images").join(name)
    }

    /// What was found out about a kernel by the test `vm_kernel`.
    pub fn matrix(&self, kernel: &str) -> PathBuf {
        self.target.join("matrix").join(kernel).with_added_extension("json")
    }

    /// The folder of one boot's logs.
    pub fn logs(&self, boot: &str) -> PathBuf {
        self.target.join("logs").join(boot)
    }
}
