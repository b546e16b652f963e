//! Handler object `cell_get`: see [`naam_handlers::cell`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use naam_handlers::cell;

naam_handler::handler! {
    name = cell_get, view = View1k, writes = false, reply_max = cell::GET_REPLY_MAX, state_len = cell::STATE_LEN, step = cell::get
}
