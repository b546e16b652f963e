//! Handler object `naam_read`: see [`naam_handlers::onesided`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use naam_handlers::onesided;

naam_handler::handler! {
    name = naam_read, view = View1k, writes = false, reply_max = onesided::READ_REPLY_MAX, state_len = 8, step = onesided::read
}
