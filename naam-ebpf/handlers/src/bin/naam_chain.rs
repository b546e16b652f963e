//! Handler object `naam_chain`: see [`naam_handlers::onesided`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use naam_handlers::onesided;

naam_handler::handler! {
    name = naam_chain, view = View1k, writes = true, reply_max = onesided::CHAIN_REPLY_MAX, state_len = 16, step = onesided::chain
}
