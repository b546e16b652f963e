use naam_loader::Hook; use naam_tests::bench::{Bench,region};
fn main(){ let b=Bench::new(Hook::Xdp,std::env::args().nth(2).as_deref()!=Some("loop")); b.app(3); let m=region(2<<20,1); let n=std::env::args().nth(1).unwrap();
 let code=naam_admission::admit(&naam_tests::objects::read(&n)).unwrap();
 let t=std::time::Instant::now();
 match b.datapath.load(&naam_loader::Handler{app:3,function:16,version:1,code:&code,regions:&[&m],hooks:&[Hook::Xdp],log:if std::env::var_os("T").is_some(){naam_sys::program::Log::Trace}else{naam_sys::program::Log::Stats}}) { Ok(l)=>{std::fs::write("/tmp/v.log",&l.logs[0].1).unwrap();println!("ok {:?} {:?}",l.verified_insns,l.load_time)}, Err(naam_loader::LoaderError::Verifier{log,cause,..})=>{ std::fs::write("/tmp/v.log",&log).unwrap(); println!("{cause} {} bytes {:?}",log.len(),t.elapsed()); }, Err(e)=>println!("{e}") } }
