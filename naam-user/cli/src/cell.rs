//! A Cell tree as its owner has it: the region that holds it, and the lock that makes one process its owner.

use naam_cell::{CellError, Options, Tree};
use naam_control::Name;
use naam_handlers::cell::layout::MAGIC;
use naam_loader::Options as Instance;
use naam_region::{Memory, Ownership, Region, Regions};

use crate::control::Daemon;
use crate::failure::Failure;
use crate::mica;
use crate::options::Global;

/// An app's first region, where its tree stands.
#[derive(Debug)]
pub struct Place {
    /// The app.
    pub app: Name,
    /// The region's name.
    pub name: Name,
    region: Region,
}

/// A tree in the hands of this process.
#[derive(Debug)]
pub struct Owned {
    /// The tree.
    pub tree: Tree<Memory>,
    _ownership: Ownership,
}

impl Place {
    /// The first region of the app.
    pub fn find(global: &Global, app: &Name) -> anyhow::Result<Self> {
        let name = mica::region(&mut Daemon::connect(global)?, app)?;
        let pins = Instance::instance(global.instance.as_str()).pins;
        let region = Regions::new(pins).open(app.as_str(), name.as_str())?;
        let place = Self { app: app.clone(), name, region };
        if place.region.is_torn() {
            let failure = place.failure("use", "restoring it was interrupted: it holds parts of two states");
            let (app, name) = (&place.app, &place.name);
            let way_out = format!("restore it, or take it as it is: naam region accept {app} {name}");
            return Err(failure.way_out(way_out).into());
        }
        Ok(place)
    }

    /// Bytes of the region.
    pub fn bytes(&self) -> u64 {
        self.region.bytes()
    }

    /// How the region is called.
    pub fn object(&self) -> String {
        format!("region `{}/{}`", self.app, self.name)
    }

    /// A failure of something done to the region.
    pub fn failure(&self, operation: &str, cause: impl ToString) -> Failure {
        Failure::new(operation, self.object(), cause)
    }

    /// The region's pages, to read beside its owner.
    pub fn map(&self) -> anyhow::Result<Memory> {
        Ok(self.region.map()?)
    }

    fn own(&self) -> anyhow::Result<(Ownership, Memory)> {
        Ok((self.region.own()?, self.region.map()?))
    }

    /// Makes the region an empty tree of this process. Where it holds something else than zeros, or a tree that may not be
    /// lost (`keep_tree`), only if `force` says so.
    pub fn format(&self, keep_tree: bool, force: bool) -> anyhow::Result<Owned> {
        let (ownership, memory) = self.own()?;
        let what = match memory.load(0)? {
            0 => None,
            MAGIC => keep_tree.then_some("there is one already"),
            _ => Some("it holds something else"),
        };
        if let Some(what) = what.filter(|_| !force) {
            return Err(self.failure("make a tree in", what).way_out("--force makes an empty one of it").into());
        }
        let tree = Tree::format(memory, Options::default()).map_err(|error| self.failure("make a tree in", error))?;
        Ok(Owned { tree, _ownership: ownership })
    }

    /// Takes over the tree that the region holds; reads and checks all of it.
    pub fn open(&self) -> anyhow::Result<Owned> {
        let (ownership, memory) = self.own()?;
        let tree = Tree::open(memory, Options::default()).map_err(|error| {
            let failure = self.failure("use", &error);
            match error {
                CellError::NoTree { .. } => failure.way_out(self.to_format()),
                _ => failure,
            }
        })?;
        Ok(Owned { tree, _ownership: ownership })
    }

    /// The command that makes a tree.
    pub fn to_format(&self) -> String {
        to_format(&self.app)
    }
}

/// The command that makes a tree for an app.
pub fn to_format(app: &Name) -> String {
    format!("naam cell format --app {app}")
}
