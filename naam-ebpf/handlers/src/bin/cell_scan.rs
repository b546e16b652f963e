//! Handler object `cell_scan`: see [`naam_handlers::cell`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use naam_handlers::cell;

naam_handler::handler! {
    name = cell_scan, view = View1k, writes = false, reply_max = cell::SCAN_REPLY_MAX, state_len = cell::STATE_LEN, step = cell::scan
}
