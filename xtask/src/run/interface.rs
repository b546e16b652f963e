//! Serving on a real interface.

use std::path::Path;

use anyhow::{Result, bail};

use super::{
    child::{Interrupt, Interrupted},
    config::Store,
    daemon::{self, Daemon},
    instance::Instance,
    options::Options,
    write_config,
};

/// Serves the store on `interface` until a signal comes, or with `--keep` until `cargo xtask run --stop`.
///
/// # Errors
/// When it cannot be served, or the daemon ends by itself.
pub fn serve(naam: &Path, objects: &Path, interface: &str, store: Store, options: &Options) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let instance = Instance::create()?;
    let config = write_config(&instance, interface, objects, store, options)?;
    let daemon = Daemon::start(naam, None, &instance, &config, &interrupt)?;
    let attachment = daemon.attachment()?;
    println!("{:10} {interface} at {}: {}", "served", attachment.hook, attachment.reason);
    daemon.format(store)?;
    println!("{:10} {store}", "store");
    match options.control {
        Some(address) => println!("{:10} clients open sessions at {address}", "control"),
        None => println!("{:10} this machine only; --control ADDRESS:PORT opens it to others", "control"),
    }
    println!("{:10} {} --instance {} status", "look", naam.display(), instance.name());
    println!("{:10} {}", "log", daemon::log(&instance).display());
    if options.keep {
        println!("{:10} cargo xtask run --stop", "end");
        daemon.keep();
        return instance.keep();
    }
    println!("{:10} Ctrl-C", "end");
    match daemon.wait(&interrupt) {
        Ok(status) => bail!("the daemon has ended ({status})"),
        Err(error) if error.is::<Interrupted>() => {
            println!("ended; {interface} is as before");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
